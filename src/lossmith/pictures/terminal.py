"""Curves in a terminal: braille dots, two by four to a character, as lines of (role, text)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossmith.pictures._svg import Scale, tick_label

if TYPE_CHECKING:
    from lossmith.pictures.panel import Floats, Line, Panel

DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of a braille character: by column, from the top
ROLES = ("raw", "train", "eval")
LEFT = 8  # characters before the picture: labels and axis
Spans = list[tuple[str, str]]


def draw(panel: Panel, width: int, rows: int = 12) -> list[Spans]:
    """Return the panel as lines of (role, text), at most `width` wide: rows, axis, ends of the axis, marks.

    The roles are those of the lines, "" for the frame and the severities of the marks.
    """
    columns = max(16, width - LEFT - 1)
    left, right, low, high = panel.limits()
    x = Scale(left, right, 0.5, 2 * columns - 0.5, panel.log_x)
    y = Scale(low, high, 4 * rows - 0.5, 0.5, panel.log_y)
    dots, roles = np.zeros((4 * rows, 2 * columns), bool), np.zeros((rows, columns), np.int8)
    for line in sorted(panel.lines, key=lambda line: ROLES.index(line.role) if line.role in ROLES else 1):
        _line(line, x, y, dots, roles)
    labels = {min(rows - 1, int(y.at(value)) // 4): tick_label(value) for value in y.ticks(max(2, rows // 3))}
    out = []
    for row in range(rows):
        edge = f"{labels.get(row, ''):>{LEFT - 2}} {'┤' if row in labels else '│'}"
        out.append([("", edge), *_row(dots[4 * row : 4 * row + 4], roles[row])])
    out.append([("", f"{'':{LEFT - 1}}└{'─' * columns}")])
    out.append([("", f"{'':{LEFT}}{_ends(left, right, columns)}")])
    return [*out, *_marks(panel, x, columns)]


def _line(line: Line, x: Scale, y: Scale, dots: np.ndarray, roles: np.ndarray) -> None:
    """Set the dots of a line: of raw points those alone, of others what joins them as well."""
    px, py = x(line.x), y(line.y)
    good = np.isfinite(px) & np.isfinite(py)
    if not good.any():
        return
    role = 1 + (ROLES.index(line.role) if line.role in ROLES else 1)
    at = np.stack([px[good], py[good]]) if line.role == "raw" else _joined(px[good], py[good])
    columns = np.clip(at[0].astype(int), 0, dots.shape[1] - 1)
    rows = np.clip(at[1].astype(int), 0, dots.shape[0] - 1)
    dots[rows, columns] = True
    roles[rows // 4, columns // 2] = np.maximum(roles[rows // 4, columns // 2], role)


def _joined(px: Floats, py: Floats) -> Floats:
    """Return places no further than a dot apart on the straight lines between points."""
    if len(px) == 1:
        return np.stack([px, py])
    steps = np.maximum(1, np.ceil(np.maximum(np.abs(np.diff(px)), np.abs(np.diff(py)))).astype(int))
    part = np.concatenate([i + np.arange(count) / count for i, count in enumerate(steps)] + [[len(px) - 1]])
    index = np.arange(len(px))
    return np.stack([np.interp(part, index, px), np.interp(part, index, py)])


def _row(dots: np.ndarray, roles: np.ndarray) -> Spans:
    names = ("", *ROLES)
    spans: Spans = []
    for code, role in zip(_characters(dots), roles.tolist(), strict=True):
        name = names[role]
        if spans and spans[-1][0] == name:
            spans[-1] = (name, spans[-1][1] + code)
        else:
            spans.append((name, code))
    return spans


def _characters(dots: np.ndarray) -> str:
    """Return the braille characters of four rows of dots, bool [4, 2·columns]."""
    bits = np.full(dots.shape[1] // 2, 0x2800)
    for column in range(2):
        for down in range(4):
            bits |= np.where(dots[down, column::2], DOTS[column][down], 0)
    return "".join(map(chr, bits.tolist()))


def _ends(left: float, right: float, columns: int) -> str:
    start, end = f"{left:,.0f}", f"{right:,.0f}"
    middle = "step".center(max(0, columns - len(start) - len(end)))
    return f"{start}{middle}{end}"


def _marks(panel: Panel, x: Scale, columns: int) -> list[Spans]:
    """A line for each mark: where it begins and ends, and its name."""
    out: list[Spans] = []
    for mark in panel.marks[:8]:
        start = min(columns - 1, int(x.at(max(mark.start, x.low))) // 2)
        stop = min(columns - 1, max(start, int(x.at(min(mark.stop, x.high))) // 2))
        bar = "▔" * (stop - start + 1)
        room = columns - stop - 1 > len(mark.label) + 1
        text = f"{'':{start}}{bar} {mark.label}" if room else f"{mark.label:>{max(0, start - 1)}} {bar}"
        out.append([(mark.severity, f"{'':{LEFT}}{text}")])
    return out


def braille(y: Sequence[float], columns: int, rows: int, low: float, high: float) -> list[str]:
    """Draw equally spaced values as a line of dots, 2 × 4 to a character; what is not finite is left out.

    >>> braille([0.0, 1.0, 2.0, 3.0], 2, 1, 0.0, 3.0)
    ['⡠⠊']
    """
    dots = np.zeros((4 * rows, 2 * columns), bool)
    before: int | None = None
    for dot in range(2 * columns):
        value = y[round(dot / (2 * columns - 1) * (len(y) - 1))]
        if not math.isfinite(value):
            before = None
            continue
        here = round((high - value) / (high - low) * (4 * rows - 1))
        # A steep line is closed from below the dot before to this one.
        start = here if before is None else before + (here > before) - (here < before)
        dots[min(start, here) : max(start, here) + 1, dot] = True
        before = here
    return [_characters(dots[4 * row : 4 * row + 4]) for row in range(rows)]
