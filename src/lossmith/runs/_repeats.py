"""The same row logged once per rank (or printed twice): told from a run that stands still, and removed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lossmith.runs import _names
from lossmith.runs._axis import Axis
from lossmith.runs._table import Ints, Table

_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


def without_repeats(table: Table, axis: Axis, names: Mapping[str, str]) -> tuple[Table, Axis, tuple[str, ...]]:
    """Drop rows that repeat an earlier row of the same step in everything but time, speed and memory.

    Where the log has no steps, a row that equals the one before it may be a run that stands still; those go only when
    every row stands there equally often.
    """
    logged = axis.unit != "row" and bool(axis.columns or axis.factor != 1)
    if table.count < 2 or (logged and bool((np.diff(axis.step) > 0).all())):
        return table, axis, ()
    key = _keys(table, axis, names)
    exact = logged and axis.factor == 1
    repeat = _again(key, axis.step)
    if not exact:
        repeat = _copies(key) | (repeat & ~_trained(table, names) if logged else False)
    if not repeat.any():
        return table, axis, ()
    kept = ~repeat
    note = f"the same row was logged once per rank, or printed twice: {int(repeat.sum())} duplicates removed"
    axis = axis.part(kept)
    if axis.unit == "row":
        axis = Axis(np.arange(int(kept.sum())), "row", notes=axis.notes)
    return table.part(kept), axis, (note,)


def _trained(table: Table, names: Mapping[str, str]) -> NDArray[np.bool_]:
    """Which rows have a train loss: their epochs are rounded, so equal ones need not be of one step."""
    trained = np.zeros(table.count, dtype=bool)
    for raw, column in table.columns.items():
        if names.get(raw) == "loss":
            trained |= column.present(table.count)
    return trained


def _keys(table: Table, axis: Axis, names: Mapping[str, str]) -> NDArray[np.uint64]:
    """One number a row that is equal where the rows are."""
    key = axis.step.astype(np.uint64) if axis.unit != "row" else np.zeros(table.count, dtype=np.uint64)
    for index, (raw, column) in enumerate(sorted(table.columns.items())):
        if _names.is_clock(raw) and names.get(raw) not in ("loss", "eval_loss"):
            continue
        bits = (column.value + 0.0).view(np.uint64) + np.uint64(index + 1)
        rows = column.rows()
        with np.errstate(over="ignore"):
            mixed = (key[rows] ^ bits) * _MIX
        key[rows] = mixed ^ (mixed >> _SHIFT)
    return key


def _again(key: NDArray[np.uint64], step: Ints) -> NDArray[np.bool_]:
    """Which rows are equal to an earlier one."""
    repeat = np.zeros(len(key), dtype=bool)
    if bool((np.diff(step) >= 0).all()):
        repeat[1:] = (np.diff(step) == 0) & (key[1:] == key[:-1])
        return repeat
    _, first = np.unique(key, return_index=True)
    repeat[:] = True
    repeat[first] = False
    return repeat


def _copies(key: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which rows are copies, when every row stands there k times in a row, k > 1."""
    new = np.append(True, key[1:] != key[:-1])
    lengths = np.diff(np.append(np.flatnonzero(new), len(key)))
    times = int(np.gcd.reduce(lengths[:-1])) if len(lengths) > 3 else 1
    if times < 2 or (lengths[-1] % times and lengths[-1] > times):
        return np.zeros(len(key), dtype=bool)
    starts = np.flatnonzero(new)
    place = np.arange(len(key)) - np.repeat(starts, lengths)
    copies: NDArray[np.bool_] = place % times != 0
    return copies
