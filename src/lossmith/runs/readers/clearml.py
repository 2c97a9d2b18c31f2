"""ClearML: scalars saved as JSON, `{"loss": {"train": {"x": [...], "y": [...]}}}`; an offline task's metrics.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._curve import Run
from lossmith.runs._fast import loads
from lossmith.runs._json import document
from lossmith.runs._names import words
from lossmith.runs._series import table_of_series
from lossmith.runs._text import head, lines_of

Series = dict[str, tuple[list[Any], list[Any]]]
_EVENT = b'"type": "training_stats_scalar"'


class ClearML:
    """Read title → series → x and y (`Task.get_reported_scalars()` saved as JSON), or lists of reported events."""

    name = "clearml"
    rank = 4

    def sniff(self, path: Path) -> bool:
        """Return whether the file holds reported events, or series with x and y of one length under titles."""
        return _EVENT in head(path)[:2000] or bool(_series(document(path)))

    def read(self, path: Path) -> list[Run]:
        """Return the run of the file."""
        series = _events(path) if _EVENT in head(path)[:2000] else _series(document(path))
        return runs_of(table_of_series(series), str(path), Form("ClearML", unit="iteration"))


def _events(path: Path) -> Series:
    """The scalars of an offline task: lines that each hold a list of events."""
    found: Series = {}
    for line in lines_of(path):
        try:
            events = loads(line)
        except (ValueError, RecursionError):
            continue  # the last line, cut off
        for event in events if isinstance(events, list) else [events]:
            if isinstance(event, dict) and {"metric", "value", "iter"} <= set(event):
                x, y = found.setdefault(_key(str(event["metric"]), str(event.get("variant", ""))), ([], []))
                x.append(event["iter"])
                y.append(event["value"])
    return found


def _key(title: str, series: str) -> str:
    """One name of two: series that bear the title's own name say nothing new, loss/loss is the loss."""
    return title if not series or words(title) == words(series) else f"{title}/{series}"


def _series(data: Any) -> Series:
    if not isinstance(data, dict):
        return {}
    found: Series = {}
    for title, group in data.items():
        for name, points in group.items() if isinstance(group, dict) else ():
            if isinstance(points, dict) and _is_points(points.get("x"), points.get("y")):
                found[_key(title, name)] = (points["x"], points["y"])
    return found


def _is_points(x: Any, y: Any) -> bool:
    return isinstance(x, list) and isinstance(y, list) and len(x) == len(y) > 0


READER = ClearML()
