"""trackio: an SQLite table `metrics(run_name, step, timestamp, metrics)`, a JSON object of numbers a row."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._curve import Run
from lossmith.runs._sqlite import columns, opened
from lossmith.runs._table import Table, flat


class Trackio:
    """Read every run of a trackio project."""

    name = "trackio"

    def sniff(self, path: Path) -> bool:
        """Return whether the file is a database with trackio's table."""
        return {"run_name", "step", "metrics"} <= columns(path, "metrics")

    def read(self, path: Path) -> list[Run]:
        """Return the runs in the order in which they began."""
        rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        with opened(path) as database:
            for run, step, metrics in database.execute("select run_name, step, metrics from metrics order by rowid"):
                rows[str(run)].append({"_step": step, **_numbers(metrics)})
        return named_runs({name: Table.of(found) for name, found in rows.items()}, str(path), "trackio")


def _numbers(text: Any) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}
    return flat(data) if isinstance(data, dict) else {}


def named_runs(tables: dict[str, Table], source: str, tool: str) -> list[Run]:
    """Return the runs of several tables of one file, numbered, each with its name in its configuration."""
    runs: list[Run] = []
    for name, table in tables.items():
        for run in runs_of(table, source, Form(tool, config={"run_name": name})):
            at = source if not runs else f"{source}#{len(runs) + 1}"
            runs.append(Run(at, run.tool, run.curves, run.config, run.notes))
    return runs


READER = Trackio()
