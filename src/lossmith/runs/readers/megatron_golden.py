"""Megatron-LM golden values: `{"lm loss": {"step_interval": 5, "values": {"1": 13.05, "5": "nan"}}}`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._curve import Run
from lossmith.runs._json import document
from lossmith.runs._table import Table, number


class MegatronGolden:
    """Read golden values; the string "nan" stands for a step that was not run, and is left out."""

    name = "megatron_golden"
    rank = 17

    def sniff(self, path: Path) -> bool:
        """Return whether the file holds curves by name, with their steps."""
        data = document(path)
        return isinstance(data, dict) and bool(data) and all(map(_is_curve, data.values()))

    def read(self, path: Path) -> list[Run]:
        """Return the run of the file."""
        rows: dict[int, dict[str, Any]] = defaultdict(dict)
        missing = 0
        for name, curve in document(path).items():
            for step, value in _values(curve):
                if value in ("nan", None):
                    missing += 1
                elif (step_number := number(step)) is not None:
                    rows[int(step_number)][name] = value
        notes = (f'{missing} values "nan" mean steps that were not run: left out',) if missing else ()
        table = Table.of({"step": step, **rows[step]} for step in sorted(rows))
        return runs_of(table, str(path), Form("Megatron-LM", names={"lm loss": "loss"}, unit="iteration", notes=notes))


def _is_curve(curve: Any) -> bool:
    return isinstance(curve, dict) and isinstance(curve.get("values"), (dict, list)) and "step_interval" in curve


def _values(curve: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Older files list the values, an interval apart."""
    values = curve["values"]
    if isinstance(values, dict):
        return list(values.items())
    start, interval = number(curve.get("start_step")) or 0.0, number(curve["step_interval"]) or 1.0
    return [(start + i * interval, value) for i, value in enumerate(values)]


READER = MegatronGolden()
