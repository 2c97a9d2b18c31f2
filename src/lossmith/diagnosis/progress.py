"""Checks of how far a loss falls: plateaus, too slow, too short, still falling, noisy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lossmith.diagnosis._facts import Facts, facts, found_by
from lossmith.diagnosis._finding import Finding, Severity
from lossmith.diagnosis._series import Series, spread
from lossmith.diagnosis.generalization import overfit
from lossmith.diagnosis.stability import diverged
from lossmith.runs import Run

PLAYBOOK = "https://github.com/google-research/tuning_playbook"
KARPATHY = "https://karpathy.github.io/2019/04/25/recipe/ (verify loss at init; overfit one batch)"
NOISE = "https://arxiv.org/abs/1812.06162 (An empirical model of large-batch training)"


def plateau(run: Run, *, fall: float = 0.015, unproven: float = 0.15, errors: float = 2.0) -> Iterator[Finding]:
    """Find a loss that does not fall over the whole log (its first twentieth left out).

    "none": it falls by less than `fall` of its level. "noise": by less than `unproven`, and not beyond `errors`
    standard errors of a straight line. "guessing": it ends, still, at ln C, where a classifier among C knows nothing.
    "unigram": three fifths of the log lie within 3 % of its end, above 5 nats: the frequencies of tokens, and nothing
    more.
    """
    seen = facts(run)
    series = seen.main
    if len(series) < 2 or found_by(diverged, run):
        return
    kind = _still(seen, fall, unproven, errors)
    if kind is None:
        return
    evidence = {"points": float(len(series)), "first": series.first, "last": series.last}
    evidence["noise"] = series.noise
    classes = seen.guessing_among(series.last, 0.02)
    if classes is not None:
        evidence["classes"] = float(classes)
    where = int(series.step[0]), int(series.step[-1])
    sure = 0.9 if len(series) >= 20 else 0.6
    severity: Severity = "info" if kind == "noise" else "warning"
    yield Finding("plateau", severity, series.raw.name, *where, evidence, sure, PLAYBOOK, kind)


def _still(seen: Facts, fall: float, unproven: float, errors: float) -> str | None:
    series = seen.main
    rest = series.part(max(1, len(series) // 20)) if len(series) >= 8 else series
    proven = abs(rest.trend()[1]) >= errors
    level = max(abs(rest.last), 1e-12)
    part = abs(rest.first - rest.last) / level
    dies = not np.isfinite(series.raw.value[-1])
    if dies:
        return "none" if np.ptp(rest.value) < fall * level else None
    quiet = not proven or series.noise < unproven / 3 * level
    if part < fall and len(rest) >= 4 and quiet and series.value[0] - rest.last < 0.1 * level:
        return "none"
    if part < unproven and not proven and len(rest) >= 5 and series.value[0] - rest.last < 0.5 * level:
        return "noise"
    if _guessing(seen):
        return "guessing"
    return "unigram" if seen.of_tokens and series.last > 5 and _flat_share(series) > 0.6 else None


def _guessing(seen: Facts) -> bool:
    """Whether a loss stands at ln C: by a three-hundredth of it, or, in a dozen points or fewer, by a fiftieth.

    Stands: it has not moved by more than 3 % in its last three fifths. Where both losses were logged, both stand there.
    """
    late = seen.evals.value[len(seen.evals) // 5 :]
    still = len(late) >= 8 and np.ptp(late) < 0.02 * seen.evals.last
    if still and seen.guessing_among(seen.evals.last, 0.003) is not None:
        return True  # whatever the training loss does: order or memory, nothing that holds elsewhere
    for series in (seen.train, seen.evals):
        within = 0.02 if len(series) <= 12 else 0.003
        late = series.value[len(series) * 2 // 5 :]
        falling = len(late) >= 8 and series.part(len(series) * 2 // 5).trend()[1] < -3
        moved = falling or (np.ptp(late) > 0.03 * series.last if len(late) else False)
        if 0 < len(series) < 4 or moved or (len(series) and seen.guessing_among(series.last, within) is None):
            return False
    return len(seen.main) >= 4


def _flat_share(series: Series) -> float:
    above = np.flatnonzero(series.smooth > 1.03 * series.last)
    flat = series.part(int(above[-1]) + 1) if len(above) else series
    still = len(flat) >= 20 and flat.first - flat.last < 0.015 * flat.last
    return len(flat) / len(series) if still else 0.0


def initial_plateau(run: Run, *, share: float = 0.1, within: float = 0.05, fall: float = 0.1) -> Iterator[Finding]:
    """Find a stretch near the start, `share` of the log or more, in which the loss stands still before it falls
    further.

    Still: the smoothed loss stays `within` of a level; afterwards it falls by `fall` of it or more.
    """
    series = facts(run).main.reduced(400)
    if len(series) < 40:
        return
    smooth, count = series.smooth, len(series)
    start = next((i for i in range(1, count // 8) if smooth[i] < smooth[0] and _stays(smooth, i, share, within)), None)
    if start is None:
        return
    level = float(smooth[start])
    stop = start + int(np.argmax(np.append(smooth[start:] < level * (1 - within), True)))
    if stop - start < share * count or stop >= 0.8 * count or series.last > level * (1 - fall):
        return
    if not _bends_down(series, start, stop):
        return
    evidence = {"level": level, "points": float(stop - start), "last": series.last}
    yield Finding(
        "initial_plateau",
        "info",
        series.raw.name,
        int(series.step[start]),
        int(series.step[stop - 1]),
        evidence,
        0.7,
        KARPATHY,
    )


def _stays(smooth: np.ndarray, start: int, share: float, within: float) -> bool:
    part = smooth[start : start + max(4, int(share * len(smooth)))]
    return bool(np.all(np.abs(part - part[0]) <= within * abs(part[0])))


def _bends_down(series: Series, start: int, stop: int) -> bool:
    """Whether the loss falls faster after the stretch than in it: a power law only slows down."""
    width = stop - start
    inside = series.smooth[start] - series.smooth[stop - 1]
    after = series.smooth[stop] - series.smooth[min(len(series) - 1, stop + width)]
    return bool(after > 1.5 * inside and after > 0)


def slow(run: Run, *, rate: float = 1e-5, straight: float = 0.985) -> Iterator[Finding]:
    """Find a learning rate that is too small: no progress at a rate never above `rate`, or a fall along a straight
    line.

    "rate": a plateau (see `plateau`) while the logged learning rate stays at or below `rate`. "straight": from the
    start to the end the loss falls as a straight line (R² above `straight`) by less than a third: training has not left
    its first phase.
    """
    seen = facts(run)
    series = seen.main
    hardly = bool(found_by(plateau, run)) or (
        seen.from_the_start and abs(series.first - series.last) < 0.05 * abs(series.last)
    )
    if len(seen.lr) and np.max(seen.lr.value) <= rate and len(series) >= 8 and hardly:
        evidence = {"learning_rate": float(np.max(seen.lr.value)), "first": series.first, "last": series.last}
        yield Finding(
            "slow",
            "warning",
            series.raw.name,
            int(series.step[0]),
            int(series.step[-1]),
            evidence,
            0.8,
            PLAYBOOK,
            "rate",
        )
        return
    if len(series) < 20 or not seen.from_the_start or series.first <= series.last * 1.02:
        return
    x = np.arange(len(series), dtype=np.float64)
    fit = np.corrcoef(x, series.smooth)[0, 1] ** 2
    if fit > straight and series.first - series.last < series.first / 3 and not len(seen.evals):
        evidence = {"r_squared": float(fit), "first": series.first, "last": series.last}
        yield Finding(
            "slow",
            "info",
            series.raw.name,
            int(series.step[0]),
            int(series.step[-1]),
            evidence,
            0.5,
            PLAYBOOK,
            "straight",
        )


def still_falling(
    run: Run, *, part: float = 0.005, errors: float = 3.0, rate: float = 0.3, much: float = 0.08
) -> Iterator[Finding]:
    """Find a loss that still falls at the end, at a learning rate that is still up ("schedule": or that has gone).

    Over its last third it falls by `part` of its level and beyond `errors` standard errors, and the learning rate
    (where it is logged) ends above `rate` of its highest, or the fall is `much`: then the schedule was too short.
    Where no learning rate is logged only a fall of `much` counts: one that decays bends the loss down at the end as
    well.
    """
    seen = facts(run)
    if found_by(overfit, run):
        return
    for series in (seen.evals, seen.train):
        if len(series) < 5 or (series is seen.train and len(seen.evals) >= 5):
            continue
        tail = series.part(-max(5, len(series) // 3)) if len(series) >= 9 else series.part(-4)
        change, sure = tail.trend()
        if change < -part * abs(series.last) and sure < -errors:
            rates = seen.lr_at(series)
            ended = rates is not None and rates[-1] < rate * np.max(rates)
            if (ended or rates is None) and -change < much * abs(series.last):
                return
            evidence = {"fall": -change, "last": series.last, "points": float(len(tail))}
            yield Finding(
                "still_falling",
                "info",
                series.raw.name,
                int(tail.step[0]),
                int(tail.step[-1]),
                evidence,
                0.7,
                PLAYBOOK,
                "schedule" if ended else "",
            )
            return


def too_short(run: Run, *, points: int = 7) -> Iterator[Finding]:
    """Find logs too short to judge: `points` points or fewer, of whatever kind there are most."""
    seen = facts(run)
    if len(seen.main) and seen.short(points):
        series = seen.main
        evidence = {"train_points": float(len(seen.train)), "eval_points": float(len(seen.evals))}
        yield Finding(
            "too_short", "info", series.raw.name, int(series.step[0]), int(series.step[-1]), evidence, 1.0, PLAYBOOK
        )


def noisy(run: Run, *, level: float = 0.05, fall: float = 0.5) -> Iterator[Finding]:
    """Find a training loss whose points scatter by `level` of it, and by more than `fall` of what it gained lately."""
    series = facts(run).train
    if len(series) < 5:
        return
    late = series.part(len(series) // 2)
    noise = max(spread(np.diff(late.value)) / np.sqrt(2), 0.0)
    gained = max(0.0, late.first - late.last)
    if noise > level * abs(late.last) and noise > fall * gained:
        evidence = {"noise": noise, "level": late.last, "part": noise / abs(late.last) if late.last else np.inf}
        yield Finding("noisy", "info", "loss", int(late.step[0]), int(late.step[-1]), evidence, 0.7, NOISE)
