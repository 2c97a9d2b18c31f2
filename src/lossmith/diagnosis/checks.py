"""All checks on one run."""

from __future__ import annotations

from lossmith.diagnosis._facts import facts, found_by
from lossmith.diagnosis._finding import Check, Finding
from lossmith.diagnosis._resolve import resolved
from lossmith.diagnosis.progress import PLAYBOOK
from lossmith.plugins import load
from lossmith.runs import Run

BUILT_IN = (
    *(f"stability:{name}" for name in ("nan", "diverged", "lr_too_large", "spike")),
    *(f"generalization:{name}" for name in ("overfit", "suspiciously_low", "epoch_staircase", "train_val_gap")),
    *(f"progress:{name}" for name in ("plateau", "initial_plateau", "slow", "still_falling", "too_short", "noisy")),
    *(f"schedule:{name}" for name in ("lr_drop", "loss_scale", "resume_jump", "wrong_initial_loss")),
)
CHECKS: dict[str, Check]
BROKEN: dict[str, str]  # plugins that could not be loaded, and why
CHECKS, BROKEN = load("lossmith.checks", [f"lossmith.diagnosis.{name}" for name in BUILT_IN])


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
    found = resolved(finding for check in CHECKS.values() for finding in found_by(check, run))
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
    return [Finding("normal", "info", series.raw.name, *where, evidence, 0.8, PLAYBOOK)]
