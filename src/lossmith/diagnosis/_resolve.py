"""Findings that contradict each other: a cause is preferred to its symptoms, and what is explained is no fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lossmith.diagnosis._finding import Finding

# where the check on the left was found, those on the right say the same with less in it, or what it makes untrue
EXPLAINS: dict[str, tuple[str, ...]] = {
    "lr_too_large": ("spike", "noisy", "initial_plateau", "still_falling", "slow"),
    "diverged": ("plateau", "overfit", "noisy", "still_falling", "train_val_gap", "slow"),
    "nan": ("still_falling", "noisy"),
    "overfit": ("train_val_gap", "still_falling"),
    "spike": ("noisy",),
    "plateau": ("still_falling", "initial_plateau"),
    "loss_scale": ("train_val_gap",),
    "lr_drop": ("epoch_staircase", "still_falling"),
}


def resolved(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that stand beside each other, the gravest first, then in the order of their steps."""
    found = list(findings)
    names = {finding.check for finding in found}
    gone = {name for check in names for name in EXPLAINS.get(check, ())}
    kept = [f for f in found if f.check not in gone and not any(rule(f, found) for rule in SPECIAL)]
    rank = {"error": 0, "warning": 1, "info": 2}
    return sorted(kept, key=lambda f: (rank[f.severity], f.start, f.check))


def _nan_is_the_end(finding: Finding, found: list[Finding]) -> bool:
    """A loss on its way up that ends in NaN has failed by NaN; one that ends in infinity has diverged."""
    final = any(f.check == "nan" and f.kind == "final" for f in found)
    return finding.check == "diverged" and final and finding.evidence["last"] != float("inf")


def _swings_are_not_divergence(finding: Finding, found: list[Finding]) -> bool:
    """Where the last of the swings ends near where the loss began, nothing has diverged."""
    if finding.check != "diverged":
        return False
    return any(f.kind == "oscillating" and finding.evidence["last"] < 2 * f.evidence["first"] for f in found)


def _a_spike_is_not_noise(finding: Finding, found: list[Finding]) -> bool:
    """A plateau that rests on scatter alone is not believed where the scatter is a spike."""
    return finding.check == "plateau" and finding.kind == "noise" and any(f.check == "spike" for f in found)


SPECIAL: tuple[Callable[[Finding, list[Finding]], bool], ...] = (
    _nan_is_the_end,
    _swings_are_not_divergence,
    _a_spike_is_not_noise,
)
