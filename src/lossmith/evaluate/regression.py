"""MSE, MAE, R², Pearson and Spearman of predicted numbers, with intervals and paired tests."""

from __future__ import annotations

import numpy as np

from lossmith.errors import DataError
from lossmith.evaluate.bootstrap import Floats, Resampling, Statistic, p_value, sums_of_units
from lossmith.evaluate.outcome import Difference, Figure, Outcome, Yardstick, compare_units, figures_of

RANKED = 20_000  # examples up to which Spearman has an interval: every resample is ranked anew
N, X, Y, XX, YY, XY, SQUARED, ABS = range(8)


def _spread(s: Floats, square: int, plain: int) -> Floats:
    """Squared distances from the mean; NaN where only rounding tells the values of a resample apart."""
    found: Floats = s[..., square] - s[..., plain] ** 2 / s[..., N]
    return np.where(found > 1e-12 * s[..., square], found, np.nan)


def _pearson(s: Floats) -> Floats:
    together = s[..., XY] - s[..., X] * s[..., Y] / s[..., N]
    return np.clip(together / np.sqrt(_spread(s, XX, X)) / np.sqrt(_spread(s, YY, Y)), -1, 1)


STATISTICS: dict[str, Statistic] = {
    "mse": lambda s: s[..., SQUARED] / s[..., N],
    "mae": lambda s: s[..., ABS] / s[..., N],
    "r2": lambda s: 1 - s[..., SQUARED] / _spread(s, XX, X),
    "pearson": _pearson,
}


def spearman(true: Floats, predicted: Floats) -> Floats:
    """Return Spearman's ρ along the last axis, [..., n] → [...]: Pearson of the ranks, ties share their mean rank.

    Source: Spearman 1904, The American Journal of Psychology 15(1).

    >>> float(spearman(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.5, 9.0])).round(6))
    1.0
    """
    from scipy.stats import rankdata  # type: ignore[import-untyped]

    ranks = [rankdata(values, axis=-1) - (values.shape[-1] + 1) / 2 for values in (true, predicted)]
    sizes = [np.sqrt((rank**2).sum(-1)) for rank in ranks]
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (ranks[0] * ranks[1]).sum(-1) / (sizes[0] * sizes[1])
    return found


def regression_outcome(true: Floats, predicted: Floats, how: Resampling, task: str = "regression") -> Outcome:
    """Return the figures of predictions beside the mean of the labels; true and predicted float64[n].

    task "similarity" has the correlations alone, since the scale of a similarity means nothing.
    Errors: DataError where the labels are all the same, or a value is not finite.
    """
    _check(true, predicted)
    units = _moments(true, predicted)
    statistics = _statistics(task)
    figures = figures_of(statistics, units.sum(0), sums_of_units(units, how), how)
    outcome = Outcome(task, len(true), "examples", [*figures, _spearman_figure(true, predicted, how)])
    outcome.counts = {"examples": len(true)}
    if task == "regression":
        constant = _moments(true, np.full(len(true), true.mean())).sum(0)
        guess = {name: float(STATISTICS[name](constant)) for name in ("mse", "mae")} | {"r2": 0.0}
        outcome.yardsticks = [Yardstick("mean", "always the mean label", guess)]
    if np.ptp(predicted) == 0:
        outcome.notes.append("all predictions are the same: a correlation is not defined")
    return outcome


def _statistics(task: str) -> dict[str, Statistic]:
    return STATISTICS if task == "regression" else {"pearson": _pearson}


def _check(true: Floats, predicted: Floats) -> None:
    for what, values in (("label", true), ("prediction", predicted)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataError(f"the {what} in row {bad[0] + 1} is {values[bad[0]]}: expected a finite number")
    if np.ptp(true) == 0:
        raise DataError(
            f"all {len(true)} labels are {true[0]:g}: R² and the correlations need labels that differ. Give more rows"
        )


def _moments(true: Floats, predicted: Floats) -> Floats:
    """Each about its own mean, and what lies between them by itself: differences of large sums would lose it."""
    x, y, residual = true - true.mean(), predicted - predicted.mean(), predicted - true
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y, residual**2, np.abs(residual)], 1)


def _resampled(how: Resampling, n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(how.seed)
    step = max(1, 2_000_000 // n)
    return [rng.integers(0, n, (min(step, how.samples - start), n)) for start in range(0, how.samples, step)]


def _spearman_figure(true: Floats, predicted: Floats, how: Resampling) -> Figure:
    value = float(spearman(true, predicted))
    if len(true) > RANKED or np.isnan(value):
        return Figure("spearman", value)
    drawn = [spearman(true[rows], predicted[rows]) for rows in _resampled(how, len(true))]
    return Figure("spearman", value, *how.interval(np.concatenate(drawn)))


def compare_regression(
    true: Floats, ours: Floats, other: Floats, how: Resampling, task: str = "regression"
) -> list[Difference]:
    """Return ours − other for each figure, by a bootstrap that draws whole examples."""
    _check(true, other)
    found = compare_units(_statistics(task), _moments(true, ours), _moments(true, other), how)
    return [*found, _spearman_difference(true, ours, other, how)]


def _spearman_difference(true: Floats, ours: Floats, other: Floats, how: Resampling) -> Difference:
    first, second = float(spearman(true, ours)), float(spearman(true, other))
    if len(true) > RANKED:
        return Difference("spearman", first, second, first - second, None, None, None)
    moved = np.concatenate(
        [spearman(true[rows], ours[rows]) - spearman(true[rows], other[rows]) for rows in _resampled(how, len(true))]
    )
    return Difference("spearman", first, second, first - second, *how.interval(moved), p_value(moved))
