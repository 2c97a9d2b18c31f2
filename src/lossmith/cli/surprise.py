"""lossmith surprise: what each token of a text costs a model, as coloured text, a page, JSON or a table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import FlagCreatePairsOff, Positional, arg

from lossmith.errors import DataError, InputError

if TYPE_CHECKING:
    from rich.text import Text

    from lossmith.evaluate.surprisal import Surprisal

_COLOURS = ("", "on grey15", "on #3a2a10", "on #5a3a10", "on #7a4a10", "on #9a5a10", "on #bb6600", "bold on #dd4400")


@dataclass
class Args:
    """Show what each token of a text costs a model: surprisal, rank, entropy, sums, pictures."""

    model: Positional[Annotated[Path, arg(metavar="MODEL")]]
    """Run folder, or folder of any causal or masked Hugging Face model."""
    files: Positional[Annotated[tuple[Path, ...], arg(metavar="FILE")]]
    """UTF-8 text; each file is a document of its own."""
    html: Annotated[Path | None, arg(metavar="OUT")] = None
    """Write a page: hover shows probability, rank and first guesses."""
    against: Annotated[Path | None, arg(metavar="OTHER")] = None
    """A second model, of any tokenizer: colour the difference."""
    context: Annotated[int | None, arg(metavar="TOKENS")] = None
    """Tokens of context at most; default: the model's positions, at most 1024."""
    stride: Annotated[int | None, arg(metavar="TOKENS")] = None
    """Tokens from one window to the next; 1: all context there is, slowly. Default: half the context."""
    top: Annotated[int, arg(metavar="K")] = 5
    """First guesses to keep of each place, for --html and --json."""
    show: Annotated[int, arg(metavar="CHARACTERS")] = 4000
    """How much of each text to print."""
    parquet: Annotated[Path | None, arg(metavar="OUT")] = None
    """Write one row a token."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object instead of text."""


def run(args: Args) -> None:
    """Score every file, and say it in the forms asked for."""
    from lossmith.cli._write import write_whole
    from lossmith.cli.compress import check_output
    from lossmith.evaluate.surprise_model import open_scorer

    if not args.files:
        raise InputError("name at least one file: lossmith surprise MODEL FILE")
    for path in filter(None, (args.html, args.parquet)):
        check_output(path)
    texts = [read_text(path) for path in args.files]
    ours = list(_scored(args, open_scorer(args.model), texts, args.top if args.html or args.json else 0))
    theirs: list[Any] = [None] * len(ours)
    if args.against:
        theirs = list(_scored(args, open_scorer(args.against), texts, 0, windows=False))
    names = [str(path) for path in args.files]
    if args.html:
        from lossmith.evaluate.surprise_page import page

        write_whole(args.html, page(list(zip(names, ours, theirs, strict=True))).encode())
    if args.parquet:
        write_whole(args.parquet, _parquet(names, ours))
    if args.json:
        print(json.dumps(_as_json(names, ours, theirs), ensure_ascii=False, allow_nan=False))
        return
    for name, mine, other in zip(names, ours, theirs, strict=True):
        _print(name, mine, other, args.show)
    for path in filter(None, (args.html, args.parquet)):
        print(f"written: {path}")


def read_text(path: Path) -> str:
    """Return a file's text as it is, line ends included; DataError where it is missing, empty or no UTF-8."""
    from lossmith.cli.compress import read_bytes

    data = read_bytes(path)
    if not data:
        raise DataError(f"nothing to score: {str(path)!r} is empty; give a file with text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"expected UTF-8 text; {str(path)!r} has the byte 0x{error.object[error.start]:02x} at {error.start:,}: "
            "convert it first, as with iconv -f gb18030 -t utf-8"
        ) from error


def _scored(args: Args, scorer: Any, texts: list[str], top: int, *, windows: bool = True) -> Iterator[Surprisal]:
    from lossmith.cli.compress import bar
    from lossmith.evaluate.surprisal import surprisal

    context, stride = (args.context, args.stride) if windows else (None, None)
    for text in texts:
        with bar(f"surprise, {scorer.name}", args.json) as progress:
            yield surprisal(scorer, text, context=context, stride=stride, top=top, progress=progress)


def _as_json(names: Sequence[str], ours: Sequence[Surprisal], theirs: Sequence[Surprisal | None]) -> dict[str, Any]:
    from lossmith.evaluate.next_tokens import _jsonable
    from lossmith.evaluate.surprise_groups import side_by_side
    from lossmith.evaluate.surprise_page import document

    found = []
    for name, mine, other in zip(names, ours, theirs, strict=True):
        entry = document(name, mine)
        if other:
            pieces = side_by_side(mine, other)
            entry["against"] = {
                **other.summary(),
                "pieces": [[p.text, p.ours / math.log(2), p.theirs / math.log(2)] for p in pieces],
            }
        found.append(entry)
    data: dict[str, Any] = _jsonable({"documents": found})
    return data


def _parquet(names: Sequence[str], ours: Sequence[Surprisal]) -> bytes:
    import io

    import numpy as np
    import pyarrow  # type: ignore[import-untyped, unused-ignore]
    from pyarrow import parquet

    tables = []
    for name, mine in zip(names, ours, strict=True):
        unit = np.repeat(np.arange(len(mine.units)), np.diff(mine.units.first))
        columns = {
            "file": [name] * len(mine.ids),
            "id": mine.ids,
            "token": [mine.tokenizer.token_text(int(i)) for i in mine.ids],
            "start": mine.units.bounds[unit],
            "stop": mine.units.bounds[unit + 1],
            **{key: getattr(mine, key) for key in ("nats", "bits", "entropy", "rank", "position")},
        }
        tables.append(pyarrow.table(columns))
    out = io.BytesIO()
    parquet.write_table(pyarrow.concat_tables(tables), out)
    return out.getvalue()


def _print(name: str, mine: Surprisal, other: Surprisal | None, show: int) -> None:
    from rich.console import Console

    from lossmith.evaluate.surprise_groups import extremes
    from lossmith.pictures.text import clean

    console = Console(highlight=False)
    console.rule(clean(name), style="dim", align="left")
    console.print(_coloured(mine, other, show))
    if len(mine.text) > show:
        console.print(f"… {len(mine.text) - show:,} characters more: --show, --html or --json", style="dim")
    for line in _totals(mine, other):
        console.print(line, markup=False, style="dim")
    for title, chosen in zip(("most expected", "most surprising"), extremes(mine, 3), strict=True):
        for passage in chosen:
            said = clean(" ".join(passage.text.split()))
            console.print(f"{title}: {passage.bits_per_byte:5.2f} bits per byte  {said}", markup=False, style="dim")


def _totals(mine: Surprisal, other: Surprisal | None) -> Iterator[str]:
    kind = "pseudo-likelihood, no code length: " if mine.method == "masked" else ""
    for found in filter(None, (mine, other)):
        yield (
            f"{found.model}: {kind}{found.loss:.4f} nats per token, {found.bits_per_byte:.4f} bits per byte, "
            f"{found.total_nats / math.log(2) / 8:,.0f} of {len(found.text.encode()):,} bytes; "
            f"{found.predicted:,} tokens, context {found.context}, stride {found.stride}"
        )


def _coloured(mine: Surprisal, other: Surprisal | None, show: int) -> Text:
    from rich.text import Text

    from lossmith.evaluate.surprise_groups import side_by_side
    from lossmith.evaluate.surprise_page import level
    from lossmith.pictures.text import clean

    out, length = Text(), 0
    if other:
        pieces = ((p.text, (p.ours - p.theirs) / math.log(2)) for p in side_by_side(mine, other))
    else:
        bits = mine.units.sums(mine.bits)
        pieces = ((mine.unit_text(i), float(bits[i])) for i in range(len(mine.units)))
    for text, cost in pieces:
        style = _COLOURS[level(cost)] if cost >= 0 else f"on #{16:02x}{16:02x}{64 + 24 * level(-cost):02x}"
        out.append(clean(text[: show - length]), style=style or None)
        length += len(text)
        if length >= show:
            break
    return out
