"""Curve JSON: the interchange form, `{"source": {...}, "train": [[step, loss], ...], "eval": ..., "lr": ...}`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lossmith.errors import DataError
from lossmith.runs._axis import whole_steps
from lossmith.runs._curve import Curve, Run
from lossmith.runs._numbers import json_number, parse_number
from lossmith.runs._table import Floats

# Curve JSON has short names of its own; a Run speaks the names Hugging Face logs.
_NAMES = {"train": "loss", "eval": "eval_loss", "lr": "learning_rate", "grad_norm": "grad_norm"}


def to_curve_json(run: Run) -> dict[str, Any]:
    """Return the run as Curve JSON: its loss, eval loss, learning rate and gradient norm, as far as it has them.

    Non-finite numbers become the strings "nan", "inf", "-inf"; `json.dumps(..., allow_nan=False)` accepts the result.

    >>> to_curve_json(Run("runs/a", "lossmith", {"loss": Curve.of("loss", [(1, 5.0), (2, float("nan"))])}))
    {'source': {'path': 'runs/a', 'tool': 'lossmith'}, 'train': [[1, 5.0], [2, 'nan']], 'eval': []}
    """
    out: dict[str, Any] = {"source": {"path": run.source, "tool": run.tool}}
    for key, name in _NAMES.items():
        curve = run.curves.get(name)
        if curve is not None or key in ("train", "eval"):
            out[key] = [] if curve is None else _points(curve)
    return out


def from_curve_json(data: Any) -> Run:
    """Return the run a Curve JSON object describes; a malformed one is a DataError that names the place.

    >>> run = from_curve_json({"source": {"tool": "lossmith"}, "train": [[1, 5.0], [2, "nan"]], "eval": []})
    >>> run.tool, run.curves["loss"].step.tolist(), run.curves["loss"].value.tolist()
    ('lossmith', [1, 2], [5.0, nan])
    """
    if not isinstance(data, dict):
        raise DataError(f"Curve JSON must be an object with 'source', 'train', 'eval'; got {type(data).__name__}")
    source = data.get("source", {})
    source = source if isinstance(source, dict) else {"path": str(source)}
    points = {
        _NAMES.get(str(key), str(key)): _points_of(key, value) for key, value in data.items() if _is_curve(key, value)
    }
    steps = np.concatenate([steps for steps, _ in points.values()] or [np.empty(0)])
    _, factor = whole_steps(steps)
    curves = {name: Curve(name, whole_steps(at, factor)[0], values) for name, (at, values) in points.items() if len(at)}
    config: dict[str, Any] = {"step_unit": "step" if factor == 1 else "epoch"}
    if factor != 1:
        config["step_factor"] = factor
    notes = (f"steps are the log's × {factor}: it counts fractions of an epoch",) if factor != 1 else ()
    tool = str(source.get("tool", source.get("format", "unknown")))
    return Run(str(source.get("path", "")), tool, curves, config, notes)


def _points(curve: Curve) -> list[list[float | str]]:
    return [[int(step), json_number(value)] for step, value in zip(curve.step, curve.value, strict=True)]


def _is_curve(key: str, value: Any) -> bool:
    """The four known names must hold points; of other entries, those that do are curves too."""
    return key in _NAMES or (isinstance(value, list) and bool(value) and all(_pair(point) for point in value))


def _points_of(key: str, points: Any) -> tuple[Floats, Floats]:
    if not isinstance(points, list) and points is not None:
        raise DataError(f"Curve JSON: {key!r} must be a list of [step, value]; got {type(points).__name__}")
    pairs = []
    for index, point in enumerate(points or ()):
        pair = _pair(point)
        if pair is None:
            raise DataError(f"Curve JSON: {key}[{index}] must be [step, value] with two numbers; got {str(point)[:80]}")
        pairs.append(pair)
    array = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _pair(point: Any) -> tuple[float, float] | None:
    if isinstance(point, list) and len(point) == 2:
        step, value = parse_number(point[0]), parse_number(point[1])
        if step is not None and value is not None and abs(step) < 2**62:
            return step, value
    return None
