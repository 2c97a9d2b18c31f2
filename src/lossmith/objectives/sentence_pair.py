"""Next-sentence prediction and sentence order, with masked language modelling: BERT's and ALBERT's pre-training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossmith.losses import cross_entropy
from lossmith.models.mode import evaluating
from lossmith.models.rows import head_on_rows
from lossmith.objectives.masked import MaskedObjective, masked_term, tensors
from lossmith.objectives.shared import inputs_of, rng_of
from lossmith.total import Total

TASKS = ("next", "order")
HEADS = ("seq_relationship_logits", "sop_logits")


@dataclass(frozen=True)
class SentencePairObjective(MaskedObjective):
    """Tell whether the second segment of ``[CLS] A [SEP] B [SEP]`` follows the first, and guess what `masking` hides.

    Formula: ``Σ −ln p(hidden token)`` and ``Σ −ln p(label)`` in nats, two terms, each divided by its own count.
    Label 0: B follows A. Label 1, for half of the pairs: with task "next" B is a segment of another document; with task
    "order" the two have changed places.
    Examples: {"first", "second", "random": int64[…], "index"} as lossmith.data.pairs makes them.
    own: a linear layer on the state of [CLS], for models that have no head for pairs (all but BERT and ALBERT).
    Source: https://arxiv.org/abs/1810.04805 (BERT, 3.1), https://arxiv.org/abs/1909.11942 (ALBERT, 3.1).
    """

    task: str = "next"
    own: nn.Module | None = None

    def adopt(self, model: Any) -> SentencePairObjective:
        """Return the objective with a head for pairs, where the model has none."""
        return self if has_sentence_head(model) else replace(self, own=_head(model, self.seed))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the terms."""
        return ("masked", self.term)

    def batch(self, examples: Sequence[dict[str, np.ndarray]], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return input_ids, labels, token_type_ids int64[B, T], rows int64[M] and sentence_labels int64[B]."""
        hidden, types, sentence_labels = [], [], []
        for example in examples:
            own = rng_of(example, self.seed, rng)
            strange = int(own.random() < 0.5)
            a, b = self._segments(example, strange)
            hidden.append(self.masking(np.concatenate([[self.cls_id], a, [self.sep_id], b, [self.sep_id]]), own))
            types.append(np.repeat([0, 1], [len(a) + 2, len(b) + 1]))
            sentence_labels.append(strange)
        both = {"token_type_ids": torch.from_numpy(np.stack(types)), "sentence_labels": torch.tensor(sentence_labels)}
        return tensors(hidden) | both

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the number of hidden tokens and of pairs."""
        pairs = torch.tensor(float(len(batch["sentence_labels"])), device=batch["rows"].device)
        return super().counts(batch) | {self.term: pairs}

    def terms(self, model: Any, batch: dict[str, Tensor]) -> dict[str, Total]:
        """Return {"masked": …, "next_sentence" or "sentence_order": …} in nats."""
        out = head_on_rows(model, inputs_of(batch), batch["rows"])
        told = (out.output[name] for name in HEADS if name in out.output)
        logits = next(told) if self.own is None else self.own(out.first)
        return {"masked": masked_term(out, batch), self.term: cross_entropy(logits, batch["sentence_labels"])}

    @property
    def term(self) -> str:
        """The name of the second term."""
        return "next_sentence" if self.task == "next" else "sentence_order"

    def _segments(self, example: dict[str, np.ndarray], strange: int) -> tuple[np.ndarray, np.ndarray]:
        first, second = example["first"], example["second"]
        if not strange:
            return first, second
        return (first, example["random"]) if self.task == "next" else (second, first)


def has_sentence_head(model: Any) -> bool:
    """Tell whether a model judges pairs itself (BertForPreTraining, AlbertForPreTraining)."""
    with evaluating(model):
        output = model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device))
    return any(name in output for name in HEADS)


def _head(model: Any, seed: int) -> nn.Linear:
    config = model.config.get_text_config()
    head = nn.Linear(config.hidden_size, 2, device=model.device)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=draw) * config.initializer_range)
        head.bias.zero_()
    return head
