"""Long tables: a row a number, `run,tag,step,value` (tbparse, MLflow, Aim) or TensorBoard's `Wall time,Step,Value`."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from lossmith.runs import _names
from lossmith.runs._csv import cells
from lossmith.runs._curve import Run
from lossmith.runs._series import table_of_series
from lossmith.runs._text import head_text, lines_of
from lossmith.runs.readers.trackio import named_runs

_TAG = ("tag", "tags", "metric", "metric name", "name", "key", "series", "variable", "scalar")
_RUN = ("run", "run name", "run id", "run hash", "run uuid", "experiment")
_SIDE = ("subset", "metric context subset", "context", "metric context", "split", "mode", "dataset")
Series = dict[str, tuple[list[str], list[str]]]


class TidyCsv:
    """Read tables with one number a row."""

    name = "tidy_csv"
    rank = 6

    def sniff(self, path: Path) -> bool:
        """Return whether the header has a step and a value, and a tag or a file name that means a loss."""
        places = _places(path)
        return "value" in places and "step" in places and ("tag" in places or bool(_tag_of(path)))

    def read(self, path: Path) -> list[Run]:
        """Return the runs of the file."""
        places = _places(path)
        lines = (line.decode("utf-8", "replace").replace("\x00", "") for line in lines_of(path))
        rows = csv.reader(lines, delimiter=_separator(path), skipinitialspace=True)
        next(rows, None)
        runs: dict[str, Series] = defaultdict(lambda: defaultdict(lambda: ([], [])))
        for row in rows:
            if len(row) > max(places.values()):
                run = row[places["run"]] if "run" in places else ""
                tag = row[places["tag"]] if "tag" in places else _tag_of(path)
                steps, values = runs[run][_with_side(tag, row[places["side"]]) if "side" in places else tag]
                steps.append(row[places["step"]])
                values.append(row[places["value"]])
        tables = {run: table_of_series(series) for run, series in runs.items()}
        return named_runs(tables, str(path), "scalars table")


def _separator(path: Path) -> str:
    first = head_text(path).split(b"\n", 1)[0]
    return max(",;\t|", key=lambda separator: first.count(separator.encode()))


def _places(path: Path) -> dict[str, int]:
    """Where step, value, tag, run and side stand."""
    header = cells(head_text(path).split(b"\n", 1)[0].decode("utf-8", "replace"), _separator(path))
    joined = [" ".join(_names.words(name)) for name in header]
    places = {}
    for role, known in (("tag", _TAG), ("run", _RUN), ("side", _SIDE), ("value", ("value", "metric value", "y"))):
        found = [joined.index(name) for name in known if name in joined]
        if found:
            places[role] = found[0]
    steps = [index for index, name in enumerate(header) if _names.is_step(name)]
    return {**places, "step": steps[0]} if steps else places


def _with_side(tag: str, side: str) -> str:
    told = _names.side(side)
    return f"{'val' if told == 'eval' else told}_{tag}" if told and not _names.side(tag) else tag


def _tag_of(path: Path) -> str:
    """TensorBoard's download names the file run-RUN-tag-TAG.csv."""
    tag = path.stem.rpartition("tag-")[2]
    run = _names.side(path.stem.rpartition("-tag-")[0])
    if _names.loss_rank(tag) is None:
        return ""
    return f"val_{tag}" if run == "eval" and not _names.side(tag) else tag


READER = TidyCsv()
