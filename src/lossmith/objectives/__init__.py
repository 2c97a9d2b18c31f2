"""Objectives: examples → Batch → {term: Total}."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lossmith.objectives.causal import CausalObjective
from lossmith.objectives.masked import MaskedObjective
from lossmith.objectives.masking import Masking
from lossmith.objectives.registry import OBJECTIVES, ObjectiveSpec
from lossmith.objectives.sentence_pair import SentencePairObjective

if TYPE_CHECKING:
    from torch import Tensor

    from lossmith.total import Total

__all__ = [
    "OBJECTIVES",
    "CausalObjective",
    "MaskedObjective",
    "Masking",
    "Objective",
    "ObjectiveSpec",
    "SentencePairObjective",
]


class Objective(Protocol):
    """What the trainer asks of an objective: a batch, its counts before the forward pass, and its totals after it."""

    def batch(self, examples: Sequence[dict[str, np.ndarray]], rng: np.random.Generator) -> dict[str, Tensor]:
        """Turn examples into tensors."""
        ...

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return Σ weights per term, known before the forward pass."""
        ...

    def terms(self, model: Any, batch: dict[str, Tensor]) -> dict[str, Total]:
        """Return the totals per term; `terms[k].weight == counts[k]`."""
        ...
