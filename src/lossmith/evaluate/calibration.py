"""Whether confidence means what it says: expected calibration error and the reliability picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lossmith.errors import InputError
from lossmith.evaluate.bootstrap import Floats
from lossmith.evaluate.outcome import Reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 15


def reliability(confidence: Floats, right: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """Return, for `bins` bins of equal width over [0, 1], how many there are, how sure and how often right.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599

    >>> reliability(np.array([0.9, 0.95, 0.3]), np.array([True, False, False]), 2).accuracy.tolist()
    [0.0, 0.5]
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        sure = np.bincount(place, confidence, bins) / counts
        share = np.bincount(place, right.astype(float), bins) / counts
    return Reliability(edges, counts, sure, share)


def calibration_error(table: Reliability) -> float:
    """Return the expected calibration error: Σ n_b/n · |share right − mean confidence| over bins b.

    >>> round(calibration_error(reliability(np.array([0.75] * 4), np.array([True] * 3 + [False]))), 12)
    0.0
    """
    gap = np.abs(np.nan_to_num(table.accuracy - table.confidence))
    return float((gap * table.counts).sum() / table.counts.sum())


def draw_reliability(table: Reliability, path: Path) -> None:
    """Write the reliability picture as PNG: share right against confidence, and how many examples each bin has."""
    from lossmith.pictures._png import FAINT, INK

    with picture(path, (6, 6.4)) as figure:
        above, below = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
        _bars(above, below, table)
        # above the picture: inside it, it would lie on a bar sooner or later
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1.0), "ncols": 3, "borderpad": 0}
        above.legend(frameon=False, fontsize=9, labelcolor=INK, **place)
        title = f"Reliability (calibration error {calibration_error(table):.3f})"
        above.set_title(title, loc="left", color=INK, weight="bold", pad=26)
        above.set_ylabel("share right", color=FAINT)
        below.set_ylabel("examples", color=FAINT)
        below.set_xlabel("confidence (largest probability)", color=FAINT)
        for axes in (above, below):
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0, labelsize=9, labelcolor=FAINT)


def _bars(above: Any, below: Any, table: Reliability) -> None:
    width = float(table.edges[1])
    middle, seen = table.edges[:-1] + width / 2, table.counts > 0
    above.plot([0, 1], [0, 1], color="#6b7685", lw=1, ls=(0, (5, 4)), label="perfectly calibrated")
    above.bar(middle[seen], table.accuracy[seen], 0.94 * width, color="#9db8ee", label="share right")
    point = {"color": "#2f6bdb", "clip_on": False, "ls": "", "zorder": 5}
    above.plot(table.confidence[seen], table.accuracy[seen], marker="o", label="at mean confidence", **point)
    above.set(xlim=(0, 1), ylim=(0, 1))
    below.bar(middle, table.counts, 0.94 * width, color="#c9d0da")


@contextmanager
def picture(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """Give an empty figure of `size` inches to draw on, in the fonts of any script, and write it as PNG.

    Errors: InputError where the file cannot be written.
    """
    from matplotlib.figure import Figure

    from lossmith.pictures._png import fonts

    with fonts():
        figure = Figure(figsize=size, dpi=160, layout="constrained", facecolor="white")
        yield figure
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, format="png")
        except OSError as error:
            raise InputError(f"{str(path)!r} must be a file that can be written: {error.strerror or error}") from error
