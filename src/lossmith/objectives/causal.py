"""Causal language modelling: predict each token from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lossmith.models.head import hidden_and_head
from lossmith.objectives.shared import inputs_of, number_of, token_loss
from lossmith.total import Total


@dataclass(frozen=True)
class CausalObjective:
    """Next-token prediction over windows of consecutive tokens.

    Formula: ``Σₜ −ln p(xₜ₊₁ | x≤ₜ)`` in nats; every label other than −100 counts once.
    Examples: {"tokens": int64[T+1]}; to keep documents apart also {"documents": int32[T+1]}, each token's document.
    With "documents" a token attends within its document only and positions restart at each document.

    >>> batch = CausalObjective().batch([{"tokens": np.array([5, 6, 7])}], np.random.default_rng(0))
    >>> batch["input_ids"], batch["labels"]
    (tensor([[5, 6]]), tensor([[6, 7]]))
    """

    term: ClassVar[str] = "causal"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the terms."""
        return (self.term,)

    def batch(self, examples: Sequence[dict[str, np.ndarray]], rng: np.random.Generator) -> dict[str, Tensor]:
        """Stack windows of equal length: input_ids, labels int64[B, T] (already shifted) and the mask of documents."""
        tokens = torch.from_numpy(np.stack([example["tokens"] for example in examples]))
        batch = {"input_ids": tokens[:, :-1], "labels": tokens[:, 1:]}
        if "documents" in examples[0]:
            documents = torch.from_numpy(np.stack([example["documents"] for example in examples]))[:, :-1]
            batch |= masked_by(documents)
        return batch

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the number of labels that are predicted.

        >>> CausalObjective().counts({"labels": torch.tensor([[3, -100]])})
        {'causal': tensor(1.)}
        """
        return {self.term: number_of(batch["labels"])}

    def terms(self, model: Any, batch: dict[str, Tensor]) -> dict[str, Total]:
        """Return {"causal": Total} in nats over the labels; logits are only stored where a model hides its head."""
        states, head = hidden_and_head(model, inputs_of(batch))
        return {self.term: token_loss(states, head, batch["labels"])}


def masked_by(documents: Tensor) -> dict[str, Tensor]:
    """Return the mask and the positions that keep documents [B, T] apart."""
    return {"attention_mask": document_mask(documents), "position_ids": positions(documents)}


def document_mask(documents: Tensor) -> Tensor:
    """True where row t may look at column s: the same document, and not the future; bool [B, 1, T, T]."""
    same = documents[:, :, None] == documents[:, None, :]
    return (same & torch.ones(same.shape[-2:], dtype=torch.bool).tril())[:, None]


def positions(documents: Tensor) -> Tensor:
    """Distance of each token from the start of its document within the window."""
    index = torch.arange(documents.shape[1]).expand_as(documents)
    fresh = torch.ones_like(documents, dtype=torch.bool)
    fresh[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return index - (index * fresh).cummax(1).values
