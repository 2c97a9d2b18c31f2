"""The picture of a confusion table: rows are labels, columns predictions, colour the share of the row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lossmith.evaluate.calibration import picture
from lossmith.evaluate.outcome import Confusion
from lossmith.pictures._png import FAINT, INK
from lossmith.pictures.text import clean

SHOWN = 20  # classes up to which cells hold numbers
_WIDE = 18  # characters of a class name


def draw_confusion(table: Confusion, path: Path) -> None:
    """Write the table as PNG; with more than 20 classes the cells have colour only."""
    k = len(table.labels)
    side = min(14.0, max(4.6, 2.6 + 0.55 * k))
    share = table.matrix / np.maximum(table.matrix.sum(1, keepdims=True), 1)
    with picture(path, (side + 0.8, side)) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        bar = figure.colorbar(image, ax=axes, shrink=0.8)
        bar.set_label("share of the row", color=FAINT)
        bar.ax.tick_params(length=0, labelsize=9, labelcolor=FAINT)
        bar.outline.set_visible(False)
        _names(axes, table, side)
        if k <= SHOWN:
            _numbers(axes, table, share)
        axes.set_xlabel("prediction", color=FAINT)
        axes.set_ylabel("label", color=FAINT)
        axes.set_title("Confusion", loc="left", color=INK, weight="bold")
        axes.tick_params(length=0, labelsize=9, labelcolor=INK)
        axes.spines[:].set_visible(False)


def _names(axes: Any, table: Confusion, side: float) -> None:
    """Name rows and columns; slanted where the names of columns would meet, every few where there are many."""
    names = [clean(name) if len(name) <= _WIDE else clean(name[: _WIDE - 1]) + "…" for name in table.labels]
    places = range(0, len(names), max(1, len(names) // 40))
    shown = [names[i] for i in places]
    long = max(map(len, shown)) * 0.09 > (side - 1.8) / len(places)  # inches of a name, and of its place
    axes.set_xticks(places, shown, rotation=45 if long else 0, ha="right" if long else "center")
    axes.set_yticks(places, shown)


def _numbers(axes: Any, table: Confusion, share: Any) -> None:
    size = 10 if len(table.labels) <= 10 else 7
    for (row, column), count in np.ndenumerate(table.matrix):
        colour = "white" if share[row, column] > 0.55 else "#1c2430"
        axes.text(column, row, f"{count:,}", ha="center", va="center", size=size, color=colour)
