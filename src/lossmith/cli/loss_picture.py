"""The picture of a loss: its value and its gradient, in a terminal, or in a file by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossmith.errors import InputError
from lossmith.pictures.terminal import braille

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lossmith.losses import LossSpec

INK, FAINT, GRID = "#1c2430", "#6b7685", "#e6e9ee"
COLOURS = {"loss": "#2f6bdb", "gradient": "#d9670b"}
POINTS = 199  # odd, so that 0 and 1/2 are among them


@dataclass(frozen=True)
class Axis:
    """Say over what a loss is drawn, from where to where, and with respect to what its gradient is taken."""

    name: str
    low: float
    high: float
    slope: str


AXES = {
    # In p itself the gradient goes to infinity at 0; in the right answer's logit it is what moves a network.
    "probability": Axis("probability of the right answer", 0.0, 1.0, "logit"),
    "residual": Axis("residual (input − target)", -4.0, 4.0, "residual"),
    "similarity": Axis("cosine of what belongs together", -1.0, 1.0, "cosine"),
}


@dataclass(frozen=True)
class Picture:
    """Hold a loss and its gradient at the points x of an axis; unit is that of the loss, "" where it has none."""

    title: str
    axis: Axis
    unit: str
    x: list[float]
    loss: list[float]
    gradient: list[float]

    @property
    def panels(self) -> tuple[tuple[str, str, list[float]], ...]:
        """Return (role, title with unit, values) of both panels."""
        unit = f" ({self.unit})" if self.unit else ""
        return ("loss", f"loss{unit}", self.loss), ("gradient", f"d loss / d {self.axis.slope}", self.gradient)


def trace(spec: LossSpec) -> Picture | None:
    """Return the picture of a loss, or None where it has none (a divergence depends on more than one number)."""
    if spec.curve is None or spec.picture is None:
        return None
    import torch

    axis = AXES[spec.picture]
    x = torch.linspace(axis.low, axis.high, POINTS + 2, dtype=torch.float64)[1:-1]  # the ends are infinite
    at = torch.logit(x) if spec.picture == "probability" else x
    z = at.clone().requires_grad_()
    value = spec.curve(torch.sigmoid(z) if spec.picture == "probability" else z)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    unit = "nats" if "nats" in spec.section("Formula") else ""
    return Picture(spec.name, axis, unit, x.tolist(), value.detach().tolist(), gradient.tolist())


def in_terminal(picture: Picture, width: int, rows: int = 9) -> list[list[tuple[str, str]]]:
    """Return lines of (role, text): both panels side by side, or one under the other where less than 72 fit."""
    side_by_side = width >= 72
    columns = ((width - 2) // 2 if side_by_side else width) - 8
    panels = [[(role, line) for line in _panel(picture, title, y, columns, rows)] for role, title, y in picture.panels]
    lines = [[left, ("", "  "), right] for left, right in zip(*panels, strict=True)]
    if not side_by_side:
        lines = [[line] for panel in panels for line in panel]
    return [*lines, [("", f"{'':{8 * side_by_side}}against the {picture.axis.name}")]]


def _panel(picture: Picture, title: str, y: Sequence[float], columns: int, rows: int) -> list[str]:
    """Return the lines of one panel, each `columns` + 8 wide: title, rows, axis, ends of the axis."""
    finite = [value for value in y if math.isfinite(value)] or [0.0]
    low, high = min(0.0, *finite), max(0.0, *finite)
    high = high if high > low else low + 1
    zero = round(high / (high - low) * (rows - 1))
    labels = {0: _tick(high), rows - 1: _tick(low)}
    if 0 < zero < rows - 1:
        labels[zero] = "0"
    drawn = braille(y, columns, rows, low, high)
    axis = picture.axis
    ends = [_tick(value) for value in (axis.low, (axis.low + axis.high) / 2, axis.high)]
    gap = columns - sum(map(len, ends))
    return [
        f"{'':8}{title:<{columns}}",
        *(f"{labels.get(row, ''):>6} {'┤' if row in labels else '│'}{line}" for row, line in enumerate(drawn)),
        f"{'':7}└{'─' * columns}",
        f"{'':8}{ends[0]}{'':{gap // 2}}{ends[1]}{'':{gap - gap // 2}}{ends[2]}",
    ]


def _tick(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def write(picture: Picture, path: Path, kind: str) -> None:
    """Write both panels to a file, kind "png" (1,800 × 720 points) or "svg"."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=200, layout="constrained", facecolor="white")
    for axes, (role, title, y) in zip(figure.subplots(1, 2), picture.panels, strict=True):
        _draw(axes, picture, role, title, y)
    figure.suptitle(picture.title, x=0.01, ha="left", fontsize=12, color=INK, fontweight="bold")
    try:
        figure.savefig(path, format=kind)  # no pyplot: no global state, and the canvas follows from the format
    except OSError as error:
        raise InputError(f"--{kind} must be a file that can be written; got {str(path)!r}: {error.strerror}") from error


def _draw(axes: Axes, picture: Picture, role: str, title: str, y: Sequence[float]) -> None:
    axes.axhline(0, color=FAINT, lw=0.8)
    axes.plot(picture.x, y, color=COLOURS[role], lw=2, solid_capstyle="round")
    axes.set_xlim(picture.axis.low, picture.axis.high)
    style: dict[str, Any] = {"fontsize": 9.5, "color": FAINT}
    axes.set_xlabel(picture.axis.name, **style)
    axes.set_ylabel(title, **style)
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=FAINT)
    axes.spines[:].set_visible(False)
