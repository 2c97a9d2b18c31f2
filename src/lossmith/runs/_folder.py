"""Read a run folder of ours: run.json and metrics.jsonl."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lossmith.errors import DataError
from lossmith.runs._curve import Curve, Run
from lossmith.runs._numbers import parse_number


def read_run(folder: str | Path) -> Run:
    """Read the curves of a run folder from its metrics.jsonl, under the names they were logged with.

    Every number of a line that has a step becomes a point of the curve of that name. A last line that a crash cut off
    is left out; a broken line before it is a DataError that names file and line, as is a folder without metrics.jsonl.

    >>> read_run("no/such/run")
    Traceback (most recent call last):
    lossmith.errors.DataError: no/such/run is no run folder: expected a file metrics.jsonl in it, found no such folder
    """
    folder = Path(folder)
    path = folder / "metrics.jsonl"
    if not path.is_file():
        found = "none" if folder.is_dir() else "no such folder"
        raise DataError(f"{folder} is no run folder: expected a file metrics.jsonl in it, found {found}")
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in json_lines(path):
        _add(points, line)
    curves = {name: Curve.of(name, pairs) for name, pairs in points.items()}
    return Run(str(folder), "lossmith", curves, read_json(folder / "run.json"))


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file; a cut-off last line is dropped, any other broken line is a DataError."""
    with path.open("rb") as file:
        broken: tuple[int, bytes] | None = None
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            if broken:
                raise DataError(_broken(path, *broken))
            line = _parse(raw)
            if line is None:
                broken = number, raw
            else:
                yield line


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one when there is no such file; DataError when it holds none."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, got {error}; restore it or remove it") from None
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(data).__name__}")
    return data


def _parse(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _broken(path: Path, number: int, raw: bytes) -> str:
    shown = raw[:80].decode("utf-8", "replace").strip()
    return f"{path}, line {number}: expected one JSON object, got {shown!r}; remove or mend this line"


def _add(points: dict[str, list[tuple[float, float]]], line: dict[str, Any]) -> None:
    step = parse_number(line.get("step"))
    if step is None or not abs(step) < 2**63:
        return
    for name, value in line.items():
        number = parse_number(value) if name != "step" else None
        if number is not None:
            points[name].append((step, number))


def terms_of(result: dict[str, Any]) -> dict[str, float]:
    """Return the averages that the loss of an evaluation is the weighted sum of, by name.

    >>> terms_of({"eval_loss": 5.375, "eval_loss/masked": 4.75, "eval_loss/next_sentence": 0.625})
    {'masked': 4.75, 'next_sentence': 0.625}
    """
    return {key.split("/", 1)[1]: float(value) for key, value in result.items() if key.startswith("eval_loss/")}
