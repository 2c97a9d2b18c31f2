"""Table: the columns of a log as they were written, in the order of its rows; a row need not have every column."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import methodcaller
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Row = Mapping[str, Any]
_VALUES = methodcaller("values")


@dataclass(frozen=True, eq=False)
class Column:
    """Hold the numbers of one column, and the rows they stand in: None where every row has one."""

    value: Floats
    row: Ints | None = None

    def __len__(self) -> int:
        return len(self.value)

    def rows(self) -> Ints:
        """Return the row of each number."""
        return np.arange(len(self.value)) if self.row is None else self.row

    def where(self, keep: NDArray[np.bool_], place: Ints) -> Column:
        """Return the numbers of the rows to keep, `place` giving each row its new number."""
        rows = self.rows()
        chosen = keep[rows]
        rows = place[rows[chosen]]
        return Column(self.value[chosen], None if len(rows) == int(keep.sum()) else rows)

    def dense(self, count: int) -> Floats:
        """Return one number a row, NaN where the row has none."""
        if self.row is None:
            return self.value
        out = np.full(count, np.nan)
        out[self.row] = self.value
        return out

    def present(self, count: int) -> NDArray[np.bool_]:
        """Return which rows have a number."""
        if self.row is None:
            return np.ones(count, dtype=bool)
        out = np.zeros(count, dtype=bool)
        out[self.row] = True
        return out


@dataclass(frozen=True, eq=False)
class Table:
    """Hold columns by name over `count` rows.

    >>> table = Table.of([{"step": 1, "loss": 5.0}, {"step": 1, "val": "4.5", "note": "words"}])
    >>> table.count, table.columns["val"].rows().tolist(), sorted(table.columns)
    (2, [1], ['loss', 'step', 'val'])
    """

    count: int
    columns: dict[str, Column]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Table:
        """Build a table from rows; what is no number is left out."""
        build = Builder()
        build.add_rows(list(rows))
        return build.table()

    def part(self, keep: NDArray[np.bool_]) -> Table:
        """Return the table of the rows to keep."""
        if keep.all():
            return self
        place = np.cumsum(keep) - 1
        columns = {name: column.where(keep, place) for name, column in self.columns.items()}
        return Table(int(keep.sum()), {name: column for name, column in columns.items() if len(column)})

    def span(self, start: int, stop: int) -> Table:
        """Return the table of the rows from `start` to before `stop`."""
        columns = {name: _span(column, start, stop) for name, column in self.columns.items()}
        return Table(stop - start, {name: column for name, column in columns.items() if len(column)})

    def reordered(self, order: Ints) -> Table:
        """Return the table with its rows in another order."""
        place = np.empty(self.count, dtype=np.int64)
        place[order] = np.arange(self.count)
        return Table(self.count, {name: _moved(column, place) for name, column in self.columns.items()})

    def replaced(self, columns: Mapping[str, Column]) -> Table:
        """Return the table with some columns replaced or added."""
        return Table(self.count, {**self.columns, **columns})


class Builder:
    """Collect a table block by block; big logs never stand in memory as Python objects."""

    def __init__(self) -> None:
        self.count = 0
        self._parts: dict[str, list[tuple[int, Ints | None, Floats]]] = defaultdict(list)

    def add(self, count: int, columns: Mapping[str, tuple[Ints | None, Floats]]) -> None:
        """Append `count` rows given as columns: (rows within this block or None for all of them, numbers)."""
        for name, (rows, values) in columns.items():
            if len(values):
                whole = rows is None or len(values) == count
                self._parts[name].append((self.count, None if whole else rows, values))
        self.count += count

    def add_rows(self, rows: Sequence[Row]) -> None:
        """Append rows given as mappings."""
        self.add(len(rows), columns_of(rows))

    def table(self) -> Table:
        """Return what was collected; the builder is empty afterwards."""
        columns = {}
        for name in list(self._parts):
            columns[name] = self._column(self._parts.pop(name))
        return Table(self.count, columns)

    def _column(self, parts: list[tuple[int, Ints | None, Floats]]) -> Column:
        values = np.concatenate([part[2] for part in parts])
        if len(values) == self.count:
            return Column(values)
        spans = [start + (np.arange(len(part)) if rows is None else rows) for start, rows, part in parts]
        return Column(values, np.concatenate(spans))


def number(value: Any) -> float | None:
    """Return the number a logged value stands for, None where it stands for none; "nan" and "inf" are numbers.

    >>> number("3.9"), number("inf"), number(True), number(" adamw"), number(10**400)
    (3.9, inf, None, None, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float, str)):
        try:
            return float(value)
        except (ValueError, OverflowError):
            return None
    return None


def floats(values: Sequence[Any]) -> tuple[Ints | None, Floats]:
    """Return the numbers of a list, and where they stand in it: None where all are numbers.

    >>> floats([1, "2.5", None, "n/a"])[0].tolist(), floats([1, 2.5])
    ([0, 1], (None, array([1. , 2.5])))
    """
    try:
        array = np.array(values)
    except (ValueError, OverflowError):  # lists of unequal length, integers beyond 64 bits
        array = np.empty(0, dtype=object)
    if array.ndim == 1 and array.dtype.kind in "iuf":
        return None, array.astype(np.float64)
    pairs = [(i, parsed) for i, value in enumerate(values) if (parsed := number(value)) is not None]
    rows = np.array([i for i, _ in pairs], dtype=np.int64)
    return rows, np.array([parsed for _, parsed in pairs], dtype=np.float64)


def flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested row with the names of its levels joined by "/".

    >>> flat({"step": 1, "train": {"loss": 5.0}})
    {'step': 1, 'train/loss': 5.0}
    """
    out: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{name}/")
        else:
            out[f"{prefix}{name}"] = value
    return out


def columns_of(rows: Sequence[Row]) -> dict[str, tuple[Ints, Floats]]:
    """Group rows by their names, so that each group is read column by column."""
    found: dict[str, list[tuple[Ints, Floats]]] = defaultdict(list)
    for names, place, chosen in _groups(rows):
        if not names:
            continue
        matrix = _matrix(chosen, len(names))
        columns = matrix.T if matrix is not None else zip(*(row.values() for row in chosen), strict=True)
        for name, values in zip(names, columns, strict=True):
            if isinstance(values, np.ndarray):
                found[name].append((place, np.ascontiguousarray(values)))
            else:
                _add_values(found, name, place, values)
    return {name: in_order(parts) for name, parts in found.items()}


def _groups(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, ...], Ints, Sequence[Row]]]:
    """Yield the rows that have the same names, and where they stand."""
    keys = list(map(tuple, rows))
    kinds = {names: code for code, names in enumerate(dict.fromkeys(keys))}
    if len(kinds) < 2:
        yield from [(keys[0], np.arange(len(rows)), rows)] if rows else []
        return
    codes = np.fromiter(map(kinds.__getitem__, keys), dtype=np.int64, count=len(keys))
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(kinds)))[:-1]
    for names, place in zip(kinds, np.split(order, ends), strict=True):
        yield names, place, [rows[i] for i in place.tolist()]


def _matrix(rows: Sequence[Row], width: int) -> Floats | None:
    """All values of rows at once where they are numbers; None where some are not."""
    if any(not isinstance(value, (int, float)) or isinstance(value, bool) for value in rows[0].values()):
        return None
    try:
        array = np.array(list(chain.from_iterable(map(_VALUES, rows))))
    except (ValueError, OverflowError):
        return None
    return array.astype(np.float64).reshape(-1, width) if array.dtype.kind in "iuf" else None


def _add_values(found: dict[str, list[tuple[Ints, Floats]]], name: str, place: Ints, values: tuple[Any, ...]) -> None:
    at, numbers = floats(values)
    found[name].append((place if at is None else place[at], numbers))
    nested = [i for i, value in enumerate(values) if isinstance(value, dict)] if at is not None else []
    if nested:
        for inner, (rows, below) in columns_of([flat(values[i]) for i in nested]).items():
            found[f"{name}/{inner}"].append((place[np.array(nested)][rows], below))


def _span(column: Column, start: int, stop: int) -> Column:
    if column.row is None:
        return Column(column.value[start:stop])
    first, last = np.searchsorted(column.row, (start, stop))
    rows = column.row[first:last] - start
    return Column(column.value[first:last], None if len(rows) == stop - start else rows)


def _moved(column: Column, place: Ints) -> Column:
    rows = place[column.rows()]
    order = np.argsort(rows)
    return Column(column.value[order], None if column.row is None else rows[order])


def in_order(parts: list[tuple[Ints, Floats]]) -> tuple[Ints, Floats]:
    """Return the parts of a column, each with its rows, as one in the order of the rows."""
    if len(parts) == 1:
        return parts[0]
    rows = np.concatenate([part[0] for part in parts])
    order = np.argsort(rows, kind="stable")
    return rows[order], np.concatenate([part[1] for part in parts])[order]
