"""A history as JSON: `{"loss": [...], "val_loss": [...]}`, Keras' `History.history` and what people save themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._csv import names_a_loss
from lossmith.runs._curve import Run
from lossmith.runs._json import document
from lossmith.runs._names import is_epoch, is_step
from lossmith.runs._series import table_of_series
from lossmith.runs._table import Builder, Table, flat, floats


class HistoryJson:
    """Read lists of numbers by name, or of [step, number]; several objects that hold such lists are several runs.

    A list that is shorter by a whole factor is spread evenly over the longest.
    """

    name = "history_json"
    rank = 20

    def sniff(self, path: Path) -> bool:
        """Return whether lists of numbers stand under names, one of them a loss."""
        return bool(_histories(document(path)))

    def read(self, path: Path) -> list[Run]:
        """Return the runs of the file."""
        runs: list[Run] = []
        for lists in _histories(document(path)):
            at = f"{path}#{len(runs) + 1}" if runs else str(path)
            runs.extend(_runs(lists, at))
        return runs


def _runs(lists: dict[str, list[Any]], source: str) -> list[Run]:
    if all(isinstance(values[0], list) for values in lists.values()):
        series = {name: tuple(zip(*values, strict=True)) for name, values in lists.items()}
        return runs_of(
            table_of_series({name: (steps, numbers) for name, (steps, numbers) in series.items()}),
            source,
            Form("history"),
        )
    lists = {name: values for name, values in lists.items() if not isinstance(values[0], list)}
    table, notes = _table(lists)
    counted = any(is_step(name) or is_epoch(name) for name in table.columns)
    tool = "Keras" if "loss" in lists and not counted else "history"
    return runs_of(table, source, Form(tool, unit=None if counted else "epoch", notes=notes))


def _histories(data: Any, depth: int = 0) -> list[dict[str, list[Any]]]:
    """The objects of a document whose lists hold a loss, the outermost ones."""
    if not isinstance(data, dict) or depth > 3:
        return []
    lists = {str(name): value for name, value in data.items() if isinstance(value, list) and _is_numbers(value)}
    if names_a_loss(list(lists)):
        return [lists]
    return [found for value in data.values() for found in _histories(value, depth + 1)] or _nested(data)


def _nested(data: dict[str, Any]) -> list[dict[str, list[Any]]]:
    """Lists whose loss is named by two levels: `{"train": {"nll": [...]}}`."""
    lists = {name: value for name, value in flat(data).items() if isinstance(value, list) and _is_numbers(value)}
    return [lists] if names_a_loss(list(lists)) else []


def _is_numbers(values: list[Any]) -> bool:
    if all(isinstance(value, list) and len(value) == 2 and floats(value)[1].size == 2 for value in values):
        return bool(values)
    return not any(isinstance(value, (list, dict)) for value in values) and floats(values)[1].size > 0


def _table(lists: dict[str, list[Any]]) -> tuple[Table, tuple[str, ...]]:
    longest = max(map(len, lists.values()))
    build, spread = Builder(), []
    columns = {}
    for name, values in lists.items():
        at, numbers = floats(values)
        rows = np.arange(len(values)) if at is None else at
        times = longest // len(values)
        if times > 1 and longest % len(values) == 0:
            rows = rows * times + times - 1
            spread.append(f"{name!r} ({len(values)})")
        columns[name] = (rows, numbers)
    build.add(longest, columns)
    notes = (f"shorter lists were spread evenly over the {longest} rows: {', '.join(spread)}",) if spread else ()
    return build.table(), notes


READER = HistoryJson()
