"""lossmith compress: a file in as many bytes as a model's loss on it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import FlagCreatePairsOff, Positional, arg

from lossmith.errors import DataError, InputError

if TYPE_CHECKING:
    from lossmith.evaluate.compress import Compressed


@dataclass
class Args:
    """Compress a file with a model, losslessly, to the size of the model's loss on it."""

    file: Positional[Annotated[Path, arg(metavar="FILE")]]
    """File to compress: any bytes."""
    model: Annotated[Path, arg(metavar="MODEL")]
    """Run folder, or folder of any causal Hugging Face model; decompressing needs the same one."""
    output: Annotated[Path | None, arg(aliases=["-o"], metavar="OUT")] = None
    """File to write; default: FILE.lsz."""
    jobs: Annotated[int | None, arg(metavar="N")] = None
    """Parts coded side by side, each without the context of the one before: faster and larger; default: 1 for every
    2,500 tokens, at most 16."""
    context: Annotated[int | None, arg(metavar="TOKENS")] = None
    """Tokens of context at most; default: the model's positions, at most 1024."""
    given: Annotated[Path | None, arg(metavar="FILE")] = None
    """A text that the other compressors may read first: the fair comparison, where the model was trained on it."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object instead of a table."""


def run(args: Args) -> None:
    """Compress, decode again, compare, write, and print the size beside that of other compressors."""
    from lossmith.cli._write import write_whole
    from lossmith.evaluate.compress import compress
    from lossmith.evaluate.compress_rivals import rivals
    from lossmith.evaluate.surprise_model import open_scorer

    data = read_bytes(args.file)
    output = args.output or args.file.with_name(args.file.name + ".lsz")
    check_output(output)
    given = read_bytes(args.given) if args.given else b""
    with bar("compress and check", args.json) as progress:
        found = compress(data, open_scorer(args.model), jobs=args.jobs, context=args.context, progress=progress)
    write_whole(output, found.data)
    others = rivals(data)
    others |= {f"{name}, given {args.given}": size for name, size in rivals(data, given).items()} if given else {}
    if args.json:
        print(json.dumps(_as_json(found, output, others, args.model)))
    else:
        _show(found, output, others, args.model)


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; DataError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error


def check_output(path: Path) -> None:
    """Raise InputError, before the work, where a file cannot be written there."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"-o must be a file in a folder that exists; got {str(path)!r}")


@contextmanager
def bar(title: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Give a function (done, total) that draws a progress bar on stderr; None where nobody watches."""
    from rich.console import Console
    from rich.progress import Progress, TimeRemainingColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    with Progress(*Progress.get_default_columns()[:3], TimeRemainingColumn(), console=console, transient=True) as shown:
        task = shown.add_task(title, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _as_json(found: Compressed, output: Path, others: dict[str, int], model: Path) -> dict[str, Any]:
    from lossmith.models.folder import find_model, model_bytes
    from lossmith.runs import json_number

    return {
        "file": str(output),
        "bytes": len(found.data),
        "original_bytes": found.original,
        "bits_per_byte": json_number(found.bits_per_byte),
        "loss_bits": found.loss_bits,
        "tokens": found.tokens,
        "bytes_kept": found.raw,
        "jobs": found.streams,
        "price_of_jobs_bytes": found.price,
        "model_bytes": model_bytes(find_model(model)),
        "others": others,
    }


def _show(found: Compressed, output: Path, others: dict[str, int], model: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from lossmith.models.folder import find_model, model_bytes

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("what", "bytes", "bits per byte", "of the file"):
        table.add_column(column, justify="left" if column == "what" else "right")
    ours = f"lossmith, {model.name}"
    rows = {**others, "the model's loss": found.loss_bits / 8, ours: len(found.data)}
    rows |= {f"{ours}, with the model": len(found.data) + model_bytes(find_model(model))}
    for name, size in rows.items():
        part = (f"{8 * size / found.original:.3f}", f"{size / found.original:.1%}") if found.original else ("—", "—")
        table.add_row(name, f"{size:,.0f}", *part, style="bold" if name == ours else None)
    console.print(f"{found.original:,} bytes → {output!s}: {len(found.data):,} bytes, decoded and compared")
    console.print(table)
    over = len(found.data) - found.loss_bits / 8
    console.print(f"{over:,.0f} bytes above the loss: header, ends, rounding", style="dim")
    if found.price is not None:
        console.print(f"{found.streams} jobs cost {found.price:,} bytes against --jobs 1", style="dim")
    if found.raw:
        why = "the tokenizer does not bring them back, or the model would need more than 8 bits a byte"
        console.print(f"{found.raw:,} bytes kept as they are: {why}", style="dim")
    console.print(f"to restore: lossmith decompress {output} --model {model} -o FILE", style="dim", markup=False)
