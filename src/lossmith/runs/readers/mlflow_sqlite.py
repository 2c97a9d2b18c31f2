"""MLflow's SQLite store (mlflow.db): the table `metrics(key, value, timestamp, run_uuid, is_nan, step)`."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

from lossmith.runs._curve import Run
from lossmith.runs._series import table_of_series
from lossmith.runs._sqlite import columns, opened
from lossmith.runs.readers.trackio import named_runs

Series = dict[str, tuple[list[float], list[float]]]


class MlflowSqlite:
    """Read every run of an MLflow database."""

    name = "mlflow_sqlite"

    def sniff(self, path: Path) -> bool:
        """Return whether the file is a database with MLflow's table."""
        return {"key", "value", "run_uuid", "step"} <= columns(path, "metrics")

    def read(self, path: Path) -> list[Run]:
        """Return the runs in the order in which they logged first."""
        runs: dict[str, Series] = defaultdict(lambda: defaultdict(lambda: ([], [])))
        query = "select run_uuid, key, step, value, is_nan from metrics order by timestamp, rowid"
        with opened(path) as database:
            for run, key, step, value, is_nan in database.execute(query):
                steps, values = runs[str(run)][str(key)]
                steps.append(step)
                values.append(math.nan if is_nan else value)
        return named_runs({name: table_of_series(series) for name, series in runs.items()}, str(path), "MLflow")


READER = MlflowSqlite()
