"""Dictionaries that Hugging Face's Trainer (TRL, axolotl, LlamaFactory) prints: `{'loss': 0.2051, 'epoch': 0.53}`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._curve import Run
from lossmith.runs._lines import Line, Row, hinted
from lossmith.runs._table import Builder, Column, Table
from lossmith.runs._text import blocks

_PAIRS = rb"""['"]([^'"\n]{1,80})['"]: ?(?:[a-z]{2,8}\.[a-z]+\d*\()?['"]?(<>)(?:/\d+)?['"]?(?=\)?[,}])"""
_LINE = Line(rb"(?P<body>\{ ?['\"][^'\"\n]{1,80}['\"]: [^{}\n]{1,8000}\})", b"loss", _PAIRS)
_BAR = re.compile(rb"(\d+)/(\d+) \[\d")


class PrintedDicts:
    """Read printed dictionaries with a loss, or an epoch beside metrics.

    They hold no step and the epoch with two decimals. Where the run ended and its progress bar tells the number of
    steps, the steps are computed from that; else the epoch is the axis.
    """

    name = "hf_dicts"
    rank = 8

    def sniff(self, path: Path) -> bool:
        """Return whether a printed dictionary holds a loss."""
        return bool(hinted(path, [_LINE])) and any(
            _wanted(row) for block in blocks(path) for _, row in _LINE.rows(block)
        )

    def read(self, path: Path) -> list[Run]:
        """Return the runs of the file."""
        build = Builder()
        totals: set[int] = set()
        ends: list[Row] = []
        for block in blocks(path):
            rows = [_with_swift_step(row) for _, row in _LINE.rows(block) if _wanted(row)]
            ends += [row for row in rows if "train_runtime" in row]
            build.add_rows([row for row in rows if "train_runtime" not in row])
            totals |= {int(total) for _, total in set(_BAR.findall(block))}
        table, notes = with_steps(build.table(), ends, totals)
        return runs_of(table, str(path), Form("Hugging Face Trainer (printed)", notes=notes))


def _wanted(row: Row) -> bool:
    return "epoch" in row or any("loss" in name for name in row)


def _with_swift_step(row: Row) -> Row:
    """ms-swift prints the step as 'global_step/max_steps': '5/500'."""
    return {"step" if name == "global_step/max_steps" else name: number for name, number in row.items()}


def with_steps(table: Table, ends: Iterable[Row], totals: set[int]) -> tuple[Table, tuple[str, ...]]:
    """Return the table with a step column where the steps of the whole run are known, and a note that says so."""
    ends = [dict(items) for items in {tuple(sorted(row.items())) for row in ends}]
    epoch = table.columns.get("epoch")
    if len(ends) != 1 or epoch is None or "step" in table.columns:
        return table, ()
    end = ends[0]
    about = end.get("train_runtime", 0.0) * end.get("train_steps_per_second", 0.0)
    fits = [total for total in totals if total > 1 and abs(total - about) <= 0.02 * about]
    if len(fits) != 1 or not end.get("epoch") or (np.diff(epoch.value) < 0).any():
        return table, ()
    step = np.rint(epoch.value * fits[0] / end["epoch"])
    note = f"steps computed from the epoch: {fits[0]} steps (progress bar) in {end['epoch']:g} epochs"
    return table.replaced({"step": Column(step, epoch.row)}), (note,)


READER = PrintedDicts()
