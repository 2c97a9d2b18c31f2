"""The law a forecast extrapolates: a power law whose exponent drifts, on an axis that knows the learning rate.

log L(s) = log-level + C·η̄(s)/η_max, where the log-level is a straight line in log S(s) whose slope (minus the exponent)
does a random walk and fades by `FADE` an e-fold. S is the sum of the learning rates up to s, η̄ the learning rate
smoothed over `LAGS` of the run: annealing takes off what the noise of large steps had put on. Without a learning rate,
or with a constant one, S is the step and C is 0. How fast the exponent drifts, C and the lag are averaged over, each
with the likelihood that the run itself gives it.
Sources: https://arxiv.org/abs/2408.11029 (sum and annealing of the rate), Harvey, Forecasting, structural time series
models and the Kalman filter (1989), §2.3 (the filter), Gardner and McKenzie, Management Science 31 (1985) (fading).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from lossmith.runs import Curve

Floats = NDArray[np.float64]
BLOCKS = 96  # a curve is cut into at most so many blocks, evenly in the logarithm of the step
DRIFTS = np.geomspace(1e-6, 10.0, 18)  # variance of the slope's change, an e-fold
FADE = 0.2  # part of the slope that is lost an e-fold
GAINS = (0.0, 0.015, 0.03, 0.045, 0.06, 0.08, 0.12)  # C: what annealing to zero takes off, as a part of the loss
GAIN, GAIN_SPREAD = 0.045, 0.02  # expected before a run is seen: 27 language models of MultiPowerLaw
LAGS = (0.03, 0.1, 0.3)  # of the steps seen so far
MISFIT = 1e-3  # of the loss: how far off a block the rate's part of the law is taken to be
GRID = 1024


@dataclass(frozen=True, eq=False)
class Blocks:
    """A curve in blocks: mean step, level (median, or the mean of less than 5) and number of points of each."""

    step: Floats
    level: Floats
    count: Floats

    @classmethod
    def of(cls, step: Floats, value: Floats) -> Blocks:
        """Cut finite points in order of their steps; steps must be above 0."""
        edges = np.geomspace(step[0], step[-1] * (1 + 1e-9), BLOCKS + 1)
        cuts = np.unique(np.append(np.searchsorted(step, edges[:-1]), (0, len(step))))
        spans = [slice(a, b) for a, b in pairwise(cuts.tolist())]
        levels = [np.median(value[s]) if s.stop - s.start >= 5 else value[s].mean() for s in spans]
        return cls(np.array([step[s].mean() for s in spans]), np.array(levels), np.diff(cuts).astype(np.float64))

    def noise(self, level: Floats) -> float:
        """Return the robust standard deviation of one point, from how far each block is off its neighbours' line."""
        off = np.diff(level, 2) / np.sqrt(6) * np.sqrt(self.count[1:-1])
        return max(1.4826 * float(np.median(np.abs(off))), 1e-6)


@dataclass(frozen=True, eq=False)
class Rates:
    """The learning rate as a part of its highest value, on a grid of steps that reaches into the future."""

    grid: Floats
    rate: Floats
    _smooth: dict[float, Floats] = field(default_factory=dict)

    @classmethod
    def of(cls, rates: Curve, last: float, end: float) -> Rates | None:
        """Put logged and planned rates on a grid to step `last` and on to `end`; None where they stay the same."""
        good = np.isfinite(rates.value) & (rates.step <= end)
        step, value = rates.step[good].astype(np.float64), rates.value[good]
        peak = float(value.max(initial=0.0))
        if len(value) < 3 or peak <= 0 or float(value.min()) > 0.98 * peak:
            return None
        grid = np.linspace(0.0, last, GRID + 1)
        if end > last:
            grid = np.append(grid, np.linspace(last, end, GRID // 2 + 1)[1:])
        return cls(grid, np.interp(grid, step, value / peak))

    def total(self) -> Floats:
        """Return the sum of the rates up to each step of the grid, in steps at the highest rate."""
        parts = np.diff(self.grid) * (self.rate[1:] + self.rate[:-1]) / 2
        return np.cumsum(np.append(self.grid[1] * 1e-2, parts))

    def lagged(self, lag: float) -> Floats:
        """Return the rate smoothed exponentially over `lag` steps; computed once a lag."""
        if lag in self._smooth:
            return self._smooth[lag]
        keep = np.exp(-np.diff(self.grid) / lag).tolist()
        out = self.rate.tolist()
        for i, kept in enumerate(keep, 1):
            out[i] = kept * out[i - 1] + (1 - kept) * out[i]
        self._smooth[lag] = np.array(out)
        return self._smooth[lag]

    def smooth_at(self, step: Floats, lags: Floats) -> Floats:
        """Return the smoothed rate at steps, a row a lag."""
        rows = {lag: np.interp(step, self.grid, self.lagged(lag)) for lag in set(lags.tolist())}
        return np.stack([rows[lag] for lag in lags.tolist()])


@dataclass(frozen=True, eq=False)
class Fit:
    """What was learned of a curve up to its last block, for each hypothesis about C, lag and drift.

    level, slope: mean of the state, [hypotheses, drifts]; spread: its covariance, [3, hypotheses, drifts];
    weight: posterior probability. gain, lag: C and lag of each hypothesis. unit: 1 for logarithms; else the curve has
    values at or below 0 and its levels are multiples of `unit`, not logarithms. noise: of one point about the level.
    """

    level: Floats
    slope: Floats
    spread: Floats
    weight: Floats
    gain: Floats
    lag: Floats
    unit: float
    logarithmic: bool
    last: float
    noise: float
    rates: Rates | None

    def at(self, step: Floats, stretch: float = 1.0) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the (logarithmic) level at steps; `stretch`: with so many times more.

        Stretching keeps the shape of the schedule: the sum of the rates grows and the rate at the end is the same.
        """
        ahead, off = self._ahead(step)
        ahead = np.maximum(ahead + np.log(stretch), 0.0)[:, None, None]
        kept = np.exp(-FADE * ahead)
        reach = (1 - kept) / FADE
        mean = self.level + reach * self.slope + off[:, :, None]
        p00, p01, p11 = self.spread
        variance = p00 + 2 * reach * p01 + reach**2 * p11 + DRIFTS * ahead**3 / 3
        middle = (self.weight * mean).sum(axis=(1, 2))
        variance = (self.weight * (variance + (mean - middle[:, None, None]) ** 2)).sum(axis=(1, 2))
        return middle, np.sqrt(variance)

    def value(self, level: Floats) -> Floats:
        """Return the loss that a level stands for."""
        return np.exp(level) if self.logarithmic else level * self.unit

    def parameters(self) -> dict[str, float]:
        """Return the exponent at the last step (−d log L / d log S), C, and the noise of one point."""
        exponent = -float((self.weight * self.slope).sum())
        return {"exponent": exponent, "annealing": float(self.weight.sum(axis=1) @ self.gain), "noise": self.noise}

    def _ahead(self, step: Floats) -> tuple[Floats, Floats]:
        """Return how far ahead steps lie, in e-folds of S, and the part of the level that the rate there adds."""
        if self.rates is None:
            return np.log(step / self.last), np.zeros((len(step), 1))
        total = np.interp(np.append(step, self.last), self.rates.grid, self.rates.total())
        smooth = self.rates.smooth_at(step, self.lag)
        return np.log(total[:-1] / total[-1]), (self.gain[:, None] * smooth).T


def fit(blocks: Blocks, rates: Rates | None) -> Fit:
    """Run the filter over the blocks for all hypotheses at once."""
    logarithmic = bool((blocks.level > 0).all())
    unit = 1.0 if logarithmic else float(np.abs(blocks.level).mean()) or 1.0
    level = np.log(blocks.level) if logarithmic else blocks.level / unit
    last = float(blocks.step[-1])
    pairs = [(0.0, 1.0)] if rates is None else [(c, lag * last) for lag, c in product(LAGS, GAINS)]
    gain, lag = np.array(pairs).T
    if rates is None:
        axis, levels = np.log(blocks.step), level[None]
    else:
        axis = np.log(np.interp(blocks.step, rates.grid, rates.total()))
        levels = level - gain[:, None] * rates.smooth_at(blocks.step, lag)
    noise = blocks.noise(level)
    misfit = 0.0 if rates is None else MISFIT
    state, likelihood = _filter(np.diff(axis), levels, noise**2 / blocks.count + misfit**2)
    if rates is not None:
        likelihood = likelihood - 0.5 * ((gain - GAIN) / GAIN_SPREAD)[:, None] ** 2
    weight = np.exp(likelihood - likelihood.max())
    weight /= weight.sum()
    return Fit(state[0], state[1], state[2:], weight, gain, lag, unit, logarithmic, last, noise, rates)


def _filter(gaps: Floats, levels: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Return the final state (level, slope, covariance) of a local line with a fading slope, and its log-likelihood."""
    shape = (len(levels), len(DRIFTS))
    level, slope = np.repeat(levels[:, :1], len(DRIFTS), axis=1), np.zeros(shape)
    p00, p01, p11 = np.full(shape, 0.01), np.zeros(shape), np.ones(shape)
    likelihood = np.zeros(shape)
    for i in range(levels.shape[1]):
        if i:
            gap = gaps[i - 1]
            kept = np.exp(-FADE * gap)
            reach = (1 - kept) / FADE
            level, slope = level + reach * slope, kept * slope
            p00 = p00 + 2 * reach * p01 + reach**2 * p11 + DRIFTS * gap**3 / 3
            p01 = kept * (p01 + reach * p11) + DRIFTS * gap**2 / 2
            p11 = kept**2 * p11 + DRIFTS * gap
        expected, off = p00 + variance[i], levels[:, i, None] - level
        likelihood = likelihood - 0.5 * (np.log(expected) + off**2 / expected)
        level, slope = level + p00 / expected * off, slope + p01 / expected * off
        p11, p01, p00 = p11 - p01**2 / expected, p01 * (1 - p00 / expected), p00 * (1 - p00 / expected)
    return np.stack([level, slope, p00, p01, p11]), likelihood
