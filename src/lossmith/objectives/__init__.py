"""Objectives: examples → Batch → {term: Total}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lossmith.objectives.causal import CausalObjective
from lossmith.objectives.contrastive import ContrastiveObjective
from lossmith.objectives.distill import DistillObjective
from lossmith.objectives.infill import FimObjective
from lossmith.objectives.masked import MaskedObjective
from lossmith.objectives.masking import Masking
from lossmith.objectives.mixture import MixtureObjective
from lossmith.objectives.multi_token import MultiTokenObjective
from lossmith.objectives.prefix import PrefixObjective
from lossmith.objectives.registry import MIXTURE_OPTIONS, OBJECTIVES, ObjectiveSpec, spec_named
from lossmith.objectives.replaced_token import ReplacedTokenObjective
from lossmith.objectives.sentence_pair import SentencePairObjective
from lossmith.objectives.span import SpanObjective
from lossmith.objectives.spans import UL2, Denoiser

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lossmith.total import Total

__all__ = [
    "MIXTURE_OPTIONS",
    "OBJECTIVES",
    "UL2",
    "CausalObjective",
    "ContrastiveObjective",
    "Denoiser",
    "DistillObjective",
    "FimObjective",
    "MaskedObjective",
    "Masking",
    "MixtureObjective",
    "MultiTokenObjective",
    "Objective",
    "ObjectiveSpec",
    "PrefixObjective",
    "ReplacedTokenObjective",
    "SentencePairObjective",
    "SpanObjective",
    "adopted",
    "loss_unit",
    "names_of",
    "own_tensors",
    "spec_named",
    "weighted",
]


class Objective(Protocol):
    """What the trainer asks of an objective: a batch, its counts before the forward pass, and its totals after it.

    An objective may also have: `coefficients`, what the mean of a term is multiplied with in the loss (1 for those it
    does not name); `adopt(model)`, which returns it with what it takes from the model, asked once, before training;
    `own`, an nn.Module of its tensors that are trained and kept in checkpoints with the model, and are no part of it (a
    generator, further heads, a temperature); `shown(model, batch, tokenizer, length)`, a prompt and what the model
    makes of it, written at evaluations (`shows`: of how many examples, else one); `infill_prompt(tokens)`, the tokens
    after which a causal model fills a gap; `names`, its terms, known beforehand (needed in a mixture);
    `coefficients_for(terms)`, where coefficients depend on the terms that are there; `check(model, name)`, which raises
    InputError for a model it cannot train; `says(batch, row)`, a sentence about a row of a batch for `lossmith
    preview`; `described(batch, tokenizer)`, all that it shows ("asked": what a row's guesses are, where not tokens);
    `scored(model, batch)`, the terms and a Total for each name in `measures`, logged at evaluations as eval_NAME;
    `announces`, a sentence about it for whoever starts a training; `additive`, False where splitting a batch changes
    the loss.
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


SHOWN = 3  # terms that are named where a sum is


def weighted(objective: Any, losses: Mapping[str, Any]) -> dict[str, Any]:
    """Return each term's loss times its coefficient: what the loss is the sum of.

    >>> weighted(CausalObjective(), {"loss": 2.0})
    {'loss': 2.0}
    """
    if hasattr(objective, "coefficients_for"):
        coefficients = objective.coefficients_for(losses)
    else:
        coefficients = getattr(objective, "coefficients", {})
    return {name: coefficients.get(name, 1.0) * loss for name, loss in losses.items()}


def loss_unit(objective: Any, unit: str = "token") -> str:
    """Say what the loss of an objective is measured in: nats per unit, or the sum that it is of several averages.

    >>> from lossmith.objectives import DistillObjective
    >>> loss_unit(CausalObjective()), loss_unit(DistillObjective(CausalObjective(), None, 0.25))
    ('nats per token', 'nats: 0.25 × distill + 0.75 × causal')
    """
    names = getattr(objective, "names", ())
    if len(names) < 2:
        return f"nats per {unit}"
    parts = weighted(objective, dict.fromkeys(names, 1.0)).items()
    told = [name if times == 1 else f"{times:g} × {name}" for name, times in parts]
    return f"nats: {' + '.join(told[:SHOWN])}{' + …' if len(told) > SHOWN else ''}"


def own_tensors(objective: Any) -> nn.Module | None:
    """Return the module of tensors that belong to an objective and are trained with the model; None without any."""
    own: nn.Module | None = getattr(objective, "own", None)
    return own


def adopted(objective: Any, model: Any) -> Any:
    """Return the objective with what it takes from the model before training."""
    return objective.adopt(model) if hasattr(objective, "adopt") else objective


def names_of(objective: Any, losses: Mapping[str, Any]) -> tuple[str, ...]:
    """Return all terms of an objective: those it names, else those that there are losses of."""
    return tuple(getattr(objective, "names", losses))
