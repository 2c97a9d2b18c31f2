"""Gradient boosting's results as JSON: `evals_result()` saved, `{"train": {"logloss": [...]}, "valid": {...}}`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lossmith.runs._curve import Run
from lossmith.runs._json import document
from lossmith.runs._table import Builder, floats
from lossmith.runs.readers.boosting import LOSSES, boosting_runs


class EvalsResult:
    """Read data set → metric → list of numbers, one a round."""

    name = "evals_result"
    rank = 19

    def sniff(self, path: Path) -> bool:
        """Return whether a metric that boosting knows stands with its list under a data set."""
        found = _lists(document(path))
        return any(metric.rpartition("-")[2] in LOSSES for metric in found)

    def read(self, path: Path) -> list[Run]:
        """Return the run of the file."""
        lists = _lists(document(path))
        build = Builder()
        columns = {name: floats(values) for name, values in lists.items()}
        longest = max(map(len, lists.values()))
        columns["round"] = (None, np.arange(longest, dtype=np.float64))
        build.add(longest, columns)
        return boosting_runs(build, str(path), "gradient boosting")


def _lists(data: Any) -> dict[str, list[Any]]:
    if not isinstance(data, dict) or not all(isinstance(metrics, dict) for metrics in data.values()):
        return {}
    return {
        f"{name}-{metric}": values
        for name, metrics in data.items()
        for metric, values in metrics.items()
        if isinstance(values, list) and values
    }


READER = EvalsResult()
