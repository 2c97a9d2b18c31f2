"""Masked language modelling: guess hidden tokens from what stands on both sides of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossmith.models.rows import RowsOut, head_on_rows
from lossmith.objectives.masking import Masking
from lossmith.objectives.shared import inputs_of, rng_of, token_loss
from lossmith.total import Total


@dataclass(frozen=True)
class MaskedObjective:
    """Predict the tokens that `masking` hides in ``[CLS] text [SEP]``; only their rows reach the output head.

    Formula: ``Σ_{t hidden} −ln p(x_t | what is seen)`` in nats; every hidden token counts once.
    Examples: {"tokens": int64[T−2]}, to keep documents apart also "documents": int32[T−2]. With "index" (the place in
    the sampling order, which counts on through the epochs) what is hidden depends on (seed, index) alone, whoever makes
    the batch: another choice in every epoch, the same for any number of ranks, and again after a resumption.
    Source: https://arxiv.org/abs/1810.04805 (BERT, 3.1); a new choice each time: https://arxiv.org/abs/1907.11692.

    >>> objective = MaskedObjective(Masking(vocab_size=10, mask_id=9, special=frozenset({7, 8, 9}), rate=0.5), 7, 8)
    >>> batch = objective.batch([{"tokens": np.array([1, 2, 3, 4])}], np.random.default_rng(0))
    >>> batch["input_ids"], batch["labels"], batch["rows"]
    (tensor([[7, 9, 2, 9, 4, 8]]), tensor([[-100,    1, -100,    3, -100, -100]]), tensor([1, 3]))
    """

    masking: Masking
    cls_id: int
    sep_id: int
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the terms."""
        return ("masked",)

    def batch(self, examples: Sequence[dict[str, np.ndarray]], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return input_ids and labels int64[B, T] (−100: nothing asked) and the flat places `rows` of the hidden."""
        framed = [np.concatenate([[self.cls_id], example["tokens"], [self.sep_id]]) for example in examples]
        drawn = [rng_of(example, self.seed, rng) for example in examples]
        hidden = [self.masking(tokens, own) for tokens, own in zip(framed, drawn, strict=True)]
        batch = tensors(hidden)
        if "documents" in examples[0]:
            documents = np.stack([np.pad(example["documents"], 1, mode="edge") for example in examples])
            batch["attention_mask"] = torch.from_numpy(documents[:, None, :, None] == documents[:, None, None, :])
        return batch

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the number of hidden tokens."""
        return {"masked": torch.tensor(float(len(batch["rows"])), device=batch["rows"].device)}

    def terms(self, model: Any, batch: dict[str, Tensor]) -> dict[str, Total]:
        """Return {"masked": Total} in nats over the hidden tokens."""
        return {"masked": masked_term(head_on_rows(model, inputs_of(batch), batch["rows"]), batch)}

    def guesses(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        """Return the model's best guess for each of the batch's rows, int64[M]."""
        out = head_on_rows(model, inputs_of(batch), batch["rows"])
        return (out.states if out.head is None else out.head(out.states)).argmax(-1)


def masked_term(out: RowsOut, batch: dict[str, Tensor]) -> Total:
    """Return the cross-entropy of the hidden tokens, from their rows."""
    return token_loss(out.states, out.head, batch["labels"].flatten()[batch["rows"]])


def tensors(hidden: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Tensor]:
    """Return input_ids, labels and the flat places of the labels, from (seen, labels) of each row."""
    seen, labels = (torch.from_numpy(np.stack(column)) for column in zip(*hidden, strict=True))
    return {"input_ids": seen, "labels": labels, "rows": (labels.flatten() != -100).nonzero().flatten()}
