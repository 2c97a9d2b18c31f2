"""Fine-tuning of sentence embeddings: graded pairs, positives among all others of the batch, triplets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossmith.objectives.embedding import key_ids, name_of_text
from lossmith.objectives.ranks import everyones
from lossmith.objectives.shared import inputs_of, padded, pool, text_inputs
from lossmith.objectives.tasks import Example, sees_types
from lossmith.objectives.tasks_losses import TaskLoss
from lossmith.total import Total


@dataclass(frozen=True)
class SimilarityObjective:
    """Bring embeddings of texts that belong together near to each other.

    Formula: the loss of (first, second[, third]) embeddings: with scores cosent (their order by cosine), without
    info_nce (each first text among the seconds and thirds of the batch) or triplet. A batch is that of all ranks; equal
    texts are never each other's negatives.
    Examples: {"tokens", "tokens_1"[, "tokens_2"]: int64[T]} and, with scores, {"target"}: a number.
    """

    loss: TaskLoss
    pad_id: int
    pooling: str
    texts: int
    scored: bool
    types: bool = field(default=True)

    @property
    def additive(self) -> bool:
        """Whether a batch may be divided."""
        return self.loss.additive

    def adopt(self, model: Any) -> SimilarityObjective:
        """Return the objective with what the model can see."""
        return replace(self, types=sees_types(model))

    def batch(self, examples: Sequence[Example], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return input_ids and attention_mask int64[k·B, T]: all first texts, all second ones, …; and targets.

        Where all others of the batch are negatives, text_ids int64[k, B]: the same for equal texts.
        """
        keys = ["tokens", *(f"tokens_{i}" for i in range(1, self.texts))]
        batch = text_inputs([example[key] for key in keys for example in examples], self.pad_id)
        if self.types:
            batch["token_type_ids"] = padded([np.zeros(n) for n in batch["attention_mask"].sum(1).tolist()], 0)
        if self.scored:
            batch["targets"] = torch.tensor([float(example["target"]) for example in examples])
        elif not self.additive:
            batch["text_ids"] = torch.tensor([[name_of_text(example[key]) for example in examples] for key in keys])
        return batch

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the pairs or triplets."""
        n = len(batch["input_ids"]) // self.texts
        return {"similarity": torch.tensor(float(n), device=batch["input_ids"].device)}

    def output(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        """Return the embeddings [k, B, D]."""
        states = model(**inputs_of(batch)).last_hidden_state
        found = pool(states if states.dtype == torch.float64 else states.float(), batch["attention_mask"], self.pooling)
        return found.reshape(self.texts, -1, found.shape[-1])

    def total(self, output: Tensor, batch: dict[str, Tensor]) -> Total:
        """Return what the embeddings cost."""
        first, second, *rest = output
        if self.loss.name == "cosent":
            return self.loss(first, second, batch["targets"])
        if self.scored:
            return self.loss(torch.cosine_similarity(first, second), batch["targets"])
        if self.loss.name == "triplet":
            return self.loss(first, second, rest[0])
        ids = key_ids([batch["text_ids"].flatten()], len(first))
        return self.loss(first, torch.cat([second, *rest]), ids=ids)

    def terms(self, model: Any, batch: dict[str, Tensor]) -> dict[str, Total]:
        """Return {"similarity": Total}; in training that of a loss which is not additive is over all ranks' rows."""
        output = self.output(model, batch)
        whole = model.training and not self.additive
        return {"similarity": self._among_all(output, batch) if whole else self.total(output, batch)}

    def _among_all(self, output: Tensor, batch: dict[str, Tensor]) -> Total:
        """This rank's share of the loss of all ranks' rows, which each rank computes in full: any loss, any option."""
        parts = everyones(output)
        names = [key for key in batch if key in ("targets", "text_ids")]
        rest = {key: torch.cat(everyones(batch[key]), -1) for key in names}
        total = self.total(torch.cat(parts, 1), rest)
        return Total(total.value / len(parts), total.weight / len(parts))
