"""The learning rates still to come: as planned, where the log says so, or as the shape of what was logged says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lossmith.runs import Curve

Floats = NDArray[np.float64]
MOST = 512  # points of a schedule that are looked at
CLOSE = 0.01  # of the highest rate: how far a logged rate may be off a schedule that is taken for its own


def planned_end(rates: Curve) -> float | None:
    """Return the step at which the schedule that the logged rates follow reaches its end; None when they show none."""
    step, value = _after_warmup(rates)
    found = _linear(step, value) or _cosine(step, value)
    return found[0] if found else None


def planned_rates(rates: Curve, last: float) -> Curve:
    """Return the learning rate up to step `last`: as logged, then on along the schedule it has followed so far.

    A straight or cosine fall after the warm-up goes on to its end and stays there; any other shape keeps its last rate.
    """
    seen = rates.latest()
    if len(seen) < 3 or seen.step[-1] >= last:
        return seen
    future = np.linspace(float(seen.step[-1]) + 1, max(last, float(seen.step[-1]) + 2), 256)
    step, value = _after_warmup(seen)
    line, wave = _linear(step, value), _cosine(step, value)
    if line:
        rest = np.maximum(line[1] * (line[0] - future), 0.0)
    elif wave:
        end, low, high, start = wave
        rest = low + (high - low) * (1 + np.cos(np.pi * np.minimum((future - start) / (end - start), 1.0))) / 2
    else:
        rest = np.full(len(future), value[-1] if len(value) else seen.value[-1])
    steps = np.append(seen.step, future.astype(np.int64))
    return Curve(rates.name, steps, np.append(seen.value, rest))


def _after_warmup(rates: Curve) -> tuple[Floats, Floats]:
    seen = rates.latest()
    good = np.isfinite(seen.value)
    step, value = seen.step[good].astype(np.float64), seen.value[good]
    peak = float(value.max(initial=0.0))
    start = int(np.argmax(value >= peak * (1 - 1e-9))) if len(value) else 0
    some = np.unique(np.linspace(start, len(value) - 1, MOST).astype(int)) if len(value) else slice(0)
    return step[some], value[some]


def _linear(step: Floats, value: Floats) -> tuple[float, float] | None:
    """Return (end, slope) of value = slope·(end − step), when the rates lie on such a line."""
    if len(step) < 4 or value[-1] > 0.98 * value[0]:
        return None
    slope, base = np.polyfit(step, value, 1)
    if slope >= 0 or np.abs(base + slope * step - value).max() > CLOSE * value[0]:
        return None
    return float(-base / slope), float(-slope)


def _cosine(step: Floats, value: Floats) -> tuple[float, float, float, float] | None:
    """Return (end, lowest, highest, start) of the half cosine that the rates lie on."""
    if len(step) < 6 or value[-1] > 0.98 * value[0]:
        return None
    start, high, span = step[0], value[0], step[-1] - step[0]
    best = _half_wave(step - start, high - value, high, span * np.geomspace(1.0, 8.0, 200))
    if best is not None:  # the grid's steps are of 1 %: once more, between its neighbours
        best = _half_wave(step - start, high - value, high, best[1] * np.geomspace(0.99, 1.01, 81))
    if best is None or best[0] > CLOSE * high:
        return None
    return float(start + best[1]), max(float(high) - best[2], 0.0), float(high), float(start)


def _half_wave(after: Floats, fallen: Floats, high: float, lengths: Floats) -> tuple[float, float, float] | None:
    """Return error, length and depth of the half cosine of the best length."""
    best = None
    for length in lengths.tolist():
        shape = (1 - np.cos(np.pi * after / length)) / 2
        depth = float(shape @ fallen / (shape @ shape))
        error = float(np.abs(depth * shape - fallen).max())
        if 0 < depth <= high * (1 + CLOSE) and (best is None or error < best[0]):
            best = error, length, depth
    return best
