"""JSON as trainers write it: NaN literals, a byte-order mark, an end cut off in the middle."""

from __future__ import annotations

import codecs
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from lossmith.errors import DataError
from lossmith.runs._text import head

_MARKS = re.compile(r'\\.|["{}\[\]]', re.DOTALL)  # an escaped character is none of the others
_BIGGEST = 1 << 30
_LONGEST_VALUE = 1 << 16


def document(path: Path) -> Any:
    """Return what a JSON file holds, None where its first bytes are not JSON's or it is none after all."""
    start = head(path).removeprefix(codecs.BOM_UTF8).lstrip()
    if start[:1] not in (b"{", b"[") or _is_lines(start):
        return None
    try:
        return load(path)
    except DataError:
        return None


def load(path: Path) -> Any:
    """Return what a JSON file holds; DataError where it is no JSON.

    Where the end is missing (a crash while it was written), what stands before the last complete object is returned.
    """
    state = path.stat()
    return _load(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=2)
def _load(path: Path, size: int, modified: int) -> Any:
    if size > _BIGGEST:
        raise DataError(f"{path}: a JSON document of more than 1 GB; write it as JSON lines, one object a line")
    text = path.read_bytes().decode("utf-8-sig", "replace")
    try:
        return json.loads(text)
    except RecursionError:
        raise DataError(f"{path}: expected JSON, got thousands of brackets inside each other") from None
    except ValueError as error:
        mended = _mended(text) if _is_cut(error, text) else None
        if mended is None:
            raise DataError(f"{path}: expected JSON, got {error}") from None
        return mended


def _is_lines(start: bytes) -> bool:
    """Whether a whole object stands on the first line and another begins on the second."""
    first, _, second = start.partition(b"\n")
    return first.rstrip().endswith(b"}") and second.lstrip()[:1] == b"{"


def _is_cut(error: ValueError, text: str) -> bool:
    """Whether JSON ends too early rather than being wrong in the middle."""
    at = error.pos if isinstance(error, json.JSONDecodeError) else 0
    return not str(error).startswith("Extra data") and len(text) - at < _LONGEST_VALUE


def _mended(text: str) -> Any:
    """Close what was cut off, after the last complete object; None where that gives no JSON either."""
    cut = len(text)
    for _ in range(4):
        cut = max(text.rfind("}", 0, cut), text.rfind("]", 0, cut))
        if cut < 0:
            return None
        try:
            return json.loads(text[: cut + 1] + _closing(text[: cut + 1]))
        except (ValueError, RecursionError):
            continue
    return None


def _closing(text: str) -> str:
    """The brackets that are open at the end of a text, in the order in which they must be closed."""
    open_brackets: list[str] = []
    quoted = False
    for char in _MARKS.findall(text):
        if quoted:
            quoted = char != '"'
        elif char == '"':
            quoted = True
        elif char in ("{", "["):
            open_brackets.append("}" if char == "{" else "]")
        elif char in ("}", "]") and open_brackets:
            open_brackets.pop()
    return "".join(reversed(open_brackets))
