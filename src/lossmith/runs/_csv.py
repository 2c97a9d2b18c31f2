"""Separated values: the header found, the separator found, whole columns turned into numbers at once."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lossmith.runs import _names
from lossmith.runs._fast import loads
from lossmith.runs._table import Builder, Floats, Ints, Table, floats
from lossmith.runs._text import blocks, head_text

_NUMERIC = b"0123456789+-.eE,;\t| naifNAIF\n"
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+(?:[eE][-+]?\d+)?")
_FIRST_LINES = 30


@dataclass(frozen=True)
class Header:
    """Hold where the header stands, how the cells are separated, and the names."""

    line: int
    separator: str
    names: tuple[str, ...]


def find_header(path: Path) -> Header | None:
    """Return the header of a file of separated values: the first line that names a loss above a line of numbers."""
    text = head_text(path).decode("utf-8", "replace")
    lines = text.split("\n")[: _FIRST_LINES + 2]
    for index, line in enumerate(lines[:_FIRST_LINES]):
        for separator in (",", "\t", ";", "|", " "):
            names = cells(line, separator)
            if len(names) > 1 and _is_header(names, separator, lines[index + 1 :]):
                return Header(index, separator, names)
    return None


def cells(line: str, separator: str) -> tuple[str, ...]:
    """Return the cells of a line.

    >>> cells('step, "train loss", lr', ","), cells("# step  loss", " ")
    (('step', 'train loss', 'lr'), ('step', 'loss'))
    """
    line = line.lstrip("#").strip()
    row = next(iter(split_lines([line.strip("|") if separator == "|" else line], separator)), [])
    return tuple(cell.strip() for cell in row)


def split_lines(lines: Sequence[str], separator: str) -> list[list[str]]:
    """Return the cells of each line; tables drawn with bars lose their edges and rules."""
    if separator == " ":
        return [line.split() for line in lines]
    if separator == "|":
        lines = [line.strip().strip("|") for line in lines if line.strip("|-+=: \t")]
    try:
        return list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    except csv.Error:  # a cell of more than 128 KB
        return [line.split(separator) for line in lines]


def _is_header(names: tuple[str, ...], separator: str, following: Sequence[str]) -> bool:
    if any(floats([name])[1].size for name in names) or len(set(names)) < len(names) - names.count(""):
        return False
    below = next((line for line in following if line.strip("|-+=: \t")), "")
    row = cells(below, separator)
    if len(row) != len(names) or not floats(row)[1].size:
        return False
    return names_a_loss(names)


def names_a_loss(names: Sequence[str]) -> bool:
    """Return whether a name means the loss, or parts of it, or a table of tag and value.

    >>> names_a_loss(["epoch", "train/box_loss"]), names_a_loss(["name", "age"])
    (True, False)
    """
    return any(_names.loss_rank(name) is not None or _names.words(name)[-1:] == ("loss",) for name in names)


def table_of(path: Path, header: Header) -> tuple[Table, int]:
    """Return the table of a file of separated values, and how many rows had another number of cells than the header."""
    build, odd, skip = Builder(), 0, header.line + 1
    for block in blocks(path):
        while skip and block:
            block = block.partition(b"\n")[2]
            skip -= 1
        if not block.strip():
            continue
        matrix = _matrix(block, header)
        if matrix is not None:
            columns: dict[str, tuple[Ints | None, Floats]] = {}
            for place, name in enumerate(header.names):
                values = matrix[:, place]
                columns[name] = (None, np.ascontiguousarray(values))
            build.add(len(matrix), columns)
        else:
            odd += _add_rows(build, block, header)
    return build.table(), odd


def _matrix(block: bytes, header: Header) -> Floats | None:
    """All numbers of a block at once; None where it holds empty cells, words or rows of unequal length."""
    separator = header.separator.encode()
    width = len(header.names)
    body = block.strip()
    if separator in (b" ", b"|") or body.translate(None, _NUMERIC) or separator * 2 in body or b"\n\n" in body:
        return None
    lines = body.count(b"\n") + 1
    if body.count(separator) != lines * (width - 1):
        return None
    values = _numbers_of(body.replace(b"\n", separator).replace(separator, b","))
    return values.reshape(lines, width) if len(values) == lines * width else None


def _numbers_of(listed: bytes) -> Floats:
    """The numbers between commas, by orjson where all are as JSON writes them, else by numpy."""
    try:
        values: Floats = np.array(loads(b"[" + listed + b"]"), dtype=np.float64)
        return values
    except (ValueError, TypeError, OverflowError, RecursionError):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy only warns where it stops in the middle
        try:
            return np.fromstring(listed.decode(), dtype=np.float64, sep=",")
        except (ValueError, DeprecationWarning):
            return np.empty(0)


def _add_rows(build: Builder, block: bytes, header: Header) -> int:
    """Append rows cell by cell; return how many did not fit the header."""
    text = block.decode("utf-8", "replace").replace("\x00", "")
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    rows = split_lines(lines, header.separator)
    width = len(header.names)
    good = [row for row in rows if len(row) == width]
    found = dict(zip(header.names, zip(*good, strict=True), strict=False)) if good else {}
    build.add(len(good), {name: _numbers(values, header.separator) for name, values in found.items() if name})
    return len(rows) - len(good)


def _numbers(values: tuple[str, ...], separator: str) -> tuple[Ints | None, Floats]:
    try:
        return None, np.fromiter(map(float, values), dtype=np.float64, count=len(values))
    except ValueError:
        pass
    if separator != "," and any(_DECIMAL_COMMA.fullmatch(value.strip()) for value in values[:50]):
        values = tuple(value.replace(",", ".") for value in values)
    return floats(values)
