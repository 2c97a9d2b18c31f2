"""Curve JSON: the interchange form, `{"source": {...}, "train": [[step, loss], ...], "eval": ..., "lr": ...}`."""

from __future__ import annotations

from typing import Any

from lossmith.errors import DataError
from lossmith.runs._curve import Curve, Run
from lossmith.runs._numbers import json_number, parse_number

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
    curves = {name: _curve(name, key, data[key]) for key, name in _NAMES.items() if data.get(key)}
    tool = str(source.get("tool", source.get("format", "unknown")))
    return Run(str(source.get("path", "")), tool, curves)


def _points(curve: Curve) -> list[list[float | str]]:
    return [[int(step), json_number(value)] for step, value in zip(curve.step, curve.value, strict=True)]


def _curve(name: str, key: str, points: Any) -> Curve:
    if not isinstance(points, list):
        raise DataError(f"Curve JSON: {key!r} must be a list of [step, value]; got {type(points).__name__}")
    return Curve.of(name, [_pair(key, i, point) for i, point in enumerate(points)])


def _pair(key: str, index: int, point: Any) -> tuple[float, float]:
    if isinstance(point, list) and len(point) == 2:
        step, value = parse_number(point[0]), parse_number(point[1])
        if step is not None and value is not None and abs(step) < 2**63:
            return step, value
    raise DataError(f"Curve JSON: {key}[{index}] must be [step, value] with two numbers; got {str(point)[:80]}")
