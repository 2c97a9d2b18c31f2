"""Jupyter notebooks: whatever log stands in the outputs of their cells, and the tables that Trainers show there."""

from __future__ import annotations

import html
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lossmith.errors import DataError
from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._curve import Run
from lossmith.runs._json import document
from lossmith.runs._table import Table
from lossmith.runs._text import head

_ROW = re.compile(r"<tr[^>]{0,200}>(.*?)</tr>", re.DOTALL | re.IGNORECASE)
_CELL = re.compile(r"<t[hd][^>]{0,200}>(.*?)</t[hd]>", re.DOTALL | re.IGNORECASE)
_TAGS = re.compile(r"<[^>]{0,200}>")


class Notebook:
    """Read the outputs of each cell as a log of its own, with all readers."""

    name = "notebook"

    def sniff(self, path: Path) -> bool:
        """Return whether the file is a notebook by its name or its first lines."""
        start = head(path)
        return start.lstrip()[:1] == b"{" and (path.suffix == ".ipynb" or b'"cells"' in start[:2000])

    def read(self, path: Path) -> list[Run]:
        """Return the runs of all cells, in their order."""
        runs: list[Run] = []
        with tempfile.TemporaryDirectory(prefix="lossmith-cells-") as folder:
            for number, cell in enumerate(_cells(document(path))):
                outputs = [output for output in cell.get("outputs") or () if isinstance(output, dict)]
                tables = [
                    run for output in outputs for run in _html_runs(_text(_data(output).get("text/html")), str(path))
                ]
                found = tables or _cell_runs("\n".join(map(_output_text, outputs)), Path(folder))
                note = f"from the outputs of code cell {number + 1}"
                for run in found:
                    at = f"{path}#{len(runs) + 1}" if runs else str(path)
                    runs.append(replace(run, source=at, notes=(note, *run.notes)))
        return runs


def _cells(data: Any) -> Iterator[dict[str, Any]]:
    cells = data.get("cells") if isinstance(data, dict) else None
    for cell in cells if isinstance(cells, list) else ():
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            yield cell


def _output_text(output: dict[str, Any]) -> str:
    return _text(output.get("text")) or _text(_data(output).get("text/plain"))


def _data(output: dict[str, Any]) -> dict[str, Any]:
    data = output.get("data")
    return data if isinstance(data, dict) else {}


def _text(value: Any) -> str:
    """Notebooks keep a text as one string or as a list of lines."""
    return "".join(map(str, value)) if isinstance(value, list) else value if isinstance(value, str) else ""


def _cell_runs(text: str, folder: Path) -> list[Run]:
    from lossmith.runs.readers import readers  # here, as the table of readers holds this one

    path = folder / "cell.txt"
    path.write_bytes(text.encode("utf-8", "replace"))
    for reader in readers()[0] if text.strip() else ():
        try:
            runs = reader.read(path) if reader.sniff(path) else []
        except DataError:
            continue
        if runs:
            return runs
    return []


def _html_runs(text: str, source: str) -> list[Run]:
    """The table of a Hugging Face Trainer: Step or Epoch, Training Loss, Validation Loss."""
    rows = [[_plain(cell) for cell in _CELL.findall(row)] for row in _ROW.findall(text)]
    rows = [row for row in rows if row]
    if len(rows) < 2 or not any("loss" in name.lower() for name in rows[0]):
        return []
    table = Table.of(dict(zip(rows[0], row, strict=False)) for row in rows[1:])
    return runs_of(table, source, Form("Hugging Face Trainer (notebook)"))


def _plain(cell: str) -> str:
    return html.unescape(_TAGS.sub("", cell)).strip()


READER = Notebook()
