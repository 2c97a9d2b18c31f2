"""The laws of DESIGN.md, shipped for plugin authors; planted faults in our own tests prove that each can fail."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from lossmith.errors import InputError, did_you_mean
from lossmith.losses._spec import LossSpec
from lossmith.testing._case import Broken, Case
from lossmith.testing._laws import LAWS
from lossmith.testing._objective_error import ObjectiveError
from lossmith.testing._objectives import OBJECTIVE_LAWS, check_objective
from lossmith.testing._readers import ReaderError, check_reader

__all__ = [
    "DTYPES",
    "LAWS",
    "OBJECTIVE_LAWS",
    "LawError",
    "ObjectiveError",
    "ReaderError",
    "check_loss",
    "check_objective",
    "check_reader",
]

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class LawError(AssertionError):
    """A loss breaks a law: which loss, implementation, law, dtype and tensor; what was expected, what was got."""

    def __init__(self, case: Case, law: str, broken: Broken) -> None:
        self.loss, self.implementation = case.spec.name, case.implementation or "default"
        self.law, self.dtype, self.variant = law, case.dtype, dict(case.variant)
        self.tensor, self.expected, self.got = broken.tensor, broken.expected, broken.got
        options = f" with {self.variant}" if self.variant else ""
        super().__init__(
            f"{self.loss} ({self.implementation} implementation, {self.dtype}{options}) breaks the law {law!r}: "
            f"{broken}\nThe law: {LAWS[law].__doc__}"
        )


def check_loss(
    spec: LossSpec,
    implementation: str | None = None,
    *,
    dtypes: Iterable[torch.dtype] = DTYPES,
    laws: Iterable[str] | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Assert that a loss keeps every law, for each of its variants and each dtype; raise LawError where it does not.

    implementation: a name among `spec.implementations`; None is what users call, `spec.fn`.
    laws: names from LAWS (default: all); for a loss that torch.compile cannot take whole, all but "compiled".
    Comparisons are with `spec.reference` in float64 on the same rounded inputs. Where a law says that no bit changes,
    the implementation must be deterministic.

    Errors: LawError (an AssertionError) names loss, implementation, law, dtype and tensor, and says what was expected
    and what was got. InputError for an unknown law or implementation, and for a spec without reference, example, items.

    >>> from lossmith.losses import LOSSES
    >>> check_loss(LOSSES["mse"], dtypes=[torch.float64], laws=["formula", "poison", "split"])
    """
    chosen = list(LAWS if laws is None else laws)
    for law in chosen:
        if law not in LAWS:
            raise InputError(f"laws must be among {', '.join(LAWS)}; got {law!r}.{did_you_mean(law, LAWS)}")
    for variant in spec.variants:
        for dtype in dtypes:
            _check(Case(spec, implementation, variant, dtype, seed, device), chosen)


def _check(case: Case, laws: Iterable[str]) -> None:
    for law in laws:
        try:
            LAWS[law](case)
        except Broken as broken:
            raise LawError(case, law, broken) from broken
