"""Draw a panel with matplotlib. Latin text only: the fonts of a bare machine have no other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lossmith.evaluate.figures import Line, Panel

INK, FAINT, GRID = "#1c2430", "#6b7685", "#e6e9ee"
COLOURS = {"raw": "#9db8ee", "train": "#2f6bdb", "eval": "#d9670b", "lr": "#2f6bdb", "speed": "#2f6bdb"}


def draw(panel: Panel, path: Path) -> None:
    """Write the panel to `path` as PNG, 1600 × 900."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=200, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    _axes(axes, panel)
    for line in panel.lines:
        _line(axes, line)
    for label, value in panel.references:
        axes.axhline(value, color=FAINT, lw=0.9, ls=(0, (5, 4)), zorder=1)
        _label(axes, 0.995, value, f"{label} {value:.2f}", FAINT, "right", "bottom")
    for step in panel.broken[:20]:
        axes.axvline(step, color="#c62828", lw=1, ls=":", zorder=1)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper right" if not panel.references else "lower left")
    figure.set_canvas(FigureCanvasAgg(figure))
    figure.savefig(path, format="png")


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
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_title(f"{panel.title} ({panel.unit})", loc="left", fontsize=12, color=INK, fontweight="bold", pad=10)
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
    if line.role == "eval":
        x, y = float(line.x[-1]), float(line.y[-1])
        style: dict[str, Any] = {"ha": "right", "color": COLOURS["eval"], "size": 10, "weight": "bold"}
        axes.annotate(f"{y:.3f}", (x, y), (0, 9), textcoords="offset points", **style)


def _label(axes: Axes, x: float, y: float, text: str, colour: str, ha: str, va: str) -> None:
    from matplotlib.patheffects import withStroke

    where: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "ha": ha, "va": va}
    halo = [withStroke(linewidth=3, foreground="white")]
    axes.annotate(text, (x, y), (-2, 2), fontsize=8.5, color=colour, path_effects=halo, **where)
