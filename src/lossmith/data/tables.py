"""Rows of tables (jsonl, json, csv, tsv, parquet) through `datasets` in streaming mode: a row's text is a document."""

from __future__ import annotations

import codecs
import contextlib
import csv
import logging
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from lossmith.data.reading import decoded, raw_blocks
from lossmith.data.rows import check_head
from lossmith.data.sources import Source
from lossmith.errors import DataError, did_you_mean

_LOOK = 1000  # rows from which the columns and what they hold are learnt
_BUILDERS = {"jsonl": "json", "json": "json", "csv": "csv", "tsv": "csv", "parquet": "parquet"}


def table_texts(source: Source, text_field: str | None, encoding: str, work: Path) -> Iterator[str]:
    """Yield the text of each row; cells without a value are skipped.

    Errors: DataError for a file that is not what its name says, or for a text field that is missing or no text.
    """
    with tempfile.TemporaryDirectory(dir=work, prefix="table-") as folder:
        path = _plain(source, encoding, Path(folder))
        if path.stat().st_size == 0:
            return
        _check_head(source, path, text_field)
        with _explained(source):
            look = list(islice(_rows(source.kind, path, Path(folder)), _LOOK))
        if not look:
            return
        field = _field(look, text_field, source.name)
        with _explained(source):
            for row in _rows(source.kind, path, Path(folder), columns=list(look[0])):
                yield from _cell(row.get(field), field, source.name)


def _check_head(source: Source, path: Path, text_field: str | None) -> None:
    if source.kind in ("csv", "tsv"):  # pandas would give the second of two equal names another one
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            head = csv.reader(file, delimiter="\t" if source.kind == "tsv" else ",")
            with contextlib.suppress(csv.Error):  # what is broken is said where the rows are read
                names = next(head, [])
                check_head(names, [text_field] if text_field else {name for name in names if name}, source.name)


def _plain(source: Source, encoding: str, folder: Path) -> Path:
    """Return a file that `datasets` can read: plain UTF-8 without byte order mark, or plain parquet.

    `datasets` decodes some inputs loosely, names no offset, does not notice a .zst that is cut short, and cannot read
    compressed parquet (which needs random access). Hence every text is decoded here first, and what is not plain
    UTF-8 is written out under `folder` on the way.
    """
    path, copy = source.path, folder / f"rows.{source.kind}"
    assert path is not None
    if source.kind == "parquet":
        return path if not source.compression else _write(raw_blocks(path, source.compression), copy)
    text = decoded(raw_blocks(path, source.compression), encoding, source.name)
    if source.compression or codecs.lookup(encoding).name != "utf-8" or _has_mark(path):
        return _write((piece.encode("utf-8", "surrogatepass") for piece in text), copy)
    for _ in text:
        pass
    return path


def _has_mark(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(3) == codecs.BOM_UTF8


def _write(blocks: Iterable[bytes], path: Path) -> Path:
    with path.open("wb") as file:
        for block in blocks:
            file.write(block)
    return path


def _rows(kind: str, path: Path, cache: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    from datasets import Features, Value, load_dataset

    options: dict[str, Any] = {}
    if kind in ("csv", "tsv"):
        # pandas would read 007 as 7 and NA as nothing: a cell is the text that stands there
        options = {"keep_default_na": False, "na_filter": False}
        if kind == "tsv":
            options["sep"] = "\t"
        if columns:
            options["features"] = Features({name: Value("string") for name in columns})
    # the cache folder is ours and temporary: `datasets` puts a lock file there even when it streams
    yield from load_dataset(
        _BUILDERS[kind], data_files=[str(path)], split="train", streaming=True, cache_dir=str(cache), **options
    )


@contextlib.contextmanager
def _explained(source: Source) -> Iterator[None]:
    logger = logging.getLogger("datasets")
    before = logger.level
    logger.setLevel(logging.CRITICAL)  # it logs what it raises, and we say it in one message
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # `datasets` passes on whatever pyarrow, pandas and json raise
        cause = error.__cause__ or error
        first = (str(cause).splitlines() or [""])[0][:200]
        raise DataError(
            f"{source.name!r} cannot be read as {source.kind} ({type(cause).__name__}: {first}). "
            f"Repair the file, or give it the extension of what it is"
        ) from error
    finally:
        logger.setLevel(before)


def _field(rows: list[dict[str, Any]], wanted: str | None, name: str) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if wanted is not None:
        if wanted in columns:
            return wanted
        hint = did_you_mean(wanted, columns)
        raise DataError(f"{name!r} has no column {wanted!r} (--text-field); it has {', '.join(columns)}.{hint}")
    text = [column for column in columns if any(isinstance(row.get(column), str) for row in rows)]
    if len(text) == 1:
        return text[0]
    which = f"{len(text)} of them hold text ({', '.join(text)})" if text else "none of them holds text"
    raise DataError(
        f"{name!r} has the columns {', '.join(columns)}, and {which}: expected exactly one. "
        f"Say which to read with --text-field"
    )


def _cell(value: Any, field: str, name: str) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif value is not None:
        raise DataError(
            f"the column {field!r} of {name!r} holds {type(value).__name__}, expected text. "
            f"Choose another column with --text-field"
        )
