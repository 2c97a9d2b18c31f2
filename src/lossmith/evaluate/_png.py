"""Draw a panel with matplotlib. Latin text only: the fonts of a bare machine have no other."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossmith.evaluate._svg import Scale, log_ticks, spread, tick_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lossmith.evaluate.figures import Line, Panel

LABEL = 0.05  # of the height of the picture: the least distance of two labels
INK, FAINT, GRID = "#1c2430", "#6b7685", "#e6e9ee"
COLOURS = {"raw": "#9db8ee", "train": "#2f6bdb", "eval": "#d9670b", "lr": "#2f6bdb", "speed": "#2f6bdb"}


def draw(panel: Panel, path: Path) -> None:
    """Write the panel to `path` as PNG, 1600 × 900."""
    figure_of(panel).savefig(path, format="png")


def figure_of(panel: Panel) -> Figure:
    """Return the panel as a figure of matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=200, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    _axes(axes, panel)
    for line in panel.lines:
        _line(axes, line)
    for _, value in panel.references:
        axes.axhline(value, color=FAINT, lw=0.9, ls=(0, (5, 4)), zorder=1)
    _labels(axes, panel)
    for step in panel.broken[:20]:
        axes.axvline(step, color="#c62828", lw=1, ls=":", zorder=1)
    # above the picture: inside it, it would lie on a line sooner or later
    place: dict[str, Any] = {
        "loc": "lower left",
        "bbox_to_anchor": (0, 1.0),
        "ncols": 3,
        "borderaxespad": 0.2,
        "borderpad": 0,
    }
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, **place)
    figure.set_canvas(FigureCanvasAgg(figure))
    return figure


def _axes(axes: Axes, panel: Panel) -> None:
    left, right, low, high = panel.limits()
    axes.set_xscale("log" if panel.log_x else "linear")
    axes.set_yscale("log" if panel.log_y else "linear")
    if right > left:
        axes.set_xlim(left, right * (1.12 if panel.log_x else 1.0) + (0 if panel.log_x else 0.03 * (right - left)))
    axes.set_ylim(low, high)
    if panel.log_x:
        axes.xaxis.set_major_formatter("{x:,.0f}")
    if panel.log_y:
        ticks = log_ticks(low, high, 7)
        axes.set_yticks(ticks, [tick_label(tick) for tick in ticks])
        axes.set_yticks([], minor=True)
    axes.set_title(f"{panel.title} ({panel.unit})", loc="left", fontsize=12, color=INK, fontweight="bold", pad=25)
    axes.set_xlabel("step (logarithmic)" if panel.log_x else "step", fontsize=9.5, color=FAINT)
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelsize=9, labelcolor=FAINT)
    axes.spines[:].set_visible(False)


def _line(axes: Axes, line: Line) -> None:
    marked = line.role == "eval" and len(line.x) <= 60
    axes.plot(
        line.x,
        line.y,
        color=COLOURS[line.role],
        lw=0.9 if line.role == "raw" else 2,
        marker="o" if marked or len(line.x) == 1 else None,
        ms=4.5,
        mec="white",
        mew=0.8,
        label=line.label,
        zorder={"raw": 2, "train": 3}.get(line.role, 4),
        solid_capstyle="round",
    )


def _labels(axes: Axes, panel: Panel) -> None:
    """Name the reference lines and the last validation loss beside the picture, apart from each other."""
    named = [(value, f"{label} {value:.2f}", FAINT, "normal") for label, value in panel.references]
    ends = [
        (float(line.y[-1]), f"{line.y[-1]:.3f}", COLOURS["eval"], "bold") for line in panel.lines if line.role == "eval"
    ]
    labels = [label for label in [*named, *ends] if math.isfinite(label[0])]
    low, high = panel.limits()[2:]
    height = Scale(low, high, 0.0, 1.0, panel.log_y)
    at = [height.at(value) for value, *_ in labels]
    for start, end, (_, text, colour, weight) in zip(at, spread(at, LABEL, 0.0, 1.0), labels, strict=True):
        leader = {"arrowstyle": "-", "color": colour, "lw": 0.7, "relpos": (0, 0.5), "shrinkA": 0, "shrinkB": 0}
        style: dict[str, Any] = {
            "size": 8.5,
            "color": colour,
            "weight": weight,
            "va": "center",
            "annotation_clip": False,
        }
        where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "axes fraction", "arrowprops": leader}
        axes.annotate(text, (1.0, start), (1.03, end), **style, **where)
