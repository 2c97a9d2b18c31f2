"""Draw a panel with matplotlib, in the fonts that this machine has."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lossmith.pictures._svg import Scale, log_ticks, spread, tick_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lossmith.pictures.panel import Line, Mark, Panel

OTHER_SCRIPTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "SimHei", "Arial Unicode MS"),
)
LABEL = 0.05  # of the height of the picture: the least distance of two labels
INK, FAINT, GRID = "#1c2430", "#6b7685", "#e6e9ee"
SEVERITIES = {"info": "#6b7685", "warning": "#b8860b", "error": "#c62828"}
COLOURS = {"raw": "#9db8ee", "train": "#2f6bdb", "eval": "#d9670b", "lr": "#2f6bdb", "speed": "#2f6bdb"}
RUNS = ("#2f6bdb", "#d9670b", "#1b7f4b", "#9c3fb0", "#c62828", "#00838f", "#8d6e00", "#5d6877")
COLOURS |= {f"run{i}": colour for i, colour in enumerate(RUNS)}


@contextmanager
def fonts() -> Iterator[None]:
    """Draw names in any script where a font for it is installed; a bare machine shows boxes, and says nothing."""
    import matplotlib
    from matplotlib.font_manager import get_font_names

    known = set(get_font_names())
    family = ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in known)]
    with matplotlib.rc_context({"font.family": family}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


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
    for mark in panel.marks:
        _mark(axes, mark, panel)
    for step in panel.broken[:20]:
        axes.axvline(step, color="#c62828", lw=1, ls=":", zorder=1)
    # above the picture: inside it, it would lie on a line sooner or later
    place: dict[str, Any] = {
        "loc": "lower left",
        "bbox_to_anchor": (0, 1.0),
        "ncols": 3 if sum(len(line.label) for line in panel.lines) <= 75 else 1,
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


def _mark(axes: Axes, mark: Mark, panel: Panel) -> None:
    """A coloured stretch; one too narrow to be seen is a line."""
    left, right = panel.limits()[:2]
    colour = SEVERITIES[mark.severity]
    start, stop = max(mark.start, left), min(mark.stop, right)
    if stop - start > 0.004 * (right - left):
        axes.axvspan(start, stop, color=colour, alpha=0.09, lw=0, zorder=0)
    axes.axvline(start, color=colour, lw=1, alpha=0.8, zorder=1)
    late = start > left + 0.7 * (right - left)
    place = -3 if late else 3
    side = "right" if late else "left"
    style: dict[str, Any] = {"size": 8.5, "color": colour, "ha": side, "va": "top", "zorder": 6}
    height = 0.98 - 0.05 * (panel.marks.index(mark) % 6)
    where: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate(mark.label, (start, height), (place, 0), **where, **style)


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
