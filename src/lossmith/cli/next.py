"""lossmith next: the most likely next tokens, and what given continuations would cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import FlagCreatePairsOff, Positional, arg

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lossmith.evaluate import Candidate, NextToken, NextTokens
    from lossmith.evaluate.surprise_path import Step
    from lossmith.train.handle import TrainedRun

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
    path: Annotated[str, arg(metavar="TEXT")] = ""
    """A wanted continuation: what each of its tokens costs, and what the model would have said instead."""
    fill: FlagCreatePairsOff[bool] = False
    """Fill every __ of the prompt, with --candidates or with single tokens; masked models do it directly."""
    temperature: float | None = None
    """Show how often sampling at this temperature would draw each token."""
    top_k: int | None = None
    """The same, drawing from the K most likely tokens only."""
    top_p: float | None = None
    """The same, drawing from the fewest tokens whose probability reaches P only."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object instead of tables."""


def run(args: Args) -> None:
    """Print what the model expects after the prompt, or in its blanks."""
    from lossmith.train.handle import load_run

    trained = load_run(args.run)
    if args.fill:
        _fill(args, trained)
        return
    found = trained.next(args.prompt, top=args.top, candidates=args.candidates)
    drawn, path = _drawn(args, trained, found), _path(args, trained)
    if args.json:
        more: dict[str, Any] = {"drawn": drawn} if drawn else {}
        more |= {"path": [step.to_json() for step in path]} if path else {}
        print(json.dumps(found.to_json() | more, ensure_ascii=False))
        return
    show(found, drawn=drawn)
    if path:
        _show_path(path)


def _drawn(args: Args, trained: TrainedRun, found: NextTokens) -> list[float]:
    """How often sampling would draw each of the tokens shown; empty where nobody asked."""
    if args.temperature is None and args.top_k is None and args.top_p is None:
        return []
    from lossmith.evaluate.surprise_path import drawn

    temperature = 1.0 if args.temperature is None else args.temperature
    model, tokenizer = trained.model, trained.tokenizer
    p = drawn(model, tokenizer, args.prompt, temperature=temperature, top_k=args.top_k, top_p=args.top_p)
    return [float(p[token.id]) for token in found.top]


def _path(args: Args, trained: TrainedRun) -> list[Step]:
    from lossmith.evaluate.surprise_path import path_to

    return path_to(trained.model, trained.tokenizer, args.prompt, args.path) if args.path else []


def _fill(args: Args, trained: TrainedRun) -> None:
    from rich.console import Console
    from rich.text import Text

    from lossmith.evaluate.surprise_blanks import fill_blanks
    from lossmith.pictures.text import visible

    found = fill_blanks(trained, args.prompt, top=args.top, candidates=args.candidates)
    if args.json:
        print(json.dumps({"prompt": args.prompt, "fillings": [f.to_json() for f in found]}, ensure_ascii=False))
        return
    table = _table("continuation", "share", "", "nats")
    for filling in found:
        words = Text(" … ".join(visible(word) for word in filling.words), style="bold")
        table.add_row(words, f"{filling.share:.1%}", Text(bar(filling.share), style="cyan"), f"{filling.nats:.3f}")
    Console(highlight=False).print(table)


def _show_path(path: Sequence[Step]) -> None:
    from rich.console import Console
    from rich.text import Text

    from lossmith.pictures.text import visible

    table = _table("token", "probability", "rank", "bits", "bits so far", "tokens")
    table.columns[-1].header = "first guess"
    for step in path:
        first = Text(f"{visible(step.first)} {step.first_probability:.1%}", style="dim")
        cells = (f"{step.probability:.3g}", f"{step.rank + 1}", f"{step.bits:.2f}", f"{step.bits_so_far:.2f}")
        table.add_row(Text(visible(step.text), style="bold"), *cells, first)
    Console(highlight=False).print(table)


def show(found: NextTokens, console: Console | None = None, *, drawn: Sequence[float] = ()) -> None:
    """Print the tables of `found`; `drawn`: how often sampling would draw each of the tokens shown."""
    from rich.console import Console

    from lossmith.pictures.text import visible

    console = console or Console(highlight=False)
    said = f"after “{visible(found.prompt)}”" if found.prompt else "at the start of a document"
    console.print(f"{said}: entropy {found.entropy:.3f} nats", markup=False, style="dim")
    console.print(_top_table(found.top, drawn))
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


def _top_table(tokens: Sequence[NextToken], drawn: Sequence[float]) -> Table:
    from rich.text import Text

    from lossmith.pictures.text import visible

    table = _table("token", "probability", "", "nats", "bits", *(("drawn",) if drawn else ()), "id")
    most = max(token.probability for token in tokens) or 1.0
    for i, token in enumerate(tokens):
        table.add_row(
            Text(visible(token.text), style="bold"),
            f"{token.probability:.2%}",
            Text(bar(token.probability / most), style="cyan"),
            f"{token.nats:.3f}",
            f"{token.bits:.3f}",
            *((f"{drawn[i]:.2%}",) if drawn else ()),
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
