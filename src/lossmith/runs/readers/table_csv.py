"""Separated values of any tool: a header line with recognisable names above lines of numbers."""

from __future__ import annotations

from pathlib import Path

from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._csv import find_header, table_of
from lossmith.runs._curve import Run


class TableCsv:
    """Read CSV, TSV and the like: Keras' CSVLogger, Lightning's metrics.csv, hand-written logs."""

    name = "csv"
    rank = 7

    def sniff(self, path: Path) -> bool:
        """Return whether a header that names a loss stands above numbers."""
        return find_header(path) is not None

    def read(self, path: Path) -> list[Run]:
        """Return the runs of the file."""
        header = find_header(path)
        if header is None:
            return []
        table, odd = table_of(path, header)
        notes = (f"{odd} rows have another number of cells than the header: left out",) if odd else ()
        return runs_of(table, str(path), Form(_tool(path, header.names), notes=notes))


def _tool(path: Path, names: tuple[str, ...]) -> str:
    if path.name == "metrics.csv" and {"epoch", "step"} <= set(names):
        return "Lightning"
    if names[0] == "epoch" and "loss" in names and "step" not in names:
        return "Keras"
    return "CSV"


READER = TableCsv()
