"""A list of rows as one JSON document: `[{"step": 0, "train/loss": 9.3}, ...]`, alone or under a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._curve import Run
from lossmith.runs._json import document
from lossmith.runs._table import Table
from lossmith.runs.readers.jsonl import has_loss


class RowsJson:
    """Read a JSON list of objects that hold numbers by name."""

    name = "rows_json"
    rank = 25

    def sniff(self, path: Path) -> bool:
        """Return whether a list of rows with a loss is in the document."""
        return bool(_tables(document(path)))

    def read(self, path: Path) -> list[Run]:
        """Return the runs of the first list that holds a loss."""
        return [run for rows in _tables(document(path))[:1] for run in runs_of(Table.of(rows), str(path), Form("JSON"))]


def _tables(data: Any, depth: int = 0) -> list[list[dict[str, Any]]]:
    if isinstance(data, list):
        rows = [row for row in data if isinstance(row, dict)]
        return [rows] if rows and has_loss(rows) else []
    if isinstance(data, dict) and depth < 3:
        return [rows for value in data.values() for rows in _tables(value, depth + 1)]
    return []


READER = RowsJson()
