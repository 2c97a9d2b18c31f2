"""Checks of what goes up: NaN, spikes, divergence, a learning rate that is too large."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lossmith.diagnosis._facts import Facts, facts, found_by
from lossmith.diagnosis._finding import Finding, Severity
from lossmith.diagnosis._series import LONG, Floats, Series, spread, trailing_median
from lossmith.runs import Run

PALM = "https://arxiv.org/abs/2204.02311 (PaLM, section 5.1)"
PLAYBOOK = "https://github.com/google-research/tuning_playbook"
CLIPPED = "https://github.com/huggingface/transformers (Trainer logs a NaN loss as 0.0)"
FEW = 8  # points below which a curve's noise is not known
SHORT = 30  # points below which a curve's own tail is not known


def nan(run: Run) -> Iterator[Finding]:
    """Find losses that are NaN or infinite: to the end of the log ("final"), or with finite ones after ("passing").

    What is not finite before the first finite loss was not measured yet, unless nothing ever is.
    """
    for name, series in (("loss", facts(run).train), ("eval_loss", facts(run).evals)):
        value, step = series.raw.value, series.raw.step
        good, bad = np.flatnonzero(np.isfinite(value)), np.flatnonzero(~np.isfinite(value))
        bad = bad[bad > good[0]] if len(good) else bad
        if not len(bad):
            continue
        final = not len(good) or bad[-1] > good[-1]
        first = bad[bad > good[-1]][0] if final and len(good) else bad[0]
        before = value[good[good < first]]
        evidence = {"step": float(step[first]), "count": float(len(bad)), "points": float(len(value))}
        if len(before):
            evidence["last_finite"] = float(before[-1])
        kind = "final" if final and len(before) else "always" if final else "passing"
        yield Finding("nan", "error", name, int(step[first]), int(step[bad[-1]]), evidence, 1.0, CLIPPED, kind)


def spike(
    run: Run, *, sigmas: float = 20.0, rise: float = 0.15, tail: float = 4.5, short_rise: float = 0.25
) -> Iterator[Finding]:
    """Find sudden rises of the loss that come back, in whole or in part; one finding, of the highest, for all of them.

    A point is too high when it lies above the median of the points before it by `sigmas` robust deviations, by `rise`
    of that level, and by `tail` times as far as any point lies below its own: single-batch noise is heavy-tailed, but
    about as heavy downwards. In logs of fewer than 30 points, where the tail is not known, `short_rise` of the level
    counts; in those too short to judge only infinity does.
    """
    seen = facts(run)
    series = seen.main
    expected, high = _too_high(series, sigmas, rise, tail, short_rise)
    high &= not seen.unclear
    found = [(a, b) for a, b in _stretches(high) if _comes_back(series, expected, a, b)]
    infinite = _passing_infinity(series)
    if not found and infinite is None:
        return
    if found:
        start, stop = max(found, key=lambda ab: float(np.max(series.value[ab[0] : ab[1]])))
        evidence = _spike_evidence(run, series, expected, start, stop)
        where = int(series.step[start]), int(series.step[stop - 1])
    else:
        assert infinite is not None
        evidence = {"step": float(infinite), "peak": np.inf, "from": series.last, "after": series.last}
        where = infinite, infinite
    evidence["count"] = float(len(found) + (infinite is not None))
    recovered = evidence["after"] <= evidence["from"] + 0.1 * max(abs(evidence["from"]), seen.floor)
    kind = "recovered" if recovered else "not_recovered"
    severity: Severity = "warning" if recovered else "error"
    yield Finding("spike", severity, series.raw.name or "loss", *where, evidence, 0.9, PALM, kind)


def _too_high(
    series: Series, sigmas: float, rise: float, tail: float, short_rise: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return what each point could be expected to be, and which ones lie far above that."""
    count = len(series)
    expected = trailing_median(series.value, min(33, max(5, count // 20)))
    rest = series.value - expected
    level = np.maximum(np.abs(expected), 0.2 * abs(series.first) if count else 0.0)
    if count < SHORT:
        least = np.maximum(short_rise * level, 6 * series.noise) if count >= FEW else 2 * short_rise * level
    else:
        relative = (rest / level)[_settled(count) :]
        least = level * max(rise, sigmas * spread(relative), tail * float(np.max(-relative, initial=0.0)))
    high = rest > least
    high[: 1 if count < SHORT else _settled(count)] = False
    return expected, high


def _settled(count: int) -> int:
    """Return how many points at the start fall too fast to be compared with those before them."""
    return max(2, int(np.ceil(0.03 * count)))


def _comes_back(series: Series, expected: Floats, start: int, stop: int, part: float = 0.1) -> bool:
    """Whether the rise was sudden (half of it in one point) and a later point is lower by a part of it."""
    peak = start + int(np.argmax(series.value[start:stop]))
    height = series.value[peak] - expected[start]
    jump = series.value[start : peak + 1] - series.value[start - 1 : peak]
    after = series.value[peak + 1 :]
    return bool(np.max(jump) >= 0.5 * height and len(after) and np.min(after) <= series.value[peak] - part * height)


def _spike_evidence(run: Run, series: Series, expected: Floats, start: int, stop: int) -> dict[str, float]:
    peak = start + int(np.argmax(series.value[start:stop]))
    before, top = float(expected[start]), float(series.value[peak])
    back = np.flatnonzero(series.value[peak:] <= before + 0.1 * (top - before))
    evidence = {"step": float(series.step[peak]), "from": before, "peak": top}
    evidence["after"] = float(np.median(series.value[-3:])) if not len(back) else before
    if len(back):
        evidence["recovered_at"] = float(series.step[peak + back[0]])
    norms = facts(run).grad_norm
    if len(norms):
        near = norms.value[(norms.step <= series.step[start]) & (norms.step >= series.step[max(0, start - 5)])]
        if len(near):
            evidence["grad_norm_before"] = float(np.max(near))
            evidence["grad_norm_usual"] = float(np.median(norms.value))
    return evidence


def _passing_infinity(series: Series) -> int | None:
    """Return the step of an infinite loss with finite ones on both sides."""
    value = series.raw.value
    good = np.flatnonzero(np.isfinite(value))
    at = np.flatnonzero(value == np.inf)
    at = at[(at > good[0]) & (at < good[-1])] if len(good) else at[:0]
    return int(series.raw.step[at[0]]) if len(at) else None


def diverged(run: Run, *, rise: float = 0.15, sigmas: float = 6.0) -> Iterator[Finding]:
    """Find a loss that went up and stayed up: at the end `rise` of its best level above it, and `sigmas` of its noise.

    A level near nothing counts as `Facts.floor`: there one hard batch multiplies the loss. Of a log that is too short
    to judge only infinity and ten times the first loss are told.

    The training loss decides; the eval loss alone only where no training loss was logged. A loss that is infinite at
    the end has diverged; one that rises slowly but surely all the way, with the eval loss, is diverging.
    """
    seen = facts(run)
    series = seen.main
    if len(series) and series.raw.value[-1] == np.inf:
        evidence = {"best": float(np.min(series.value)), "last": np.inf, "step": float(series.step[-1])}
        yield Finding(
            "diverged",
            "error",
            series.raw.name,
            int(series.step[-1]),
            int(series.raw.step[-1]),
            evidence,
            1.0,
            PLAYBOOK,
        )
        return
    if len(series) < 2 or seen.unclear:
        return
    best = series.best
    low, end = float(series.smooth[best]), series.last
    noise = series.noise if len(series) >= FEW else 0.0
    scale = max(abs(low), 0.1 * abs(series.first), seen.floor)
    need = rise if len(series) >= SHORT else 2 * rise
    fell = len(series) < SHORT and best > 0 and end <= np.max(series.value[:best])  # few points, and it began higher
    calm = len(seen.train) and len(seen.evals) >= 5 and seen.evals.last < 1.05 * np.min(seen.evals.value)
    if end - low > need * scale and end - low > sigmas * noise and not (fell or calm):
        evidence = {"best": low, "best_step": float(series.step[best]), "last": end, "noise": noise}
        yield Finding(
            "diverged", "error", series.raw.name, int(series.step[best]), int(series.step[-1]), evidence, 0.9, PLAYBOOK
        )
    elif lost := [found for found in found_by(spike, run) if found.kind == "not_recovered"]:
        evidence = {"best": lost[0].evidence["from"], "best_step": float(lost[0].start), "last": end, "noise": noise}
        yield Finding(
            "diverged", "error", series.raw.name, lost[0].start, int(series.step[-1]), evidence, 0.7, PLAYBOOK
        )
    elif slowly := _both_rise(seen):
        yield Finding(
            "diverged", "warning", "loss", int(series.step[0]), int(series.step[-1]), slowly, 0.6, PLAYBOOK, "slowly"
        )


def _both_rise(seen: Facts) -> dict[str, float] | None:
    """Return the evidence of training and eval loss both rising from first to last, beyond doubt."""
    if len(seen.train) < SHORT or len(seen.evals) < 3:
        return None
    change, errors = seen.train.trend()
    evals = np.diff(seen.evals.value)
    if change > 0 and errors > 4 and np.all(evals > 0):
        return {"train_rise": change, "standard_errors": errors, "eval_rise": float(evals.sum())}
    return None


def lr_too_large(run: Run, *, swing: float = 0.5, rise: float = 0.2) -> Iterator[Finding]:
    """Find the marks of a learning rate that is too large.

    "oscillating": six points in a row swing by `swing` of the first loss, up and down. "rising": near the start the
    loss rises by `rise` above where it began, and stays there, or falls only as the learning rate does. "dead": it fell
    from above ln C to exactly ln C and nothing moves any more, at a rate of 0.001 or more (or not logged).
    "restless": while the rate is up the training loss stands still and the eval loss goes up and down, by more than the
    averaging over a whole eval set lets a converging run do.
    """
    seen = facts(run)
    for series in (seen.train, seen.evals if not _learned(seen.train) else seen.train.part(0, 0)):
        found = _oscillating(series, swing) or _rising(seen, series, rise) or _dead(seen, series)
        found = found or (_restless(seen) if series is seen.train else None)
        if found:
            kind, start, stop, evidence, sure = found
            evidence |= _rate(seen)
            where = int(series.step[start]), int(series.step[stop])
            severity: Severity = "warning" if kind == "restless" else "error"
            yield Finding("lr_too_large", severity, series.raw.name, *where, evidence, sure, PLAYBOOK, kind)
            return


def _learned(train: Series) -> bool:
    """Whether the training loss fell: then an eval loss that rises says something else."""
    return len(train) > 1 and train.last < 0.9 * train.first


Seen = tuple[str, int, int, dict[str, float], float]


def _oscillating(series: Series, swing: float, window: int = 6) -> Seen | None:
    """Three of four moves are swings, they go both ways, and they reach three times as high as training began."""
    if len(series) < window + 1:
        return None
    moves = np.lib.stride_tricks.sliding_window_view(np.diff(series.value[:LONG]), window)
    turns = (np.diff(np.sign(moves), axis=1) != 0).sum(axis=1)
    wild = (np.quantile(np.abs(moves), 0.25, axis=1) > swing * abs(series.first)) & (turns >= 2)
    if wild.sum() < 2 or np.max(series.value) < 3 * abs(series.first):
        return None
    at = np.flatnonzero(wild)
    if np.min(series.smooth[: at[0] + 1]) < 0.7 * series.first:  # it had learned before: that is divergence
        return None
    evidence = {"lowest": float(np.min(series.value)), "highest": float(np.max(series.value)), "first": series.first}
    return "oscillating", int(at[0]), int(at[-1]) + window, evidence, 0.9


def _rising(seen: Facts, series: Series, rise: float) -> Seen | None:
    """The loss rises from where training began, in the first half of the log, for at least three points."""
    if len(series) < 4 or not seen.from_the_start or seen.unclear:
        return None
    first = float(series.value[0]) if len(series) < SHORT else series.first
    early = series.smooth[: (len(series) + 1) // 2 + 1]
    above = early > first * (1 + rise) if first > 0 else np.zeros(len(early), bool)
    if above.sum() < max(2, len(early) // 3) or np.min(early[: int(np.argmax(above))], initial=first) < 0.9 * first:
        return None
    peak = int(np.argmax(early))
    if early[peak] - first < 5 * spread(np.diff(series.value)) / 2**0.5 and len(series) >= FEW:
        return None
    return "rising", 0, peak, {"first": first, "highest": float(early[peak])}, 0.8


def _dead(seen: Facts, series: Series, rate: float = 1e-3, still: float = 1e-3) -> Seen | None:
    """The loss came down from above ln C to exactly ln C: the network's output no longer depends on its input."""
    if len(series) < 8:
        return None
    half = series.value[len(series) // 2 :]
    level = float(np.median(half))
    classes = seen.guessing_among(level, within=0.002)
    too_high = series.value[0] > 1.03 * level
    if classes is None or not too_high or np.max(np.abs(half - level)) > 5 * still * level:
        return None
    if len(seen.lr) and np.max(seen.lr.value) < rate:
        return None
    evidence = {"first": float(series.value[0]), "level": level, "classes": float(classes)}
    return "dead", len(series) // 2, len(series) - 1, evidence, 0.6


def _restless(seen: Facts, fall: float = 0.08, wiggle: float = 0.006) -> Seen | None:
    """At high rates the loss falls by less than `fall`, and evals scatter by `wiggle` about their trend."""
    train, start = seen.train, len(seen.train) // 10
    rate = seen.lr_at(train)
    high = np.arange(start, len(train)) if rate is None else np.flatnonzero(rate >= 0.5 * np.max(rate, initial=0.0))
    if len(train) < SHORT or len(high) < 20:
        return None
    phase = train.part(max(start, int(high[0])), int(high[-1]) + 1)
    evals = seen.evals.value[(seen.evals.step >= phase.step[0]) & (seen.evals.step <= phase.step[-1])]
    if len(phase) < 20 or len(evals) < 8:
        return None
    scatter = spread(np.diff(evals)) / 2**0.5 / max(float(np.median(evals)), 1e-12)
    falls = evals[:3].mean() - evals[-3:].mean() > 4 * scatter * evals.mean()
    if falls or -phase.trend()[0] > fall * abs(phase.last) or scatter < wiggle or train.first < 1.1 * phase.last:
        return None
    evidence = {"level": phase.last, "eval_scatter": scatter, "eval_points": float(len(evals))}
    return "restless", max(start, int(high[0])), int(high[-1]), evidence, 0.7


def _rate(seen: Facts) -> dict[str, float]:
    return {"learning_rate": float(np.max(seen.lr.value))} if len(seen.lr) else {}


def _stretches(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the (start, stop) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
