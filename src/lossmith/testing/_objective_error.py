"""How a law of objectives is reported broken, and when states count as moved."""

from __future__ import annotations

from torch import Tensor

ROUNDING = 1e-4  # of the loss: what a sum in float32 may move by


class ObjectiveError(AssertionError):
    """An objective breaks a law: which, and what was seen."""

    def __init__(self, law: str, what: str) -> None:
        self.law = law
        super().__init__(f"the objective breaks the law {law!r}: {what}")


def unmoved(law: str, what: str, before: Tensor, after: Tensor) -> None:
    """Raise ObjectiveError where states differ by more than rounding."""
    if not before.numel():
        return
    moved, largest = float((before - after).abs().max()), float(before.abs().max())
    if moved > ROUNDING * largest:
        raise ObjectiveError(law, f"{what} moved by {moved:g} (the largest is {largest:g})")
