"""Prefix language modelling: a part of the text is seen from both sides, the rest is predicted token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lossmith.models.causality import check_prefix
from lossmith.objectives.causal import CausalObjective, positions
from lossmith.objectives.shared import rng_of


@dataclass(frozen=True)
class PrefixObjective(CausalObjective):
    """Predict the tokens after a prefix whose own tokens see each other in both directions.

    Formula: ``Σ_{t ≥ P} −ln p(xₜ | x_{<t})`` in nats, where token t sees s if s ≤ t or s < P; P uniform in 1 … T.
    Examples: as causal, and with "documents" each document of the window has a prefix of its own; with "index" what is
    drawn depends on (seed, index) alone.
    Source: https://arxiv.org/abs/1910.10683 (T5, 3.2.1: prefix LM), https://arxiv.org/abs/1905.03197 (UniLM).

    >>> batch = PrefixObjective().batch([{"tokens": np.array([5, 6, 7, 8])}], np.random.default_rng(0))
    >>> batch["prefix"].tolist(), batch["labels"].tolist()
    ([[True, True, True]], [[-100, -100, 8]])
    >>> batch["attention_mask"].shape
    torch.Size([1, 1, 3, 3])
    """

    seed: int = 0
    term: ClassVar[str] = "prefix"

    def batch(self, examples: Sequence[dict[str, np.ndarray]], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return input_ids, labels int64[B, T], prefix bool[B, T] and attention_mask bool[B, 1, T, T]."""
        tokens = torch.from_numpy(np.stack([example["tokens"] for example in examples]))
        seen = [example.get("documents", np.zeros(len(example["tokens"]), np.int32))[:-1] for example in examples]
        drawn = [_prefix(row, rng_of(example, self.seed, rng)) for row, example in zip(seen, examples, strict=True)]
        documents, prefix = torch.from_numpy(np.stack(seen)), torch.from_numpy(np.stack(drawn))
        labels = tokens[:, 1:].clone()
        labels[:, :-1][prefix[:, 1:] & (documents[:, 1:] == documents[:, :-1])] = -100
        batch = {"input_ids": tokens[:, :-1], "labels": labels, "prefix": prefix}
        batch["attention_mask"] = prefix_mask(documents, prefix)
        return batch | {"position_ids": positions(documents)} if "documents" in examples[0] else batch

    def check(self, model: Any, name: str) -> None:
        """Raise InputError where a model's attention does not do what the mask says."""
        check_prefix(model, name)

    def says(self, batch: dict[str, Tensor], row: int) -> str:
        """Say how long the prefix of a row is."""
        n = int(batch["prefix"][row].sum())
        return f"{n} of {batch['prefix'].shape[1]} tokens are prefix: they see each other both ways, and are not asked"


def _prefix(documents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return which tokens belong to a prefix: the first 1 … n of each document of n tokens."""
    sizes = np.diff([0, *(np.flatnonzero(np.diff(documents)) + 1), len(documents)])
    return np.concatenate([np.arange(n) < rng.integers(1, n + 1) for n in sizes])


def prefix_mask(documents: Tensor, prefix: Tensor) -> Tensor:
    """True where row t may look at column s: the same document, and the past or the prefix; bool [B, 1, T, T]."""
    same = documents[:, :, None] == documents[:, None, :]
    past = torch.ones(same.shape[-2:], dtype=torch.bool).tril()
    return (same & (past | prefix[:, None, :]))[:, None]
