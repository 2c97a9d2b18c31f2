"""Where the step goes back: a second run in the same file, or the same run resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lossmith.runs._axis import Axis
from lossmith.runs._table import Ints, Table

_MOST_BACKS = 2000


@dataclass(frozen=True, eq=False)
class Part:
    """Hold the rows of one run of a file, their axis, and what was understood."""

    table: Table
    axis: Axis
    notes: tuple[str, ...] = ()


def segments(table: Table, axis: Axis, names: Mapping[str, str]) -> list[Part]:
    """Split a table into its runs. A step that goes back to the beginning starts another run, else a resume.

    The beginning is the first step of the run so far, give or take one logging interval.
    """
    if axis.unit == "row" or table.count < 2 or bool((np.diff(axis.step) >= 0).all()):
        return [Part(table, axis)]
    rows = _rows_that_count(table, names)
    backs = int((np.diff(axis.step[rows]) < 0).sum())
    if backs > _MOST_BACKS or backs > max(20, len(rows) // 5):
        return [_sorted(table, axis, backs)]
    starts, resumes = _boundaries(axis.step, rows)
    edges = [0, *starts, table.count]
    parts = []
    for start, stop in pairwise(edges):
        notes = [_resumed(axis.step, at, axis.unit) for at in resumes if start < at < stop]
        if len(edges) > 2 and start == 0:
            notes.append(f"the {axis.unit} goes back to the beginning: {len(edges) - 1} runs in one file")
        parts.append(Part(table.span(start, stop), axis.span(start, stop), tuple(notes)))
    return parts


def _sorted(table: Table, axis: Axis, backs: int) -> Part:
    order = np.argsort(axis.step, kind="stable")
    note = f"the {axis.unit} goes back {backs} times: rows out of order, sorted by {axis.unit}"
    return Part(table.reordered(order), replace(axis, step=axis.step[order]), (note,))


def _rows_that_count(table: Table, names: Mapping[str, str]) -> Ints:
    """Rows with a train loss, else rows with an eval loss: those whose steps tell where the run stands."""
    for wanted in ("loss", "eval_loss"):
        rows = [column.rows() for raw, column in table.columns.items() if names.get(raw) == wanted]
        if rows and len(rows[0]) > 1:
            return rows[0]
    return np.arange(table.count)


def _boundaries(step: Ints, rows: Ints) -> tuple[list[int], list[int]]:
    """The rows at which another run starts, and those at which the same run was resumed."""
    at = step[rows]
    starts: list[int] = []
    resumes: list[int] = []
    first = 0
    backs = (np.flatnonzero(np.diff(at) < 0) + 1).tolist()
    for index, back in enumerate(backs):
        after = at[back : backs[index + 1] if index + 1 < len(backs) else len(at)]
        row = _edge(step, int(rows[back - 1]), int(rows[back]))
        if at[back] < at[first] + max(1, _interval(at[first:back]), _interval(after)):
            starts.append(row)
            first = back
        else:
            resumes.append(row)
    return starts, resumes


def _edge(step: Ints, before: int, after: int) -> int:
    """The first row between two rows with a loss whose step has gone back."""
    gone = step[before + 1 : after + 1] < step[before]
    return before + 1 + int(np.argmax(gone))


def _interval(steps: Ints) -> int:
    ahead: NDArray[np.int64] = np.diff(steps[:1000])
    ahead = ahead[ahead > 0]
    return int(np.median(ahead)) if len(ahead) else 0


def _resumed(step: Ints, row: int, unit: str) -> str:
    return f"the {unit} goes back from {int(step[row - 1])} to {int(step[row])}: a resume, all points kept in order"
