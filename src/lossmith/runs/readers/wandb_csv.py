"""W&B's CSV export of a chart: columns `RUN - METRIC`, with `__MIN` and `__MAX` beside them, one set a run."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from lossmith.runs import _names
from lossmith.runs._csv import Header, cells, table_of
from lossmith.runs._curve import Run
from lossmith.runs._table import Column, Table
from lossmith.runs._text import head_text
from lossmith.runs.readers.trackio import named_runs


class WandbCsv:
    """Read an exported chart."""

    name = "wandb_csv"
    rank = 6

    def sniff(self, path: Path) -> bool:
        """Return whether a column is named RUN - METRIC__MIN."""
        first = head_text(path).split(b"\n", 1)[0]
        return b" - " in first and b"__MIN" in first and b"," in first

    def read(self, path: Path) -> list[Run]:
        """Return one run for each run of the chart."""
        names = cells(head_text(path).split(b"\n", 1)[0].decode("utf-8", "replace"), ",")
        table, _ = table_of(path, Header(0, ",", names))
        shared = {
            name: column for name, column in table.columns.items() if _names.is_step(name) or _names.is_epoch(name)
        }
        runs: dict[str, dict[str, Column]] = defaultdict(dict)
        for name, column in table.columns.items():
            run, separator, metric = name.rpartition(" - ")
            if separator and not metric.endswith(("__MIN", "__MAX")) and not metric.startswith("_"):
                runs[run][metric] = column
        return named_runs(
            {run: Table(table.count, {**shared, **own}) for run, own in runs.items()}, str(path), "W&B export"
        )


READER = WandbCsv()
