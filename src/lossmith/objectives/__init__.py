"""Objectives: examples → Batch → {term: Total}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lossmith.objectives.causal import CausalObjective
from lossmith.objectives.contrastive import ContrastiveObjective
from lossmith.objectives.masked import MaskedObjective
from lossmith.objectives.masking import Masking
from lossmith.objectives.registry import OBJECTIVES, ObjectiveSpec
from lossmith.objectives.sentence_pair import SentencePairObjective

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lossmith.total import Total

__all__ = [
    "OBJECTIVES",
    "CausalObjective",
    "ContrastiveObjective",
    "MaskedObjective",
    "Masking",
    "Objective",
    "ObjectiveSpec",
    "SentencePairObjective",
    "adopted",
    "own_tensors",
    "weighted",
]


class Objective(Protocol):
    """What the trainer asks of an objective: a batch, its counts before the forward pass, and its totals after it.

    An objective may also have: `coefficients`, what the mean of a term is multiplied with in the loss (1 for those it
    does not name); `adopt(model)`, which returns it with what it takes from the model, asked once, before training;
    `own`, an nn.Module of its tensors that are trained and kept in checkpoints with the model, and are no part of it
    (a generator, further heads, a temperature); `shown(model, batch, tokenizer, length)`, a prompt and what the model
    makes of it, written at evaluations (`shows`: of how many examples, else one); `judged(model, batch)`, its terms and
    what else an evaluation measures, as totals by the names in `figures`; `described(batch, tokenizer)`, a batch in
    words; `additive`, False where splitting a batch changes the loss.
    """

    def batch(self, examples: Sequence[dict[str, np.ndarray]], rng: np.random.Generator) -> dict[str, Tensor]:
        """Turn examples into tensors."""
        ...

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return Σ weights per term, known before the forward pass."""
        ...

    def terms(self, model: Any, batch: dict[str, Tensor]) -> dict[str, Total]:
        """Return the totals per term; `terms[k].weight == counts[k]`."""
        ...


def weighted(objective: Any, losses: Mapping[str, Any]) -> dict[str, Any]:
    """Return each term's loss times its coefficient: what the loss is the sum of.

    >>> weighted(CausalObjective(), {"loss": 2.0})
    {'loss': 2.0}
    """
    coefficients = getattr(objective, "coefficients", {})
    return {name: coefficients.get(name, 1.0) * loss for name, loss in losses.items()}


def own_tensors(objective: Any) -> nn.Module | None:
    """Return the module of tensors that belong to an objective and are trained with the model; None without any."""
    own: nn.Module | None = getattr(objective, "own", None)
    return own


def adopted(objective: Any, model: Any) -> Any:
    """Return the objective with what it takes from the model before training."""
    return objective.adopt(model) if hasattr(objective, "adopt") else objective
