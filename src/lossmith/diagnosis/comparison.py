"""Runs beside each other: who is ahead at equal steps, tokens and time, and since when."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np

from lossmith.diagnosis._facts import facts
from lossmith.diagnosis._series import Floats, Series
from lossmith.errors import InputError
from lossmith.pictures import Line, Panel
from lossmith.pictures.panel import falls_early, thin
from lossmith.runs import Run

AXES = ("step", "tokens", "time")
CLOCKS = {  # columns that count time since the start, by what makes seconds of them
    **dict.fromkeys(
        ("seconds", "elapsed_seconds", "elapsed", "wall_time", "wall_clock", "_runtime", "runtime", "time"), 1.0
    ),
    **dict.fromkeys(("timestamp", "_timestamp", "train_time_s", "total_time"), 1.0),
    **dict.fromkeys(("elapsed_hours", "system/elapsed_time_hours"), 3600.0),
    "train_time": 1e-3,  # of modded-nanogpt, in milliseconds
}
GRID = 200  # places at which curves are compared


@dataclass(frozen=True)
class Standing:
    """Say how runs compare along one axis ("step", "tokens", "time"): the smoothed losses at the last place all reach.

    `leader` is the index of the lowest loss at `at`, `since` the place from which it has been lowest; `lead` is the
    distance to the second, in the unit of the loss.
    """

    axis: str
    curve: str
    at: float
    losses: tuple[float, ...]
    leader: int
    lead: float
    since: float

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the standing as JSON can carry it."""
        return {
            "axis": self.axis,
            "curve": self.curve,
            "at": self.at,
            "losses": dict(zip(names, self.losses, strict=True)),
            "leader": names[self.leader],
            "lead": self.lead,
            "since": self.since,
        }


def compare(runs: Sequence[Run]) -> list[Standing]:
    """Return how runs stand at equal steps, and at equal tokens and time where all of them log those.

    Compared is the eval loss where every run has one, else the training loss, smoothed.

    >>> from lossmith.runs import Curve
    >>> fast = Run("fast", "csv", {"loss": Curve.of("loss", [(i, 4 / i) for i in range(1, 51)])})
    >>> slow = Run("slow", "csv", {"loss": Curve.of("loss", [(i, 9 / i) for i in range(1, 101)])})
    >>> standing = compare([fast, slow])[0]
    >>> standing.axis, standing.at, standing.leader
    ('step', 50.0, 0)
    """
    if len(runs) < 2:
        raise InputError(f"to compare takes two runs or more; got {len(runs)}")
    both = all(len(facts(run).evals) >= 2 for run in runs)
    curve = "eval_loss" if both else "loss"
    series = [facts(run).evals if both else facts(run).main for run in runs]
    out = []
    for axis in AXES:
        along = [_along(run, one, axis) for run, one in zip(runs, series, strict=True)]
        if all(x is not None and len(x) for x in along):
            standing = _standing(axis, curve, [x for x in along if x is not None], [one.smooth for one in series])
            out += [standing] if standing is not None else []
    return out


def _along(run: Run, series: Series, axis: str) -> Floats | None:
    """Return the places of a series' points on an axis: its steps, its tokens, its seconds since the first point."""
    if axis == "step":
        return series.step
    names = {"tokens": 1.0} if axis == "tokens" else CLOCKS
    for name, factor in names.items():
        other = Series.of(run.curves.get(name))
        if len(other) >= 2 and np.all(np.diff(other.value) >= 0):  # what counts up; time per step does not
            start = 0.0 if axis == "tokens" or "timestamp" not in name else float(other.value[0])
            found: Floats = factor * (np.interp(series.step, other.step, other.value) - start)
            return found
    return None


def _standing(axis: str, curve: str, along: list[Floats], losses: list[Floats]) -> Standing | None:
    start, stop = max(float(x[0]) for x in along), min(float(x[-1]) for x in along)
    if stop < start:
        return None
    places = np.linspace(start, stop, GRID)
    table = np.stack([np.interp(places, *_rising(x, y)) for x, y in zip(along, losses, strict=True)])
    lowest = np.argmin(table, axis=0)
    leader = int(lowest[-1])
    others = np.flatnonzero(lowest != leader)
    since = float(places[others[-1] + 1]) if len(others) else start
    last = table[:, -1]
    lead = float(np.partition(last, 1)[1] - last[leader])
    return Standing(axis, curve, stop, tuple(last.tolist()), leader, lead, since)


def _rising(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(x, kind="stable")
    return x[order], y[order]


SAID = {
    "en": "{leader} leads at equal {axis} since {since:,.6g}: {curve} {loss:.4g} at {at:,.6g}, {lead:.3g} ahead",
    "zh": "{axis}相同时 {leader} 领先（自 {since:,.6g} 起）：{at:,.6g} 处 {curve} 为 {loss:.4g}，领先 {lead:.3g}",
}
AXIS_NAMES = {
    "en": {"step": "steps", "tokens": "tokens", "time": "time (seconds)"},
    "zh": {"step": "步数", "tokens": "词元数", "time": "时间（秒）"},
}


def said(standing: Standing, names: Sequence[str], lang: str = "en") -> str:
    """Return a standing as a sentence, in English or Chinese."""
    return SAID[lang].format(
        leader=names[standing.leader],
        axis=AXIS_NAMES[lang][standing.axis],
        curve=standing.curve,
        loss=standing.losses[standing.leader],
        at=round(standing.at) if standing.at >= 100 else standing.at,
        lead=standing.lead,
        since=round(standing.since) if standing.since >= 100 else standing.since,
    )


def overlay(runs: Sequence[Run]) -> Panel:
    """Return the smoothed curves of several runs as one picture: eval losses if every run has them, else training."""
    both = all(len(facts(run).evals) >= 2 for run in runs)
    found = [facts(run).evals if both else facts(run).main for run in runs]
    names = short_names([run.source for run in runs])
    lines = [
        Line(f"run{i % 8}", name, *thin(series.step, series.smooth))
        for i, (name, series) in enumerate(zip(names, found, strict=True))
        if len(series)
    ]
    low, high = min(float(line.y.min()) for line in lines), max(float(line.y.max()) for line in lines)
    log_x = any(falls_early(series.raw) for series in found if len(series))
    if log_x:  # a logarithmic axis has no place for step 0
        lines = [replace(line, x=line.x[line.x > 0], y=line.y[line.x > 0]) for line in lines]
    title = "Eval loss" if both else "Training loss"
    return Panel("compare", title, "smoothed", tuple(lines), log_x=log_x, log_y=low > 0 and high >= 10 * low)


def short_names(sources: Sequence[str], most: int = 32) -> list[str]:
    """Return names that tell sources apart: without the folders they share, cut in the middle where they are long.

    >>> short_names(["runs/a/metrics.jsonl", "runs/b/metrics.jsonl"])
    ['a', 'b']
    """
    parts = [list(PurePath(source).parts) for source in sources]
    while len(parts) > 1 and all(len(part) > 1 for part in parts) and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]
    while len(parts) > 1 and all(len(part) > 1 for part in parts) and len({part[-1] for part in parts}) == 1:
        parts = [part[:-1] for part in parts]
    names = ["/".join(part) if len(parts) > 1 else part[-1] for part in parts]
    shared = re.match(r".*[_\-. ]|", os.path.commonprefix(names))  # noqa: RUF071 (of strings it is meant)
    if shared and len(names) > 1:
        names = [name[shared.end() :] for name in names]
    return [name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-most // 2 :]}" for name in names]
