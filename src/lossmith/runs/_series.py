"""Separate series of (step, value) laid side by side as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lossmith.runs._table import Builder, Floats, Table, floats


def table_of_series(series: Mapping[str, tuple[Sequence[Any], Sequence[Any]]]) -> Table:
    """Return a table with a column `step` and one column a series, a row for each step that any of them has.

    Where the steps of a series go back (a resume, another run), its next part begins; first parts come first.

    >>> table = table_of_series({"loss": ([1, 2, 1], [5.0, 4.0, 4.9]), "val_loss": ([2, 1], [4.5, 4.8])})
    >>> table.columns["step"].value.tolist(), table.columns["val_loss"].row.tolist()
    ([1.0, 2.0, 1.0], [1, 2])
    """
    parsed = {name: _points(steps, values) for name, (steps, values) in series.items()}
    parsed = {name: points for name, points in parsed.items() if len(points[0])}
    if not parsed:
        return Table(0, {})
    places = [np.stack((_part(steps), steps), axis=1) for steps, _ in parsed.values()]
    axis, rows = np.unique(np.concatenate(places), axis=0, return_inverse=True)
    ends = np.cumsum([len(place) for place in places])[:-1]
    build = Builder()
    columns = {
        name: (at, values) for (name, (_, values)), at in zip(parsed.items(), np.split(rows.ravel(), ends), strict=True)
    }
    build.add(len(axis), {"step": (None, axis[:, 1]), **columns})
    return build.table()


def _part(steps: Floats) -> Floats:
    """How often the steps have gone back, or stood still, before each point."""
    return np.append(0.0, np.cumsum(np.diff(steps) <= 0))


def _points(steps: Sequence[Any], values: Sequence[Any]) -> tuple[Floats, Floats]:
    at, numbers = floats(values)
    places, counted = floats(steps)
    if places is not None or len(counted) != len(values):
        full = np.full(len(values), np.nan)
        full[places if places is not None else slice(len(counted))] = counted
        counted = full
    chosen = counted if at is None else counted[at]
    keep = np.isfinite(chosen)
    return chosen[keep], numbers[keep]
