"""Draw a panel as inline SVG: sharp at every size, coloured by the page's style sheet (dark mode too), no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lossmith.pictures.panel import Floats, Line, Panel


@dataclass(frozen=True)
class Scale:
    """Map values to positions, on a linear or a logarithmic axis."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: Floats) -> Floats:
        """Return the positions of `value`; NaN where it is not finite."""
        low, high = self._of(np.array([self.low, self.high])).tolist()
        part: Floats = (self._of(value) - low) / ((high - low) or 1.0)
        return self.start + part * (self.stop - self.start)

    def at(self, value: float) -> float:
        """Return the position of one value."""
        return float(self(np.array([value]))[0])

    def _of(self, value: Floats) -> Floats:
        return np.log(np.maximum(value, 1e-300)) if self.log else value

    def ticks(self, count: int) -> list[float]:
        """Return about `count` round values inside the scale."""
        return log_ticks(self.low, self.high, count) if self.log else linear_ticks(self.low, self.high, count)


def linear_ticks(low: float, high: float, count: int) -> list[float]:
    """Return round values from low to high, about `count` of them, 1, 2, 2.5 or 5 × a power of ten apart.

    >>> linear_ticks(0, 1000, 5), linear_ticks(1.4, 3.1, 4)
    ([0, 200, 400, 600, 800, 1000], [1.5, 2.0, 2.5, 3.0])
    """
    if not high > low:
        return [low]
    power = 10 ** math.floor(math.log10((high - low) / count))
    step = min((k * power for k in (1, 2, 2.5, 5, 10)), key=lambda s: abs((high - low) / s - count))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """Return values of the form 1, 2, 5 × 10ᵏ between low and high, thinned to about `count`.

    >>> log_ticks(1, 100, 10), log_ticks(1, 10000, 4)
    ([1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0], [1.0, 10.0, 100.0, 1000.0, 10000.0])
    """
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{d}e{e}") for e in exponents for d in digits]
        ticks = [t for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
        if len(ticks) <= 1.3 * count:
            break
    return ticks


def tick_label(value: float) -> str:
    """Return a tick as short as it can be said.

    >>> tick_label(2000.0), tick_label(25000.0), tick_label(0.001), tick_label(1e-5), tick_label(2.5)
    ('2,000', '25k', '0.001', '1e-05', '2.5')
    """
    if abs(value) >= 10_000:
        unit, name = (1e6, "M") if abs(value) >= 1e6 else (1e3, "k")
        return f"{value / unit:g}{name}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places at least `gap` apart, in the same order, each as near to its own as that allows, in low … high.

    Neighbours that would touch become a group about the mean of their places. Where there is no room for all, they
    stand closer, evenly.

    >>> spread([0.5, 0.52, 0.1], 0.1, 0.0, 1.0)
    [0.46, 0.56, 0.1]
    """
    gap = min(gap, (high - low) / max(1, len(places) - 1))
    order = sorted(range(len(places)), key=places.__getitem__)
    groups: list[tuple[float, int]] = []  # (middle, members)
    for index in order:
        middle, members = places[index], 1
        while True:
            half = (members - 1) / 2 * gap
            middle = min(max(middle, low + half), high - half)
            if not groups or groups[-1][0] + (groups[-1][1] + members) / 2 * gap <= middle + 1e-12:
                break
            other, more = groups.pop()
            middle, members = (middle * members + other * more) / (members + more), members + more
        groups.append((middle, members))
    found = [middle + (i - (members - 1) / 2) * gap for middle, members in groups for i in range(members)]
    return [round(place, 9) for _, place in sorted(zip(order, found, strict=True))]


def draw(panel: Panel, width: int, height: int) -> str:
    """Return the panel as an <svg> element of this size, its text alternative inside."""
    left, right, low, high = panel.limits()
    x = Scale(left, right, 50, width - 14, panel.log_x)
    y = Scale(low, high, height - 34, 12, panel.log_y)
    parts = [*_grid(panel, x, y, width), *_marks(panel, x, y), *_references(panel, y, width), *_broken(panel, x, y)]
    for line in sorted(panel.lines, key=lambda line: {"raw": 0, "eval": 2}.get(line.role, 1)):
        parts += _line(line, x, y)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(_spoken(panel))}">'
        + "".join(parts)
        + "</svg>"
    )


def _spoken(panel: Panel) -> str:
    said = [f"{panel.title} ({panel.unit}) over steps"]
    for line in panel.lines:
        good = line.y[np.isfinite(line.y)]
        if len(good) and line.role != "raw":
            said.append(f"{line.label} from {good[0]:.4g} to {good[-1]:.4g}")
    return "; ".join(said)


def _grid(panel: Panel, x: Scale, y: Scale, width: int) -> list[str]:
    out = []
    for value in y.ticks(max(2, round((y.start - y.stop) / 48))):
        at = y.at(value)
        out.append(f'<path class="grid" d="M{x.start:.0f} {at:.1f}H{x.stop:.0f}"/>')
        out.append(f'<text x="{x.start - 8:.0f}" y="{at + 4:.1f}" text-anchor="end">{tick_label(value)}</text>')
    for value in x.ticks(max(2, width // 95)):
        at = x.at(value)
        anchor = "end" if at > width - 30 else "middle"
        out.append(f'<path class="grid" d="M{at:.1f} {y.stop:.0f}V{y.start:.0f}"/>')
        out.append(f'<text x="{at:.1f}" y="{y.start + 19:.0f}" text-anchor="{anchor}">{tick_label(value)}</text>')
    return out


def _marks(panel: Panel, x: Scale, y: Scale) -> list[str]:
    """Coloured stretches with their names at the top, one under the other where they would meet."""
    out = []
    for i, mark in enumerate(panel.marks):
        start, stop = (x.at(min(max(step, x.low), x.high)) for step in (mark.start, mark.stop))
        out.append(
            f'<rect class="mark {mark.severity}" x="{start:.1f}" y="{y.stop:.0f}" width="{max(1.5, stop - start):.1f}" '
            f'height="{y.start - y.stop:.0f}"><title>{escape(mark.label)}</title></rect>'
        )
        late = start > x.start + 0.7 * (x.stop - x.start)
        at, anchor = (start - 4, "end") if late else (start + 4, "start")
        height = y.stop + 12 + 14 * (i % 6)
        said = f'<text class="said {mark.severity}" x="{at:.1f}" y="{height:.0f}" text-anchor="{anchor}">'
        out.append(f"{said}{escape(mark.label)}</text>")
    return out


def _references(panel: Panel, y: Scale, width: int) -> list[str]:
    out = []
    lines = [y.at(value) for _, value in panel.references]
    places = spread([at - 5 for at in lines], 15, y.stop + 8, y.start - 4)
    for (label, value), at, place in zip(panel.references, lines, places, strict=True):
        out.append(f'<path class="reference" d="M50 {at:.1f}H{width - 14}"/>')
        text = f"{escape(label)} {value:.2f}"
        out.append(f'<text class="said" x="{width - 14}" y="{place:.1f}" text-anchor="end">{text}</text>')
    return out


def _broken(panel: Panel, x: Scale, y: Scale) -> list[str]:
    path = '<path class="broken" d="M{:.1f} {:.0f}V{:.0f}"><title>not finite: step {}</title></path>'
    return [path.format(x.at(step), y.stop, y.start, step) for step in panel.broken[:50]]


def _line(line: Line, x: Scale, y: Scale) -> list[str]:
    px, py = x(line.x), y(line.y)
    out = [f'<path class="line {line.role}" d="{_path(px, py)}"/>']
    if len(line.x) == 1 or (line.role == "eval" and len(line.x) <= 60):
        for step, value, cx, cy in zip(line.x, line.y, px, py, strict=True):
            if math.isfinite(cy):
                title = f"<title>step {step:,.0f}: {value:.4f}</title>"
                out.append(f'<circle class="{line.role}" cx="{cx:.1f}" cy="{cy:.1f}" r="4">{title}</circle>')
    return out


def _path(px: Floats, py: Floats) -> str:
    """Path data that starts anew after every gap."""
    out, pen = [], "M"
    for cx, cy in zip(px.tolist(), py.tolist(), strict=True):
        if math.isfinite(cx) and math.isfinite(cy):
            out.append(f"{pen}{cx:.1f} {cy:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(out)
