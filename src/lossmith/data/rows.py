"""Rows of a table (.jsonl, .csv, .tsv, .parquet), streamed, as the columns that somebody asks for."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lossmith.data.reading import decoded, raw_blocks
from lossmith.data.sources import COMPRESSED
from lossmith.errors import DataError, did_you_mean

KINDS = (".jsonl", ".csv", ".tsv", ".parquet")
Row = dict[str, Any]


def table_rows(
    path: Path, columns: dict[str, str], encoding: str = "utf-8", limit: int | None = None
) -> Iterator[tuple[Any, ...]]:
    """Yield the cells of `columns` (column → the option that named it) of each row, at most `limit` rows.

    Text files may be compressed (.gz, .xz, .zst). Cells of .csv and .tsv are text.
    Errors: DataError for a file that is missing, of another kind or broken, and for a column that it does not have.
    """
    rows = _rows(path, encoding, columns)
    number = 0
    for number, row in enumerate(rows, 1):
        if limit is not None and number > limit:
            return
        yield tuple(_cell(row, name, option, path, number) for name, option in columns.items())
    if not number:
        raise DataError(f"{str(path)!r} has no rows: expected a table with the columns {', '.join(columns)}")


def pair_texts(path: Path, columns: tuple[str, ...], encoding: str = "utf-8") -> Iterator[str]:
    """Yield the texts of the columns that --pair-columns names, row after row.

    Errors: as `table_rows`; DataError for a cell that is empty or no text: a pair needs all its sides.
    """
    for number, row in enumerate(table_rows(path, dict.fromkeys(columns, "--pair-columns"), encoding), 1):
        for name, cell in zip(columns, row, strict=True):
            if not isinstance(cell, str) or not cell.strip():
                got = f"it holds {cell!r}" if cell is not None and not isinstance(cell, str) else "there is none"
                raise DataError(
                    f"{str(path)!r} has no text in the column {name!r} of row {number} ({got}): a pair needs all its "
                    "sides (and a hard negative where that column is asked for). Fill it in, or take the row out"
                )
            yield cell.strip()


def _cell(row: Row, name: str, option: str, path: Path, number: int) -> Any:
    if name not in row:
        known = ", ".join(row)
        raise DataError(
            f"{str(path)!r} has no column {name!r} ({option}) in row {number}; it has {known}.{did_you_mean(name, row)}"
        )
    return row[name]


def _rows(path: Path, encoding: str, wanted: Collection[str]) -> Iterator[Row]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSED else ""
    kind = suffixes[-1] if suffixes else ""
    if not path.is_file():
        near = did_you_mean(path.name, (p.name for p in path.parent.iterdir())) if path.parent.is_dir() else ""
        raise DataError(f"no such file: {str(path)!r}; expected a table ({', '.join(KINDS)}).{near}")
    if kind == ".parquet" and not compression:
        return _parquet(path, wanted)
    if kind not in KINDS[:3]:
        raise DataError(
            f"cannot tell how to read {str(path)!r} as a table; expected {', '.join(KINDS)} "
            f"(text also with {', '.join(COMPRESSED)})"
        )
    lines = _lines(decoded(raw_blocks(path, compression), encoding, str(path)))
    return _jsonl(lines, path) if kind == ".jsonl" else _csv(lines, path, "\t" if kind == ".tsv" else ",", wanted)


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    """Yield lines with their ends; only \\n ends one, so that U+2028 inside a JSON string stays in it."""
    kept = ""
    for piece in pieces:
        *whole, kept = (kept + piece).split("\n")
        yield from (line + "\n" for line in whole)
    if kept:
        yield kept


def _jsonl(lines: Iterable[str], path: Path) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"line {number} of {str(path)!r} is no JSON ({error}). Repair it") from error
        if not isinstance(row, dict):
            raise DataError(f"line {number} of {str(path)!r} is no JSON object: expected {{column: value, …}}")
        yield row


def _csv(lines: Iterator[str], path: Path, delimiter: str, wanted: Collection[str]) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    try:
        check_head(reader.fieldnames or (), wanted, str(path))
        for number, row in enumerate(reader, 1):
            if None in row or None in row.values():
                raise DataError(
                    f"row {number} of {str(path)!r} (it ends in line {reader.line_num}) does not have the "
                    f"{len(reader.fieldnames or ())} cells that its head names. Repair it"
                )
            yield row
    except csv.Error as error:
        line = reader.reader.line_num  # the DictReader's own is that of the row before
        raise DataError(f"{str(path)!r} is broken at line {line} ({error}). Repair it") from error


def check_head(names: Sequence[str], wanted: Collection[str], path: str) -> None:
    """Raise DataError where two columns have the name of a wanted one: which of them is meant cannot be told."""
    twice = [name for name in wanted if list(names).count(name) > 1]
    if twice:
        raise DataError(f"{path!r} has more than one column {twice[0]!r}: give each its own name")


def _parquet(path: Path, wanted: Collection[str]) -> Iterator[Row]:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            check_head(file.schema_arrow.names, wanted, str(path))
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{str(path)!r} cannot be read as parquet ({error}). Repair it") from error
