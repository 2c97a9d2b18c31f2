"""lossmith next: the most likely next tokens, and what given continuations would cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lossmith.evaluate import Candidate, NextToken, NextTokens

_BAR = 20


@dataclass
class Args:
    """Show the most likely next tokens after a prompt, and what given continuations would cost."""

    run: Positional[Annotated[Path, arg(metavar="RUN")]]
    """Run folder, its model/ folder, or the model/ folder of one of its checkpoints."""
    prompt: Positional[Annotated[str, arg(metavar="PROMPT")]] = ""
    """Text before the next token; empty: the start of a document."""
    top: int = 10
    """How many of the most likely tokens to show."""
    candidates: Annotated[tuple[str, ...], arg(metavar="TEXT [TEXT …]")] = ()
    """Continuations whose cost to show, in nats: --candidates light water fire."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object instead of tables."""


def run(args: Args) -> None:
    """Print what the model expects after the prompt."""
    from lossmith.evaluate import next_tokens
    from lossmith.train.handle import load_run

    trained = load_run(args.run)
    found = next_tokens(trained.model, trained.tokenizer, args.prompt, top=args.top, candidates=args.candidates)
    if args.json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        show(found)


def show(found: NextTokens, console: Console | None = None) -> None:
    """Print the tables of `found`."""
    from rich.console import Console

    from lossmith.pictures.text import visible

    console = console or Console(highlight=False)
    said = f"after “{visible(found.prompt)}”" if found.prompt else "at the start of a document"
    console.print(f"{said}: entropy {found.entropy:.3f} nats", markup=False, style="dim")
    console.print(_top_table(found.top))
    if found.candidates:
        console.print(_candidate_table(found.candidates))
    for text, why in found.unknown.items():
        console.print(f"left out “{visible(text)}”: {why}", markup=False, style="yellow")


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, justify="left" if column in ("token", "continuation", "tokens", "") else "right")
    return table


def _top_table(tokens: Sequence[NextToken]) -> Table:
    from rich.text import Text

    from lossmith.pictures.text import visible

    table = _table("token", "probability", "", "nats", "bits", "id")
    most = max(token.probability for token in tokens) or 1.0
    for token in tokens:
        table.add_row(
            Text(visible(token.text), style="bold"),
            f"{token.probability:.2%}",
            Text(bar(token.probability / most), style="cyan"),
            f"{token.nats:.3f}",
            f"{token.bits:.3f}",
            Text(str(token.id), style="dim"),
        )
    return table


def _candidate_table(candidates: Sequence[Candidate]) -> Table:
    from rich.text import Text

    from lossmith.pictures.text import visible

    # what a continuation is made of is worth a column only where it is more than itself
    parts = any(len(candidate.ids) > 1 for candidate in candidates)
    table = _table("continuation", "probability", "", "nats", *(("nats per token", "tokens") if parts else ()))
    most = max(candidate.probability for candidate in candidates) or 1.0
    for candidate in candidates:
        made_of = Text("·".join(visible(token) for token in candidate.tokens), style="dim")
        table.add_row(
            Text(visible(candidate.text), style="bold"),
            f"{candidate.probability:.3g}",
            Text(bar(candidate.probability / most, 10 if parts else _BAR), style="magenta"),
            f"{candidate.nats:.3f}",
            *((f"{candidate.nats_per_token:.3f}", made_of) if parts else ()),
        )
    return table


def bar(part: float, width: int = _BAR) -> str:
    """Return a bar of `part` of the full width, in eighths of a character.

    >>> bar(1.0) == "█" * 20, bar(0.5 / 20), bar(0.0)
    (True, '▌', '')
    """
    eighths = round(part * width * 8)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]
