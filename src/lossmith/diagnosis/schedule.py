"""Checks of what schedule, resumes or arithmetic explain: cuts of the rate, jumps, wrong levels and scales."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lossmith.diagnosis._facts import facts
from lossmith.diagnosis._finding import Finding
from lossmith.diagnosis._series import Floats, Series
from lossmith.runs import Run

SCHEDULE = "https://arxiv.org/abs/2503.12811 (a multi-power law: the loss falls as the learning rate does)"
KARPATHY = "https://karpathy.github.io/2019/04/25/recipe/ (verify loss at init)"
RESUME = "https://github.com/stas00/ml-engineering (training loss patterns: resumes)"
ACCUMULATION = "https://github.com/huggingface/transformers/issues/34191"
LARGEST_VOCABULARY = 1_000_000


def lr_drop(run: Run, *, cut: float = 0.3, bend: float = 1.5) -> Iterator[Finding]:
    """Find a fall of the loss that a cut of the learning rate explains.

    The rate falls by `cut` from one point to the next, or begins to fall after it was constant for a fifth of the log,
    and the loss falls `bend` times as fast after as before.
    """
    seen = facts(run)
    for series in (seen.train, seen.evals):
        found = _bend(series, seen.lr_at(series), cut, bend)
        if found is not None:
            yield found
            return


def _bend(series: Series, rate: Floats | None, cut: float, bend: float) -> Finding | None:
    if rate is None or len(series) < 12:
        return None
    at = _first_cut(rate, cut)
    if at is None or not 4 <= at <= len(series) - 4:
        return None
    width = min(at, len(series) - at, max(4, len(series) // 8))
    smooth = series.smooth
    before = smooth[at - width] - smooth[at - 1]
    after = smooth[at - 1] - smooth[min(len(series) - 1, at + width - 1)]
    if after <= max(bend * before, 3 * series.noise / width**0.5):
        return None
    evidence = {
        "step": float(series.step[at]),
        "rate_before": float(rate[at - 1]),
        "rate_after": float(rate[min(len(rate) - 1, at + width)]),
    }
    evidence |= {"fall_before": float(before), "fall_after": float(after)}
    return Finding(
        "lr_drop",
        "info",
        series.raw.name,
        int(series.step[at]),
        int(series.step[min(len(series) - 1, at + width)]),
        evidence,
        0.8,
        SCHEDULE,
    )


def _first_cut(rate: Floats, cut: float) -> int | None:
    """Return the index of the first cut at once, or of the end of a long constant stretch."""
    high = float(np.max(rate))
    if high <= 0:
        return None
    peak = int(np.argmax(rate >= high * (1 - 1e-6)))
    falls = np.flatnonzero(rate[peak + 1 :] < (1 - cut) * rate[peak:-1])
    if len(falls):
        return peak + 1 + int(falls[0])
    constant = int(np.flatnonzero(rate >= high * (1 - 1e-6))[-1])
    return constant + 1 if constant - peak >= len(rate) // 5 and constant + 1 < len(rate) else None


def wrong_initial_loss(run: Run, *, above: float = 1.15) -> Iterator[Finding]:
    """Find a first loss above what knowing nothing costs: ln V, of the logged vocabulary or of the largest in use.

    An untrained model that spreads its probability evenly loses ln V nats; one that begins `above` times as high is
    sure of wrong things: initialisation or the scale of the head's logits. A loss that is said to be of anything but
    tokens is not compared.
    """
    seen = facts(run)
    series = seen.main
    summed = sum(name.startswith("loss/") for name in run.curves) > 1  # of terms with scales of their own
    if not len(series) or not seen.from_the_start or summed:
        return
    data = run.config.get("data")  # of our own run.json
    known = run.config.get("vocab_size", data.get("vocab_size") if isinstance(data, dict) else None)
    size = float(known) if isinstance(known, (int, float)) and known > 1 else float(LARGEST_VOCABULARY)
    nothing = float(np.log(size))
    first = float(series.value[0])
    among_tokens = seen.of_tokens and (known is not None or 1.0 <= series.last <= 8.0 or len(series) < 8)
    if first > above * nothing and first < 100 and among_tokens:
        evidence = {"first": first, "know_nothing": nothing, "vocabulary": size}
        kind = "known" if known is not None else "any"
        yield Finding(
            "wrong_initial_loss",
            "info",
            series.raw.name,
            int(series.step[0]),
            int(series.step[0]),
            evidence,
            0.8,
            KARPATHY,
            kind,
        )


def loss_scale(run: Run, *, least: float = 1.9, even: float = 0.08) -> Iterator[Finding]:
    """Find a training loss that is the same multiple of the eval loss all along: summed over accumulation steps.

    The ratio at every eval, the first included, is within `even` of its median, which is at least `least` (or at most
    one over it). Dropout and label smoothing change the ratio as the loss falls; arithmetic does not.
    """
    seen = facts(run)
    if len(seen.evals) < 3 or len(seen.train) < 3 or np.min(seen.evals.value) <= 0:
        return
    ratio = np.interp(seen.evals.step, seen.train.step, seen.train.smooth) / seen.evals.value
    middle = float(np.median(ratio))
    moved = seen.evals.value[0] > 1.1 * np.min(seen.evals.value)
    off = middle >= least or 0 < middle <= 1 / least
    if off and moved and np.max(np.abs(ratio / middle - 1)) <= even:
        evidence = {"ratio": middle, "spread": float(np.max(np.abs(ratio / middle - 1)))}
        yield Finding(
            "loss_scale",
            "warning",
            "loss",
            int(seen.train.step[0]),
            int(seen.train.step[-1]),
            evidence,
            0.8,
            ACCUMULATION,
        )


def resume_jump(run: Run, *, sigmas: float = 5.0) -> Iterator[Finding]:
    """Find a loss that jumps where a run was resumed (the step goes back, or says so): up, or down on data seen before.

    Compared are the points after the resume with the ones logged at the same steps before, or with the last ones.
    """
    series = facts(run).train
    for at in (np.flatnonzero(np.diff(series.step) < 0) + 1).tolist():
        before, after = _around(series, at)
        if len(before) < 2 or len(after) < 2:
            continue
        jump = float(np.median(after) - np.median(before))
        if abs(jump) > max(sigmas * series.noise, 0.02 * abs(float(np.median(before)))):
            evidence = {
                "step": float(series.step[at]),
                "before": float(np.median(before)),
                "after": float(np.median(after)),
            }
            kind = "up" if jump > 0 else "down"
            yield Finding(
                "resume_jump",
                "warning",
                "loss",
                int(series.step[at]),
                int(series.step[at]),
                evidence,
                0.8,
                RESUME,
                kind,
            )
            return


def _around(series: Series, at: int, width: int = 10) -> tuple[Floats, Floats]:
    """Return the losses before the resume, at the steps that are repeated where there are any, and those after it."""
    again = series.step[:at] >= series.step[at]
    before = series.value[:at][again][:width]
    after = series.value[at : at + width]
    return (before if len(before) >= 2 else series.value[max(0, at - width) : at]), after
