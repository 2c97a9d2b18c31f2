"""lossmith eval RUN --as-code-length: what sending its training text would have cost a run that learns as it sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lossmith.errors import InputError

if TYPE_CHECKING:
    from lossmith.cli.eval import Args
    from lossmith.evaluate.code_length import CodeLength, Race


def show_code_length(args: Args) -> None:
    """Print the code length of a run, or of two over the same amount of text, and which is shorter."""
    from lossmith.evaluate.code_length import code_length, race

    if len(args.inputs) != 1 or args.predictions is not None or args.given:
        raise InputError(
            "--as-code-length reads a run's own log: lossmith eval RUN --as-code-length, without DATA, --predictions "
            f"and --given; got {' '.join(args.inputs) or 'no run'}"
        )
    run = Path(args.inputs[0])
    whole = code_length(run)
    both = None if args.compare is None else race(run, args.compare)
    if args.json:
        told = {"model": str(run), "compare": None if args.compare is None else str(args.compare)}
        found = {"code_length": whole.to_json(), "race": None if both is None else both.to_json()}
        print(json.dumps({**told, **found}, ensure_ascii=False, allow_nan=False))
        return
    _print(run, whole, args.compare, both)


def _print(run: Path, whole: CodeLength, other: Path | None, both: Race | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("run", "text sent", "as bytes of code", "bits per byte", "nats per token", "steps"):
        table.add_column(column, justify="left" if column == "run" else "right")
    rows = [(run, whole)] if both is None or other is None else [(run, both.ours), (other, both.other)]
    for name, found in rows:
        cells = (f"{found.bytes:,}", f"{found.bits / 8:,.0f}", f"{found.bits_per_byte:.4f}")
        table.add_row(str(name), *cells, f"{found.nats_per_token:.4f}", f"{found.steps:,}")
    console.print("code length: each token at its loss before it was learned from; weights are not sent", style="dim")
    console.print(table)
    if both is not None and other is not None:
        console.print(_verdict(run, other, both), markup=False, soft_wrap=True)
    for line in (line for name, found in rows for line in _notes(name, found)):
        console.print(f"note: {line}", style="dim", markup=False, soft_wrap=True)


def _verdict(run: Path, other: Path, both: Race) -> str:
    bits = both.ours.bits_per_byte - both.other.bits_per_byte
    if not both.same_text:
        return (
            "the runs were trained on different texts (other files or another share of them): only bits per byte can "
            f"be compared, and only as far as the texts are as hard: {bits:+.4f}"
        )
    if not both.difference:
        return "both would have sent the text in as many bytes"
    first = run if both.difference < 0 else other
    return f"{first} would have sent it shorter, by {abs(both.difference):,.0f} bytes ({abs(bits):.4f} bits per byte)"


def _notes(name: Path, found: CodeLength) -> Iterator[str]:
    if found.passes > 1:
        yield f"{name} read its text {found.passes:.2f} times; the first pass is counted, a text need not be sent twice"
    if found.uncovered:
        yield f"{name} first logged after {found.uncovered:,} tokens: these are charged the loss logged there"
    if found.began_from is not None:
        yield f"{name} began from the weights in {found.began_from}, which both sides would need to have"
