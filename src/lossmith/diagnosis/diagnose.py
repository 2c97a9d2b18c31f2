"""All checks on one run."""

from __future__ import annotations

from lossmith.diagnosis import generalization, progress, schedule, stability
from lossmith.diagnosis._facts import facts
from lossmith.diagnosis._finding import Check, Finding
from lossmith.diagnosis._resolve import resolved
from lossmith.runs import Run

CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        stability.nan,
        stability.diverged,
        stability.lr_too_large,
        stability.spike,
        generalization.overfit,
        generalization.suspiciously_low,
        generalization.epoch_staircase,
        generalization.train_val_gap,
        progress.plateau,
        progress.initial_plateau,
        progress.slow,
        progress.still_falling,
        progress.too_short,
        progress.noisy,
        schedule.lr_drop,
        schedule.loss_scale,
        schedule.resume_jump,
        schedule.wrong_initial_loss,
    )
}


def diagnose(run: Run) -> list[Finding]:
    """Return what is to be said of a run, the gravest first; where nothing is wrong, that it converged normally.

    A run without a loss has no findings.

    >>> from lossmith.runs import Curve
    >>> steps = range(1, 201)
    >>> falling = Curve.of("loss", [(step, 2 + 8 * step**-0.5) for step in steps])
    >>> [finding.check for finding in diagnose(Run("a.csv", "csv", {"loss": falling}))]
    ['normal']
    """
    if not len(facts(run).main.raw):
        return []
    found = resolved(finding for check in CHECKS.values() for finding in check(run))
    if any(finding.severity != "info" for finding in found):
        return found
    return [*_normal(run), *found]


def _normal(run: Run) -> list[Finding]:
    """Say that a run converged normally, and how far it still fell over its last third."""
    series = facts(run).main
    if len(series) < 8 or series.last >= series.first:
        return []
    tail = series.part(-max(5, len(series) // 3))
    change, _ = tail.trend()
    evidence = {
        "first": float(series.value[0]),
        "last": series.last,
        "fall_lately": max(0.0, -change),
        "points": float(len(series)),
    }
    where = int(series.step[0]), int(series.step[-1])
    return [Finding("normal", "info", series.raw.name, *where, evidence, 0.8, progress.PLAYBOOK)]
