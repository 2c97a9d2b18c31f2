"""Findings while a run goes on, told to whoever hears of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lossmith.diagnosis import Watch
from lossmith.train.reporter import Reporter
from lossmith.train.scale import Scale


class FindingsReporter(Reporter):
    """Judge the rows of metrics.jsonl as they come, and tell `listeners` what is newly wrong."""

    def __init__(self, listeners: Sequence[Reporter]) -> None:
        super().__init__()
        self._listeners = listeners
        self._watch = Watch()

    def start(self, total_steps: int, scale: Scale) -> None:
        """Begin to watch a run of so many steps."""
        self._watch = Watch(total_steps, loss_unit=scale.unit.replace("/", " per "))

    def row(self, kind: str, row: dict[str, Any]) -> None:
        """Judge what has been logged so far."""
        for finding in self._watch.log(row) if kind == "metrics" else ():
            for listener in self._listeners:
                listener.finding(finding)
