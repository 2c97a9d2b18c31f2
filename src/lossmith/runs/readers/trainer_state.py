"""Hugging Face Trainer: trainer_state.json, with the rows it logged under `log_history`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._curve import Run
from lossmith.runs._json import load
from lossmith.runs._table import Table
from lossmith.runs._text import head

_CONFIG = ("max_steps", "num_train_epochs", "train_batch_size", "logging_steps", "eval_steps", "best_metric")


class TrainerState:
    """Read trainer_state.json; `train_loss` in its last row is the mean over the run and goes to the configuration."""

    name = "trainer_state"

    def sniff(self, path: Path) -> bool:
        """Return whether the file is named trainer_state*.json or has a log_history."""
        start = head(path)
        if start.lstrip()[:1] != b"{":
            return False
        return b'"log_history"' in start or path.name.startswith("trainer_state")

    def read(self, path: Path) -> list[Run]:
        """Return the run of the file."""
        data = load(path)
        rows = data.get("log_history") if isinstance(data, dict) else None
        if not isinstance(rows, list):
            return []
        rows = [row for row in rows if isinstance(row, dict)]
        config = {key: data[key] for key in _CONFIG if data.get(key) is not None}
        config |= _summary(rows)
        rows = [row for row in rows if "train_runtime" not in row]
        return runs_of(Table.of(rows), str(path), Form("Hugging Face Trainer", config=config))


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the trainer says at the end of a run: the mean train loss and the seconds it took."""
    last: dict[str, Any] = next((row for row in reversed(rows) if "train_runtime" in row), {})
    names = {"train_loss": "mean_train_loss", "train_runtime": "train_runtime", "total_flos": "total_flos"}
    return {name: last[key] for key, name in names.items() if key in last}


READER = TrainerState()
