"""Bootstrap intervals and paired tests of figures that are functions of sums over documents, windows or examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lossmith.errors import InputError

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]  # sums [..., k] → value [...]

_GROUPS = 10_000  # more units than these are added up in so many random groups: sums vary as before, memory does not
_AT_ONCE = 4_000_000  # numbers drawn at a time


@dataclass(frozen=True)
class Resampling:
    """Say how to resample: how often, the share of the distribution an interval covers, the seed.

    Errors: InputError for fewer than 100 samples, or a confidence that is not between 0 and 1.
    """

    samples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 100:
            raise InputError(f"--bootstrap-samples must be 100 or more; got {self.samples}")
        if not 0 < self.confidence < 1:
            raise InputError(f"--confidence must be between 0 and 1 (exclusive); got {self.confidence}")

    def interval(self, values: Floats) -> tuple[float, float]:
        """Return the central interval of resampled values, float64[samples], those that are NaN left out.

        >>> Resampling(confidence=0.5).interval(np.arange(101.0))
        (25.0, 75.0)
        """
        values = values[~np.isnan(values)]
        if not len(values):
            return float("nan"), float("nan")
        low, high = np.quantile(values, [(1 - self.confidence) / 2, (1 + self.confidence) / 2])
        return float(low), float(high)


def sums_of_units(units: Floats, how: Resampling) -> Floats:
    """Return the column sums of n units drawn with replacement, float64[samples, k]; units float64[n, k].

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 6.

    >>> sums_of_units(np.ones((5, 1)), Resampling(samples=100)).ravel().tolist() == [5.0] * 100
    True
    """
    rng = np.random.default_rng(how.seed)
    units = _grouped(units, rng)
    n = len(units)
    step = max(1, _AT_ONCE // n)
    parts = [
        rng.multinomial(n, np.full(n, 1 / n), size=min(step, how.samples - start)) @ units
        for start in range(0, how.samples, step)
    ]
    return np.concatenate(parts)


def sums_of_cells(counts: NDArray[np.int64], how: Resampling) -> Floats:
    """Return resampled counts of cells, float64[samples, k]: what drawing Σ counts examples with replacement gives.

    Examples in the same cell are alike, so that one multinomial draw does for all of them, whatever their number.
    """
    total = int(counts.sum())
    rng = np.random.default_rng(how.seed)
    return rng.multinomial(total, counts / total, size=how.samples).astype(np.float64)


def p_value(differences: Floats) -> float:
    """Return the two-sided p of resampled differences against 0: 2·min(share ≤ 0, share ≥ 0), never 0.

    Source: Efron & Tibshirani 1993, section 15.4; +1 as in Davison & Hinkley 1997, section 4.2.

    >>> round(p_value(np.ones(999)), 3), p_value(np.zeros(999))
    (0.002, 1.0)
    """
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        return float("nan")
    tail = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(differences) + 1))


def _grouped(units: Floats, rng: np.random.Generator) -> Floats:
    n = len(units)
    if n <= _GROUPS:
        return units
    starts = np.linspace(0, n, _GROUPS, endpoint=False).astype(np.int64)
    grouped: Floats = np.add.reduceat(units[rng.permutation(n)], starts)
    return grouped
