"""The line-pattern engine: a text format is a few patterns whose named groups are columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._curve import Run
from lossmith.runs._names import is_step
from lossmith.runs._table import Builder
from lossmith.runs._text import blocks

NUMBER = (
    rb"[-+]?(?:\d+(?:,\d{3})*(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|[nN]a[nN]|NAN|[iI]nf(?:inity)?|INF)"
)
_SUFFIX = {b"K": 1e3, b"M": 1e6, b"B": 1e9, b"G": 1e9, b"T": 1e12}
_GROUP = re.compile(rb"(?<![P(])<(\w+)>")
_CONFIG = frozenset({"max_steps", "num_train_epochs", "steps_per_epoch", "vocab_size"})

Row = dict[str, float]
_HINTS: set[bytes] = set()


class Line:
    """Match one kind of line.

    In `pattern`, `<name>` stands for a number of the column `name` (regular expression otherwise, over bytes). A group
    `body` is searched with `pairs` for (key, number). `hint` is a literal that every such line holds: blocks without it
    are passed over. `joins` adds the numbers to the row before instead of making a new one; `prefix` goes before every
    key of the body but that of the steps.

    >>> line = Line(rb"iter <step>: loss <loss>", hint=b"iter ")
    >>> [row for _, row in line.rows(b"iter 1: loss 5.5, time 3ms")]
    [{'step': 1.0, 'loss': 5.5}]
    """

    def __init__(
        self, pattern: bytes, hint: bytes, pairs: bytes | None = None, joins: bool = False, prefix: str = ""
    ) -> None:
        self._pattern = pattern
        self.hint = hint
        _HINTS.add(hint)
        self._pairs_pattern = pairs
        self.joins = joins
        self.prefix = prefix

    @cached_property
    def pattern(self) -> re.Pattern[bytes]:
        """The pattern, compiled when a file first holds its hint: there are dozens."""
        return expand(self._pattern)

    @cached_property
    def pairs(self) -> re.Pattern[bytes] | None:
        """The pattern of the pairs in a body."""
        return expand(self._pairs_pattern) if self._pairs_pattern else None

    def rows(self, block: bytes) -> Iterator[tuple[int, Row]]:
        """Yield the place and the numbers of each line that matches."""
        if self.hint in block:
            for match in self.pattern.finditer(block):
                yield match.start(), self._row(match)

    def _row(self, match: re.Match[bytes]) -> Row:
        row: Row = {}
        for name, text in match.groupdict().items():
            if name == "body":
                row.update(self._pairs(text or b""))
            elif text is not None:
                row[name] = value(text)
        return row

    def _pairs(self, body: bytes) -> Row:
        if self.pairs is None:
            return {}
        found = self.pairs.findall(body)
        return {self._name(key.decode("utf-8", "replace").strip()): value(text) for key, text in found}

    def _name(self, key: str) -> str:
        return key if not self.prefix or is_step(key) else self.prefix + key


def hinted(path: Path, lines: Iterable[Line]) -> list[Line]:
    """Return the kinds of lines whose hint is anywhere in a file; the file is gone through once for all formats."""
    state = path.stat()
    found = _hints_in(path, state.st_size, state.st_mtime_ns, len(_HINTS))
    return [line for line in lines if line.hint in found]


@lru_cache(maxsize=16)
def _hints_in(path: Path, size: int, modified: int, known: int) -> frozenset[bytes]:
    missing = set(_HINTS)
    for block in blocks(path):
        missing -= {hint for hint in missing if hint in block}
    return frozenset(_HINTS - missing)


def expand(pattern: bytes) -> re.Pattern[bytes]:
    """Compile a pattern in which `<name>` stands for a number, and `<>` for one without a name."""
    named = _GROUP.sub(lambda match: b"(?P<" + match[1] + b">" + NUMBER + b"[KMBGT]?)", pattern)
    return re.compile(named.replace(b"<>", NUMBER + b"[KMBGT]?"), re.MULTILINE)


def value(text: bytes) -> float:
    """Return the number a piece of a log line stands for.

    >>> value(b"1,234"), value(b"1.5K"), value(b"NaN")
    (1234.0, 1500.0, nan)
    """
    scale = _SUFFIX.get(text[-1:], 1.0)
    text = text[:-1] if scale != 1.0 else text
    return float(text.replace(b",", b"")) * scale


@dataclass(frozen=True)
class LineFormat:
    """Read a text log by its lines: a reader, written as a table of patterns.

    `needs` names a column that one row at least must have for the file to be of this format; `sticky` columns are
    printed again on every line until they change; `form` says the rest.
    """

    name: str
    tool: str
    lines: tuple[Line, ...]
    rank: int = 10
    form: Mapping[str, Any] = field(default_factory=dict)
    sticky: tuple[str, ...] = ()

    def sniff(self, path: Path) -> bool:
        """Return whether a line of the file matches one of the patterns."""
        lines = hinted(path, self.lines)
        return bool(lines) and any(
            line.hint in block and line.pattern.search(block) for block in blocks(path) for line in lines
        )

    def read(self, path: Path) -> list[Run]:
        """Return the runs of the file."""
        build = Builder()
        config: dict[str, int] = {}
        last: Row = {}
        for block in blocks(path):
            rows = self.rows_of(block)
            for row in rows:
                config.update({name: int(row.pop(name)) for name in _CONFIG & set(row)})
            rows = [row for row in rows if row]
            self._unstick(rows, last)
            build.add_rows(rows)
        form = Form(self.tool, **{**self.form, "config": config})
        return runs_of(build.table(), str(path), form)

    def rows_of(self, block: bytes) -> list[Row]:
        """Return the rows of a block in the order of its lines."""
        found: list[tuple[int, int]] = []
        kept: list[Row] = []
        for number, line in enumerate(self.lines):
            for at, row in line.rows(block):
                found.append((at, len(kept)))
                row["__line__"] = number
                kept.append(row)
        return _joined((kept[index] for _, index in sorted(found)), self.lines)

    def _unstick(self, rows: Iterable[Row], last: Row) -> None:
        for name in self.sticky:
            for row in rows:
                now = row.get(name)
                if now is not None and now == last.get(name):
                    del row[name]
                elif now is not None:
                    last[name] = now


def _joined(rows: Iterable[Row], lines: tuple[Line, ...]) -> list[Row]:
    out: list[Row] = []
    for row in rows:
        line = lines[int(row.pop("__line__"))]
        if line.joins and out:
            out[-1].update(row)
        else:
            out.append(row)
    return out
