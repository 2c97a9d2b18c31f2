"""Score a model by its objective's own loss: Σ nats and Σ weights of every term, divided once, at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from lossmith.models.mode import evaluating

Example = dict[str, np.ndarray]
T = TypeVar("T")


@dataclass(frozen=True)
class Scores:
    """What a model paid on held-out examples, per term: Σ nats and how many predictions were made.

    >>> scores = Scores({"masked": 20.0, "next_sentence": 3.0}, {"masked": 10.0, "next_sentence": 4.0})
    >>> scores.loss, scores.losses, scores.tokens
    (2.75, {'masked': 2.0, 'next_sentence': 0.75}, 10)
    """

    nats: dict[str, float]
    counts: dict[str, float]
    coefficients: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    """Means of what the objective measures beside its loss (`judged`)."""
    bits_per_byte: None = None
    """No number: what is guessed with its surroundings in sight is no compressed text."""
    bytes: None = None

    @property
    def losses(self) -> dict[str, float]:
        """Nats per prediction of each term."""
        return {name: nats / (self.counts[name] or 1.0) for name, nats in self.nats.items()}

    @property
    def loss(self) -> float:
        """The sum of the terms, each divided by its own count and times its coefficient, as in training."""
        return math.fsum(self.coefficients.get(name, 1.0) * loss for name, loss in self.losses.items())

    @property
    def perplexity(self) -> float:
        """e^loss of the first term (of masked tokens: the pseudo-perplexity); inf where it overflows."""
        first = next(iter(self.losses.values()))
        return math.exp(first) if not first > 700 else math.inf

    @property
    def tokens(self) -> int:
        """Predictions of the first term."""
        return round(next(iter(self.counts.values())))


def score(
    model: Any,
    objective: Any,
    batches: Iterable[dict[str, Tensor]],
    names: Sequence[str],
    total: Callable[[Tensor], Tensor],
) -> Scores:
    """Return the scores of batches, without gradients and in evaluation mode, added up in float64.

    `names`: the terms, which a rank without a batch must know too; `total` adds a tensor up over the ranks.
    """
    further = tuple(getattr(objective, "figures", ()))
    sums = torch.zeros(2, len(names) + len(further), dtype=torch.float64, device=next(model.parameters()).device)
    with evaluating(model):
        for batch in batches:
            made, figures = objective.judged(model, batch) if further else (objective.terms(model, batch), {})
            terms = [made[name] for name in names] + [figures[name] for name in further]
            sums[0] += torch.stack([term.value.detach().double() for term in terms])
            sums[1] += torch.stack([term.weight.double() for term in terms])
    nats, counts = total(sums).tolist()
    paid, made = (dict(zip(names, column, strict=False)) for column in (nats, counts))
    means = [value / (weight or 1.0) for value, weight in zip(nats, counts, strict=True)]
    measured = dict(zip(further, means[len(names) :], strict=True))
    return Scores(paid, made, getattr(objective, "coefficients", {}), measured)


def tokens_in(example: Example) -> int:
    """Return how many tokens an example has."""
    return len(example["tokens"])


def alike(items: Iterable[T], size: int, length: Callable[[T], int]) -> Iterator[list[T]]:
    """Group neighbours of the same length, in order, at most `size` together.

    >>> short, long = {"tokens": np.zeros(2)}, {"tokens": np.zeros(3)}
    >>> [len(group) for group in alike([long, long, long, short], 2, tokens_in)]
    [2, 1, 1]
    """
    for _, same in groupby(items, key=length):
        while group := list(islice(same, size)):
            yield group
