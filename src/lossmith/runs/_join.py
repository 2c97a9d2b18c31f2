"""Runs that belong together though they stand in several files: checkpoints, train and validation folders."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from lossmith.runs import _names
from lossmith.runs._curve import Curve, Run


def joined(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """Return the runs with what belongs together joined, and what was done.

    A run that several files lead to (MLflow's metrics) counts once; checkpoints that hold the beginning of a run are
    left out; event files of one folder that continue each other, and train and validation folders side by side, become
    one run.
    """
    runs = list({(run.tool, run.source): run for run in runs}.values())
    runs, notes = _without_prefixes(runs)
    runs, continued = _continued(runs)
    runs, beside = _siblings(runs)
    return runs, [*notes, *continued, *beside]


def _continued(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """Join event files of one folder: one without a train loss, or one that begins where another ends."""
    out: list[Run] = []
    last: dict[Path, int] = {}
    notes = []
    for run in sorted(runs, key=lambda run: run.source) if any(map(_is_events, runs)) else runs:
        folder = Path(run.source).parent
        before = out[last[folder]] if _is_events(run) and folder in last else None
        if before is not None and _continues(before, run):
            out[last[folder]] = replace(before, curves=_merged(before.curves, run.curves))
            notes.append(f"{before.source}: continued by {Path(run.source).name}")
            continue
        if _is_events(run):
            last[folder] = len(out)
        out.append(run)
    return out, notes


def _is_events(run: Run) -> bool:
    return run.tool == "TensorBoard" and "#" not in Path(run.source).name


def _continues(before: Run, run: Run) -> bool:
    first, second = before.curves.get("loss"), run.curves.get("loss")
    if first is None or second is None:
        return True
    return bool(second.step[0] > first.step[0] and second.step[0] * 2 > first.step[-1])


def _merged(first: dict[str, Curve], second: dict[str, Curve]) -> dict[str, Curve]:
    out = dict(first)
    for name, curve in second.items():
        old = out.get(name)
        if old is not None:
            step, value = np.append(old.step, curve.step), np.append(old.value, curve.value)
            out[name] = Curve(name, step, value)
        else:
            out[name] = curve
    return out


def _siblings(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """Join a folder of validation events to the folder of train events beside it."""
    pairs: dict[tuple[Path, str], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        folder = Path(run.source).parent
        if run.tool == "TensorBoard" and _names.side(folder.name):
            pairs[folder.parent, _names.rest(folder.name)][_names.side(folder.name)].append(run)
    gone: set[int] = set()
    whole: dict[int, Run] = {}
    notes = []
    for (folder, _), found in pairs.items():
        if len(found["train"]) == len(found["eval"]) == 1:
            train, held = found["train"][0], found["eval"][0]
            names = {name: curve for name, curve in held.curves.items() if name not in train.curves}
            whole[id(train)] = replace(train, source=str(folder), curves={**train.curves, **names})
            gone.add(id(held))
            both = " and ".join(Path(run.source).parent.name for run in (train, held))
            notes.append(f"{folder}: its folders {both} are one run")
    return [whole.get(id(run), run) for run in runs if id(run) not in gone], notes


def _without_prefixes(runs: list[Run]) -> tuple[list[Run], list[str]]:
    groups: dict[tuple[object, ...], list[Run]] = defaultdict(list)
    for run in runs:
        key = _beginning(run)
        if key:
            groups[key].append(run)
    dropped: dict[int, Run] = {}
    notes = []
    for group in groups.values():
        group.sort(key=lambda run: -_points(run))
        for index, run in enumerate(group):
            longer = next((other for other in group[:index] if id(other) not in dropped and _prefix(run, other)), None)
            if longer is not None and "checkpoint-" in run.source:
                dropped[id(run)] = longer
    kept = [run for run in runs if id(run) not in dropped]
    for longer in {id(run): run for run in dropped.values()}.values():
        count = sum(other is longer for other in dropped.values())
        notes.append(f"{longer.source}: {count} checkpoints hold the beginning of this run: left out")
    return kept, notes


def _beginning(run: Run) -> tuple[object, ...]:
    """What checkpoints of one run have in common; nothing for runs of other tools."""
    curve = run.curves.get("loss") or run.curves.get("eval_loss")
    if run.tool != "Hugging Face Trainer" or curve is None or not len(curve):
        return ()
    return curve.name, int(curve.step[0]), float(curve.value[0])


def _points(run: Run) -> int:
    return sum(len(run.curves[name]) for name in ("loss", "eval_loss") if name in run.curves)


def _prefix(short: Run, long: Run) -> bool:
    return all(_starts_with(long.curves.get(name), short.curves.get(name)) for name in ("loss", "eval_loss"))


def _starts_with(long: Curve | None, short: Curve | None) -> bool:
    if short is None:
        return True
    if long is None or len(long) < len(short):
        return False
    count = len(short)
    same = np.array_equal(long.value[:count], short.value, equal_nan=True)
    return same and np.array_equal(long.step[:count], short.step)
