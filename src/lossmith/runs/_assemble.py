"""From a table to runs: names made one, the step axis chosen, ranks' duplicates removed, several runs told apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lossmith.runs import _names
from lossmith.runs._axis import Axis, axis_of
from lossmith.runs._curve import Curve, Run
from lossmith.runs._repeats import without_repeats
from lossmith.runs._segments import segments
from lossmith.runs._table import Column, Floats, Table

LN2 = float(np.log(2.0))


@dataclass(frozen=True)
class Form:
    """Say what a reader knows of its tool beyond the table.

    `names` maps columns to their names in a Run ("" drops one); `base2` names columns that are in bits; `unit` is what
    a step counts; `config` and `notes` go into each run.
    """

    tool: str
    names: Mapping[str, str] = field(default_factory=dict)
    base2: frozenset[str] = frozenset()
    unit: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def runs_of(table: Table, source: str, form: Form) -> list[Run]:
    """Return the runs a table holds; none where it holds no loss.

    >>> table = Table.of({"step": i % 3 * 10, "train_loss": 5.0 - i} for i in range(6))
    >>> [(run.source, run.curves["loss"].step.tolist()) for run in runs_of(table, "a.csv", Form("csv"))]
    [('a.csv', [0, 10, 20]), ('a.csv#2', [0, 10, 20])]
    """
    table = _in_nats(table.part(_useful(table)), form.base2)
    if not table.columns:
        return []
    names = {**_names.recognise({name: len(column) for name, column in table.columns.items()}), **form.names}
    if not {"loss", "eval_loss"} & {names[name] for name in table.columns}:
        return []
    chosen = next((raw for raw in table.columns if names[raw] == "eval_loss"), None)
    if chosen is not None and chosen not in form.names and _names.loss_rank(chosen) is None:
        form = replace(form, notes=(*form.notes, f"the eval loss is {chosen!r}: no other column is named so"))
    axis = axis_of(table, names, form.unit, int(form.config.get("steps_per_epoch", 0)))
    table, axis, removed = without_repeats(table, axis, names)
    parts = segments(table, axis, names)
    runs = []
    for index, part in enumerate(parts):
        notes = (*form.notes, *(removed if index == 0 else ()), *axis.notes, *part.notes)
        at = source if index == 0 else f"{source}#{index + 1}"
        runs.append(_run(part.table, part.axis, names, at, form, notes))
    return [run for run in runs if {"loss", "eval_loss"} & set(run.curves)]


def _useful(table: Table) -> Any:
    keep = np.zeros(table.count, dtype=bool)
    for column in table.columns.values():
        if column.row is None:
            return np.ones(table.count, dtype=bool)
        keep[column.row] = True
    return keep


def _in_nats(table: Table, bits: Iterable[str]) -> Table:
    found = {name: table.columns[name] for name in bits if name in table.columns}
    return table.replaced({name: Column(column.value * LN2, column.row) for name, column in found.items()})


def _run(table: Table, axis: Axis, names: Mapping[str, str], source: str, form: Form, notes: tuple[str, ...]) -> Run:
    curves: dict[str, Curve] = {}
    for raw, column in table.columns.items():
        name = names.get(raw, raw)
        if name and raw not in axis.columns:
            curves[name] = Curve(name, axis.step if column.row is None else axis.step[column.row], column.value)
    fixed = _unmasked(curves)
    if fixed:
        notes += (f"train loss 0.0 with grad_norm nan means NaN: {fixed} points made NaN",)
    config = {**form.config, "step_unit": axis.unit}
    if axis.factor != 1:
        config["step_factor"] = axis.factor
    return Run(source, form.tool, curves, config, notes)


def _unmasked(curves: dict[str, Curve]) -> int:
    """Make NaN what a trainer logged as 0.0 because its gradients were NaN; return how many points that were."""
    loss, norm = curves.get("loss"), curves.get("grad_norm")
    if loss is None or norm is None:
        return 0
    masked = (loss.value == 0.0) & np.isin(loss.step, norm.step[np.isnan(norm.value)])
    if len(loss) == len(norm):  # logged in the same rows
        masked = (loss.value == 0.0) & np.isnan(norm.value)
    if masked.any():
        value: Floats = np.where(masked, np.nan, loss.value)
        curves["loss"] = Curve("loss", loss.step, value)
    return int(masked.sum())
