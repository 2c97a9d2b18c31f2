"""What a run will reach: the loss at a later step, when a target is met, what twice the steps would buy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lossmith.diagnosis._laws import Blocks, Fit, Rates, fit
from lossmith.diagnosis._plan import planned_end, planned_rates
from lossmith.errors import InputError
from lossmith.runs import Curve, Run

Floats = NDArray[np.float64]
FEWEST = 8  # finite points below which nothing is said
FARTHEST = 64.0  # times the steps done: how far a target is looked for

# Quantiles of the scaled error, log(truth / forecast) / scale, over the curves of benchmarks/forecast_backtest.py
# (`--calibrate` prints them; each source of curves counts as the square root of its number of curves).
QUANTILES = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
ERRORS = (-4.89, -2.69, -1.67, -0.49, -0.02, 0.32, 0.92, 2.19, 3.29)


@dataclass(frozen=True)
class Estimate:
    """A number with the interval that holds it in `level` of the cases."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """What is expected of a run.

    value, low, high: the level of the loss at `at_step`, and the interval that holds it in `level` of the cases (the
    level, not a single noisy point). now: its level at the last logged step. doubled: the level that a run of twice
    the steps of `at_step`, with the same shape of schedule, would end at. reach_step: the first step whose level is at
    or below `target`, with the earliest and latest that the interval allows; None: not within 64 times the steps done,
    or not before the schedule's rate is zero. law, parameters: what was fitted (exponent a, annealing C, noise
    of one point and spread of the forecast, the last two in the logarithm of the loss).
    """

    curve: str
    at_step: int
    value: float
    low: float
    high: float
    level: float
    now: float
    doubled: Estimate
    target: float | None
    reach_step: int | None
    reach_low: int | None
    reach_high: int | None
    law: str
    parameters: dict[str, float] = field(default_factory=dict)


def forecast(
    run: Run,
    *,
    curve: str = "loss",
    steps: int | None = None,
    target: float | None = None,
    level: float = 0.8,
) -> Forecast:
    """Extrapolate a curve of a run.

    Formula: L(s) = exp(b + C·η̄(s)/η_max)·S(s)^−a, where the exponent a does a random walk that is estimated from the
    curve, S is the sum of the learning rates and η̄ their smoothed value; without a (changing) learning rate S is the
    step and C is 0. Values at or below 0 make it a straight line in log S instead. The interval is that of past errors
    at the same scale, which comes from the filter's own spread, the fall that is forecast and how far ahead it is.

    steps: the step to forecast; default: `max_steps` of the run's configuration, else the end of the schedule that the
    logged learning rates follow, else the last step. Learning rates logged beyond the last loss are the plan. level:
    of the interval, at most 0.95.

    Errors: InputError when the curve is missing, has fewer than 8 finite points, or ends in NaN or inf; when `steps`
    lies before its last step; when `level` or `target` is not a usable number.
    Source: https://arxiv.org/abs/2408.11029 (learning rate); A. C. Harvey, Forecasting, structural time series models
    and the Kalman filter, 1989; https://arxiv.org/abs/2107.07511 (intervals from past errors: split conformal).

    >>> import numpy as np
    >>> steps = np.arange(10, 1001, 10)
    >>> run = Run("a", "lossmith", {"loss": Curve("loss", steps, 6.0 * steps**-0.1)})
    >>> ahead = forecast(run, steps=2000, target=2.8)
    >>> round(ahead.value, 2), round(6.0 * 2000**-0.1, 2), ahead.low < ahead.value < ahead.high
    (2.82, 2.81, True)
    """
    seen = _usable(run, curve, level, target)
    shift = _shift(seen.step)
    last = int(seen.step[-1])
    rates = run.curves.get("learning_rate")
    at_step = _end(run, rates, last) if steps is None else steps
    if at_step < last:
        raise InputError(f"steps must be at or after the last step of {curve!r}, {last}; got {steps}")
    far = max(at_step + shift, (last + shift) * (FARTHEST if target is not None else 1.0))
    blocks = Blocks.of(seen.step.astype(np.float64) + shift, seen.value)
    law = fit(blocks, _rates(rates, last, shift, far))
    end, spread = _estimate(law, at_step + shift, level)
    reach = (None, None, None) if target is None else _reach(law, blocks, target, level, far)
    reached = [None if step is None else int(np.ceil(step - shift)) for step in reach]
    return Forecast(
        curve=curve,
        at_step=at_step,
        value=end.value,
        low=end.low,
        high=end.high,
        level=level,
        now=float(law.value(law.at(np.array([law.last]))[0])[0]),
        doubled=_estimate(law, at_step + shift, level, stretch=2.0)[0],
        target=target,
        reach_step=reached[0],
        reach_low=reached[1],
        reach_high=reached[2],
        law=_name(law),
        parameters=law.parameters() | {"spread": spread},
    )


def _usable(run: Run, name: str, level: float, target: float | None) -> Curve:
    """Return the finite points of the curve, each step once."""
    if name not in run.curves:
        have = ", ".join(sorted(run.curves)) or "none"
        raise InputError(f"curve must be one that the run has ({have}); got {name!r}")
    if not 0 < level <= 0.95:
        raise InputError(f"level must be in (0, 0.95]; got {level!r}")
    if target is not None and not np.isfinite(target):
        raise InputError(f"target must be a finite loss; got {target!r}")
    latest = run.curves[name].latest()
    good = np.isfinite(latest.value)
    if good.sum() < FEWEST:
        raise InputError(f"a forecast needs {FEWEST} finite points of {name!r}; got {good.sum()}")
    if not good[-1]:
        raise InputError(f"{name!r} ends in {latest.value[-1]}: there is nothing to forecast; resume before it broke")
    return Curve(name, latest.step[good], latest.value[good])


def _shift(step: NDArray[np.int64]) -> float:
    """Return what to add to steps that start at 0 (or below), so that the first stands one interval after nothing."""
    return float(np.median(np.diff(step))) - float(step[0]) if step[0] <= 0 else 0.0


def _end(run: Run, rates: Curve | None, last: int) -> int:
    planned = run.config.get("max_steps")
    if isinstance(planned, int) and planned > last:
        return planned
    end = planned_end(rates) if rates is not None and len(rates) else None
    return max(last, round(end)) if end is not None and end < last * FARTHEST else last


def _rates(rates: Curve | None, last: int, shift: float, far: float) -> Rates | None:
    if rates is None or not len(rates):
        return None
    plan = planned_rates(rates, far - shift)
    return Rates.of(Curve(plan.name, plan.step + round(shift), plan.value), last + shift, far)


def _interval(law: Fit, step: Floats, level: float, stretch: float = 1.0) -> tuple[Floats, Floats, Floats, Floats]:
    """Return forecast, low and high at steps, and the scale of the error in the law's own (logarithmic) level."""
    middle, spread = law.at(step, stretch)
    now = law.at(np.array([law.last]))[0]
    fall, ahead = np.abs(middle - now), np.log(step / law.last * stretch)
    scale = np.sqrt(spread**2 + fall**3 + (fall / 4) ** 2 + (0.02 * ahead) ** 2)
    low, high = np.interp(((1 - level) / 2, (1 + level) / 2), QUANTILES, ERRORS)
    return law.value(middle), law.value(middle + low * scale), law.value(middle + high * scale), scale


def _estimate(law: Fit, step: float, level: float, stretch: float = 1.0) -> tuple[Estimate, float]:
    value, low, high, scale = (float(x[0]) for x in _interval(law, np.array([step]), level, stretch))
    return Estimate(value, low, high), scale


def _reach(
    law: Fit, blocks: Blocks, target: float, level: float, far: float
) -> tuple[float | None, float | None, float | None]:
    """Return the step at which the level is at the target, the earliest and the latest."""
    if (blocks.level <= target).any():
        step = float(blocks.step[np.argmax(blocks.level <= target)])
        return step, step, step
    steps = np.geomspace(law.last, far, 512)
    middle, low, high, _ = _interval(law, steps, level)
    return _first(steps, middle <= target), _first(steps, low <= target), _first(steps, high <= target)


def _first(steps: Floats, met: NDArray[np.bool_]) -> float | None:
    return float(steps[np.argmax(met)]) if met.any() else None


def _name(law: Fit) -> str:
    if not law.logarithmic:
        return "line in log steps, drifting"
    return "power law, drifting exponent" + (", annealing" if law.rates is not None else "")
