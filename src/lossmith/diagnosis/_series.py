"""A curve made ready for checks: finite points in order, its level, its noise and its trend, all robust.

Everything is O(n) with numpy, so that a million points take a fraction of a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lossmith.runs import Curve

Floats = NDArray[np.float64]
LONG = 5000  # points from which on medians are taken of blocks
MAD = 1.4826  # a normal distribution's standard deviation over its median absolute deviation


@dataclass(frozen=True, eq=False)
class Series:
    """The finite points of a curve.

    `step` and `value` are vectors of one length; `raw` is the curve as logged, its NaN and inf included.
    """

    raw: Curve
    step: Floats
    value: Floats

    @classmethod
    def of(cls, curve: Curve | None) -> Series:
        """Return the finite points of a curve; none of them where there is no curve."""
        if curve is None:
            return cls(Curve.of("", []), np.empty(0), np.empty(0))
        good = np.isfinite(curve.value)
        return cls(curve, curve.step[good].astype(np.float64), curve.value[good])

    def __len__(self) -> int:
        return len(self.value)

    def part(self, start: int, stop: int | None = None) -> Series:
        """Return points start … stop, by index."""
        return Series(self.raw, self.step[start:stop], self.value[start:stop])

    def reduced(self, points: int) -> Series:
        """Return at most so many points: the medians of blocks, of their steps as well as of their values."""
        return Series(self.raw, block_medians(self.step, points), block_medians(self.value, points))

    @cached_property
    def smooth(self) -> Floats:
        """The running median, over about a thirtieth of the points (at least 5)."""
        return running_median(self.value, window_of(len(self)))

    @cached_property
    def noise(self) -> float:
        """The robust standard deviation of one point: of neighbours' differences, or of the distances to `smooth`."""
        if len(self) < 3:
            return 0.0
        return max(spread(np.diff(self.value)) / 2**0.5, spread(self.value - self.smooth))

    @cached_property
    def first(self) -> float:
        """The level at the start: the median of the first few points."""
        return float(np.median(self.value[: edge_of(len(self))])) if len(self) else np.nan

    @cached_property
    def last(self) -> float:
        """The level at the end: the median of the last few points."""
        return float(np.median(self.value[-edge_of(len(self)) :])) if len(self) else np.nan

    @cached_property
    def best(self) -> int:
        """The index at which the smoothed curve is lowest."""
        return int(np.argmin(self.smooth)) if len(self) else 0

    def trend(self) -> tuple[float, float]:
        """Return the fitted change from first to last point, and how many standard errors it is away from none.

        A straight line over the index through the medians of up to 40 blocks, whose scatter gives the error.
        """
        blocks = block_medians(self.value, 40)
        count = len(blocks)
        if count < 3:
            return (float(self.value[-1] - self.value[0]) if len(self) > 1 else 0.0), 0.0
        x = np.arange(count) - (count - 1) / 2
        slope = float(x @ blocks / (x @ x))
        rest = blocks - blocks.mean() - slope * x
        error = float(np.sqrt((rest @ rest) / (count - 2) / (x @ x)))
        return slope * (count - 1), slope / error if error > 0 else np.inf * np.sign(slope) if slope else 0.0


def spread(values: Floats) -> float:
    """Return a robust standard deviation: 1.4826 × the median absolute deviation from the median.

    >>> round(spread(np.array([0.0, 1.0, 2.0, 3.0, 100.0])), 4)
    1.4826
    """
    return float(MAD * np.median(np.abs(values - np.median(values)))) if len(values) else 0.0


def window_of(count: int) -> int:
    """Return the odd width of the running median for so many points."""
    return min(max(5, count // 30 | 1), count | 1)


def edge_of(count: int) -> int:
    """Return how many points make the level at an end: a fiftieth of them, one in four up to three, at most 50."""
    return int(min(max(count // 50, min(3, (count + 2) // 4)), 50)) or 1


def running_median(values: Floats, window: int) -> Floats:
    """Return the median about each point; of long curves the medians of blocks, joined by straight lines.

    At the ends the window shrinks, so that the first and the last point keep their own level.
    """
    count = len(values)
    if count > LONG:
        blocks = block_medians(values, max(2, 2 * count // window))
        at = (np.arange(len(blocks)) + 0.5) * count / len(blocks)
        joined: Floats = np.interp(np.arange(count) + 0.5, at, blocks)
        return joined
    half = window // 2
    out = np.empty(count)
    for i in (*range(min(half, count)), *range(max(half, count - half), count)):
        h = min(half, i, count - 1 - i)
        out[i] = np.median(values[i - h : i + h + 1])
    if count > 2 * half:
        middle = np.lib.stride_tricks.sliding_window_view(values, 2 * half + 1)
        out[half : count - half] = np.median(middle, axis=1)
    return out


def trailing_median(values: Floats, window: int) -> Floats:
    """Return the median of the `window` points before each one: what it could be expected to be; its own value first.

    Of long curves the median of the last whole block before it.
    """
    count = len(values)
    if count > LONG:
        blocks = count // window
        medians = np.median(values[: blocks * window].reshape(blocks, window), axis=1)
        return np.repeat(np.concatenate((medians[:1], medians)), window)[:count]
    out = np.empty(count)
    out[:1] = values[:1]
    for i in range(1, min(window, count)):
        out[i] = np.median(values[:i])
    if count > window:
        out[window:] = np.median(np.lib.stride_tricks.sliding_window_view(values, window)[:-1], axis=1)
    return out


def block_medians(values: Floats, most: int) -> Floats:
    """Return the medians of equal blocks of neighbours, at most `most` of them (the values themselves if no more).

    The oldest points that fill no block of their own belong to the first.

    >>> block_medians(np.array([9.0, 1.0, 2.0, 3.0, 4.0, 5.0]), 2).tolist()
    [2.0, 4.0]
    """
    if len(values) <= most:
        return values
    width = -(-len(values) // most)
    first = len(values) % width + width
    rest = np.median(values[first:].reshape(-1, width), axis=1)
    return np.concatenate(([np.median(values[:first])], rest))


CLASSES = (2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 50, 100, 200, 365, 1000, 21841)


def guessing_among(loss: float, within: float = 0.01) -> int | None:
    """Return the number of classes C whose ln C a loss is (a common C, to a part `within`); None where it is none's.

    >>> guessing_among(0.6931), guessing_among(2.303), guessing_among(1.7)
    (2, 10, None)
    """
    near = min(CLASSES, key=lambda count: abs(np.log(count) - loss))
    return near if abs(np.log(near) - loss) <= within * np.log(near) else None
