"""The step axis of a table: the column that counts steps, else the epoch, else the row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lossmith.runs import _names
from lossmith.runs._table import Floats, Ints, Table

_WHOLE = 2.0**53
_FACTORS = (1, 10, 100, 1000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True, eq=False)
class Axis:
    """Hold the step of each row, what a step is, by how much it was multiplied, and the columns it came from."""

    step: Ints
    unit: str
    factor: int = 1
    columns: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def part(self, keep: NDArray[np.bool_]) -> Axis:
        """Return the axis of the rows to keep."""
        return self if keep.all() else replace(self, step=self.step[keep])

    def span(self, start: int, stop: int) -> Axis:
        """Return the axis of the rows from `start` to before `stop`."""
        return replace(self, step=self.step[start:stop])


def axis_of(table: Table, names: Mapping[str, str], unit: str | None = None, per_epoch: int = 0) -> Axis:
    """Choose the axis that most rows with a loss have: steps, else epochs, else the rows themselves.

    Steps that begin anew with every epoch are counted on: `per_epoch` tells the steps of an epoch, where it is known.
    """
    counts = {name: len(column) for name, column in table.columns.items()}
    measured = np.zeros(table.count, dtype=bool)
    for raw, column in table.columns.items():
        if names.get(raw) in ("loss", "eval_loss"):
            measured |= column.present(table.count)
    for choices, kind in (
        (_chosen(table, names, "step") or _names.steps(counts), "step"),
        (_names.epochs(counts), "epoch"),
    ):
        for name in choices:
            if _covers(table, name, measured):
                return _chosen_axis(table, name, unit, kind, per_epoch)
    note = "no column counts steps or epochs: the row is taken for the step"
    return Axis(np.arange(table.count), unit or "row", notes=() if unit else (note,))


def whole_steps(values: Floats, factor: int | None = None) -> tuple[Ints, int]:
    """Return counts as whole numbers, and by what they were multiplied: epochs are often logged as fractions.

    The smallest power of ten that makes all of them whole, a million at most, unless `factor` is given.

    >>> whole_steps(np.array([0.25, 0.5, 1.0])), whole_steps(np.array([10.0, 20.0]))
    ((array([ 25,  50, 100]), 100), (array([10, 20]), 1))
    """
    factor = factor or _factor(values[np.isfinite(values)])
    clipped = np.clip(np.nan_to_num(values * factor, nan=0.0), -_WHOLE, _WHOLE)
    return np.rint(clipped).astype(np.int64), factor


def _factor(finite: Floats) -> int:
    biggest = float(np.abs(finite).max(initial=1.0))
    for factor in _FACTORS:
        scaled = finite * factor
        if np.allclose(scaled, np.rint(scaled), rtol=0, atol=1e-6 * factor**0.5) or biggest * factor * 10 > _WHOLE:
            return factor
    return _FACTORS[-1]


def _chosen_axis(table: Table, name: str, unit: str | None, kind: str, per_epoch: int) -> Axis:
    if kind == "epoch":
        return _from_column(table, name, unit or kind, kind)
    axis = _from_column(table, name, unit or _names.unit(name), kind)
    for epoch in _names.epochs({name: len(column) for name, column in table.columns.items()}):
        axis = _counted_on(axis, table, epoch, per_epoch)
    return axis


def _counted_on(axis: Axis, table: Table, name: str, per_epoch: int) -> Axis:
    """Add the steps of the epochs before, where the step goes back exactly when the epoch goes up."""
    values = table.columns[name].dense(table.count)
    missing = np.isnan(values)
    if missing.all() or axis.step.min(initial=0) < 0:
        return axis
    epochs = _carried(values, missing)
    back = np.diff(axis.step) < 0
    up = np.diff(epochs) > 0
    if not back.any() or (epochs != np.rint(epochs)).any() or (back & ~up).any() or (np.diff(epochs) < 0).any():
        return axis
    size = per_epoch or int(axis.step.max()) + int(axis.step.min() == 0)
    step = axis.step + ((epochs - epochs[0]) * size).astype(np.int64)
    note = f"the {axis.unit} begins anew with every epoch: counted on by {size} an epoch"
    return replace(axis, step=step, notes=(*axis.notes, note))


def _chosen(table: Table, names: Mapping[str, str], wanted: str) -> list[str]:
    return [raw for raw in table.columns if names.get(raw) == wanted and not _names.is_step(raw)]


def _covers(table: Table, name: str, measured: NDArray[np.bool_]) -> bool:
    column = table.columns[name]
    present = column.present(table.count)
    if np.isfinite(column.value).mean() < 0.5:
        return False
    if len(column) > 2 and not column.value.any():
        return False  # a counter that stays at 0 counts something else
    return bool((present & measured).sum() * 2 >= measured.sum())


def _from_column(table: Table, name: str, unit: str, kind: str) -> Axis:
    column = table.columns[name]
    values = column.dense(table.count)
    notes: tuple[str, ...] = ()
    missing = np.isnan(values)
    if missing.any():
        values = _carried(values, missing)
        notes = (f"{int(missing.sum())} rows without {name!r} were placed at the {unit} of the row before them",)
    step, factor = whole_steps(values)
    if factor != 1:
        notes += (f"steps are {name!r} × {factor}: the log counts fractions of an {unit}",)
    used = frozenset({name}) if kind == "step" or factor == 1 else frozenset()
    return Axis(step, unit, factor, used, notes)


def _carried(values: Floats, missing: NDArray[np.bool_]) -> Floats:
    """Fill gaps with the last number before them, those at the start with the first."""
    last = np.maximum.accumulate(np.where(missing, -1, np.arange(len(values))))
    first = int(np.argmax(~missing))
    return values[np.where(last < 0, first, last)]
