"""JSON lines that all look alike, read as columns of numbers without making an object of each line."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from lossmith.runs._fast import loads
from lossmith.runs._table import Floats, Ints, columns_of, in_order

Columns = dict[str, tuple[Ints, Floats]]

_VALUE = re.compile(rb"(?<=:)[ ]?(-?\d[\d.eE+-]*)(?=[,}])")
_OPENING = re.compile(rb'[{,] ?"([^"\\{}\[\]]+)" ?:')
_NUMERIC = b"0123456789+-.eE,"
_FEWEST = 200  # lines: below that the plain way is as fast
_MARK = 0x80  # the marks: bytes that stand in no ASCII


def uniform_columns(block: bytes) -> tuple[int, Columns] | None:
    """Return the rows and columns of a block of JSON lines, where all but a few lines have the names of the first.

    The text before each number is replaced by a mark of its own, so that the marks of a line tell whether it has all
    names in order. None where lines differ more, or hold anything but numbers: they are read one by one then.

    >>> lines = [b'{"step": %d, "loss": 2.5}' % i for i in range(300)] + [b'{"step": 300, "eval_loss": 2.25}']
    >>> count, columns = uniform_columns(b"\\n".join(lines))
    >>> count, len(columns["step"][1]), columns["eval_loss"]
    (301, 301, (array([300]), array([2.25])))
    """
    block = block.strip(b"\n")
    first = block.split(b"\n", 1)[0]
    template = _template(first)
    if template is None or block.count(b"\n") < _FEWEST:
        return None
    pieces, names = template
    marks = bytes(range(_MARK, _MARK + len(names)))
    body = block
    for place, piece in enumerate(pieces):
        body = body.replace(piece, marks[place : place + 1])
    body, odd = _without_odd(body)
    count = block.count(b"\n") + 1
    if len(odd) > count // 20:
        return None
    matrix = _matrix(body, marks)
    rows = _parsed(block, odd)
    if matrix is None or rows is None or len(matrix) + len(odd) != count:
        return None
    return count, _together(matrix, names, count, odd, rows)


def _template(line: bytes) -> tuple[list[bytes], list[str]] | None:
    """The text before each number of a line, and the names in it."""
    parts = _VALUE.split(line)
    pieces = [part.rstrip(b" ") for part in parts[:-1:2]]
    found = [_OPENING.fullmatch(piece.strip()) for piece in pieces]
    if not pieces or parts[-1].strip() != b"}" or not all(found) or len(pieces) > 100:
        return None
    names = [match[1].decode("utf-8", "replace") for match in found if match]
    spaced = [piece + b" " if piece + b" " in line else piece for piece in pieces]
    return (spaced, names) if len(set(names)) == len(names) else None


def _without_odd(body: bytes) -> tuple[bytes, list[int]]:
    """Cut out the lines that still hold quoted names, and return which they were."""
    kept, odd, start, row = [], [], 0, 0
    while (at := body.find(b'"', start)) >= 0:
        begin = body.rfind(b"\n", 0, at) + 1
        end = body.find(b"\n", at)
        row += body.count(b"\n", start, begin)
        odd.append(row)
        kept.append(body[start:begin])
        start, row = (end + 1, row + 1) if end >= 0 else (len(body), row)
    return b"".join([*kept, body[start:]]).removesuffix(b"\n"), odd


def _matrix(body: bytes, marks: bytes) -> Floats | None:
    """The numbers of lines that have all marks in order; None where one has not."""
    other = bytes(set(range(256)) - set(marks) - {10})
    lines = body.count(b"\n") + 1
    if body.translate(None, other) != ((marks + b"\n") * lines)[:-1]:
        return None
    flat = body.translate(bytes.maketrans(marks, b"," * len(marks)), b"} \n")[1:]
    if flat.translate(None, _NUMERIC):
        return None
    try:
        values = np.array(loads(b"[" + flat + b"]"))
    except ValueError:
        return None
    whole = values.dtype.kind in "iuf" and len(values) == lines * len(marks)
    return values.astype(np.float64).reshape(lines, -1) if whole else None


def _parsed(block: bytes, odd: list[int]) -> list[Mapping[str, object]] | None:
    if not odd:
        return []
    lines = block.split(b"\n")
    try:
        rows = [loads(lines[row]) for row in odd]
    except (ValueError, RecursionError):
        return None
    return rows if all(isinstance(row, dict) for row in rows) else None


def _together(
    matrix: Floats, names: list[str], count: int, odd: list[int], rows: list[Mapping[str, object]]
) -> Columns:
    """The columns of both kinds of lines, in the order of the lines."""
    others = np.array(odd, dtype=np.int64)
    place = np.delete(np.arange(count), others) if odd else np.arange(count)
    parts = {name: [(place, np.ascontiguousarray(matrix[:, i]))] for i, name in enumerate(names)}
    for name, (at, values) in columns_of(rows).items():
        parts.setdefault(name, []).append((others[at], values))
    return {name: in_order(found) for name, found in parts.items()}
