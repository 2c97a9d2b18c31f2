"""The curves of a run as panels: which lines, which reference lines, which axes; and loss.png."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.errors import InputError
from lossmith.runs import Curve, Run

Floats = NDArray[np.float64]

_LOG_Y = 10  # largest / smallest value from which on the y axis is logarithmic
_LOG_X = 20  # last / first step from which on the x axis may be, and …
_EARLY = 2 / 3  # … is when so much of the fall happens in the first tenth of the steps
_SMOOTHED = 60  # points from which on a smoothed line says more than the points themselves
_REFERENCES = {"uniform": "ln V (know nothing)", "unigram": "unigram model", "bigram": "bigram model"}


@dataclass(frozen=True)
class Line:
    """Hold a line of a panel; role is one of raw, train, eval, lr, speed and decides how it looks."""

    role: str
    label: str
    x: Floats
    y: Floats


@dataclass(frozen=True)
class Mark:
    """Hold a stretch of steps to point at, with a name; severity ("info", "warning", "error") decides its colour."""

    start: float
    stop: float
    label: str
    severity: str


@dataclass(frozen=True)
class Panel:
    """Describe a picture: lines, reference lines (label, value), steps with a non-finite value, marks, axes."""

    name: str
    title: str
    unit: str
    lines: tuple[Line, ...]
    references: tuple[tuple[str, float], ...] = ()
    broken: tuple[int, ...] = ()
    marks: tuple[Mark, ...] = ()
    log_x: bool = False
    log_y: bool = False
    from_zero: bool = False

    def limits(self) -> tuple[float, float, float, float]:
        """Return x_min, x_max, y_min, y_max over all finite points and references, y with a margin."""
        x = np.concatenate([line.x for line in self.lines] + [np.array(self.broken, dtype=np.float64)])
        y = np.concatenate([line.y for line in self.lines] + [np.array([v for _, v in self.references])])
        y = y[np.isfinite(y)]
        low, high = (float(y.min()), float(y.max())) if len(y) else (0.0, 1.0)
        if self.log_y:
            margin = (high / low) ** 0.05
            return float(x.min()), float(x.max()), low / margin, high * margin
        low = min(low, 0.0) if self.from_zero else low
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        return float(x.min()), float(x.max()), low if self.from_zero else low - margin, high + margin

    def note(self) -> str:
        """Say in a sentence what the axes and the marks are."""
        axes = [name for name, log in (("step", self.log_x), (self.title.lower(), self.log_y)) if log]
        said = f"Logarithmic axis: {' and '.join(axes)}. " if axes else "Both axes are linear. "
        if self.broken:
            said += f"Not finite at step {', '.join(map(str, self.broken[:3]))}{' …' if len(self.broken) > 3 else ''}. "
        return said.strip()


def loss_panel(run: Run, baselines: Sequence[dict[str, Any]] = ()) -> Panel | None:
    """Return the training and validation loss with the baselines that lie in their range; None without any point.

    The y axis is logarithmic when the largest loss is 10 × the smallest or more; the step axis when the last step is
    20 × the first (which is above 0) or more and two thirds of the fall happen in the first tenth of the steps.
    """
    train, evals = _curve(run, "loss"), _curve(run, "eval_loss")
    lines = [*_train_lines(train), *_line("eval", "validation", evals)]
    if not lines:
        return None
    shown = np.concatenate([line.y for line in lines])
    shown = shown[np.isfinite(shown)]
    return Panel(
        "loss",
        "Loss",
        loss_unit(run),
        tuple(lines),
        tuple(_references(baselines, shown)),
        tuple(int(s) for c in (train, evals) if c for s in c.step[~np.isfinite(c.value)]),
        log_x=all(line.x.min() > 0 for line in lines) and falls_early(train if train is not None else evals),
        log_y=len(shown) > 0 and shown.min() > 0 and bool(shown.max() >= _LOG_Y * shown.min()),
    )


def loss_unit(run: Run) -> str:
    """Return what the loss of a run is measured in: as recorded, else by the terms that were logged beside it.

    >>> loss_unit(Run("a", "lossmith", {}, {"unit": "pair"}))
    'nats per pair'
    """
    terms = [name.removeprefix("loss/") for name in run.curves if name.startswith("loss/")]
    summed = f"nats: weighted sum of {', '.join(terms)}" if len(terms) > 1 else ""
    return str(run.config.get("loss_unit") or summed or f"nats per {run.config.get('unit') or 'token'}")


def side_panels(run: Run) -> list[Panel]:
    """Return the panels of learning rate and of speed, those that the run has."""
    wanted = (
        ("learning_rate", "lr", "Learning rate", ""),
        ("tokens_per_second", "speed", "Speed", "tokens per second"),
    )
    panels = []
    for name, role, title, unit in wanted:
        lines = _line(role, title.lower(), _curve(run, name))
        if lines:
            panels.append(Panel(role, title, unit, lines, from_zero=True))
    return panels


def smooth(values: Floats, window: int) -> Floats:
    """Return the centred moving average over finite values, 2·window + 1 wide, narrower early on; NaN stays NaN.

    A centred mean does not lag behind a falling curve, as an exponential one does.

    >>> smooth(np.array([4.0, 2.0, 3.0, float("nan"), 1.0]), 1).tolist()
    [4.0, 3.0, 2.5, nan, 1.0]
    """
    finite = np.isfinite(values)
    sums = np.append(0.0, np.cumsum(np.where(finite, values, 0.0)))
    counts = np.append(0, np.cumsum(finite))
    at = np.arange(len(values))
    reach = np.minimum(window, (at + 2) // 3)  # a steep start is not flattened, on a logarithmic axis neither
    start, stop = at - reach, np.minimum(at + reach + 1, len(values))
    mean = (sums[stop] - sums[start]) / np.maximum(counts[stop] - counts[start], 1)
    return np.where(finite, mean, np.nan)


def thin(x: Floats, y: Floats, points: int = 600) -> tuple[Floats, Floats]:
    """Return at most about `points` points that keep the outline: the lowest and the highest of each stretch."""
    if len(x) <= points:
        return x, y
    stretch = -(-len(x) * 2 // points)
    keep: set[int] = {0, len(x) - 1}
    for start in range(0, len(x), stretch):
        part = y[start : start + stretch]
        if np.isfinite(part).all():
            keep |= {start + int(part.argmin()), start + int(part.argmax())}
        else:
            keep |= {start + int(i) for i in np.flatnonzero(~np.isfinite(part))[:1]}
    index = np.array(sorted(keep))
    return x[index], y[index]


def write_picture(panel: Panel, path: Path, kind: str = "png") -> None:
    """Write a panel to a file, kind "png" (1600 × 900 points) or "svg" (no pyplot, so no global state).

    A file that cannot be written is an InputError.
    """
    from lossmith.pictures._png import figure_of, fonts

    try:
        with fonts():
            figure_of(panel).savefig(path, format=kind)
    except OSError as error:
        raise InputError(f"{str(path)!r} must be a file that can be written: {error.strerror or error}") from error


def _curve(run: Run, name: str) -> Curve | None:
    curve = run.curves.get(name)
    return curve.latest() if curve is not None and len(curve) else None


def _line(role: str, label: str, curve: Curve | None) -> tuple[Line, ...]:
    if curve is None:
        return ()
    value = np.where(np.isfinite(curve.value), curve.value, np.nan)
    return (Line(role, label, *thin(curve.step.astype(np.float64), value)),)


def _train_lines(curve: Curve | None) -> tuple[Line, ...]:
    if curve is None:
        return ()
    if len(curve) < _SMOOTHED:
        return _line("train", "training", curve)
    window = max(1, len(curve) // 60)
    return (
        *_line("raw", "training, as logged", curve),
        *_line("train", "training, smoothed", Curve("loss", curve.step, smooth(curve.value, window))),
    )


def _references(baselines: Sequence[dict[str, Any]], shown: Floats) -> list[tuple[str, float]]:
    """Only the reference lines inside the range of the curves, or a little beside it, so that they never squeeze it."""
    if not len(shown):
        return []
    slack = 0.1 * float(np.ptp(shown))
    low, high = float(shown.min()) - slack, float(shown.max()) + slack
    found = [(_REFERENCES[b["name"]], float(b["nats_per_token"])) for b in baselines if b.get("name") in _REFERENCES]
    return [(label, value) for label, value in found if low <= value <= high]


def falls_early(curve: Curve | None) -> bool:
    """Whether two thirds of a curve's fall happen in the first tenth of its steps: a logarithmic axis shows more."""
    if curve is None:
        return False
    good = np.isfinite(curve.value) & (curve.step > 0)
    step, value = curve.step[good], curve.value[good]
    if len(step) < 3 or step[-1] < _LOG_X * step[0]:
        return False
    fall = float(value[0] - value[-1])
    early = float(value[0] - value[step <= step[-1] / 10][-1])
    return fall > 0 and early >= _EARLY * fall
