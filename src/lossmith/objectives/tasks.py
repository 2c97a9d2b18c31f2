"""Fine-tuning with a head over the whole text or over its words: classes, several labels, numbers, tags."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossmith.objectives.shared import padded, text_inputs
from lossmith.objectives.tasks_losses import TaskLoss
from lossmith.total import Total

Example = dict[str, Any]


def sees_types(model: Any) -> bool:
    """Tell whether a model tells the two texts of a pair apart by token_type_ids."""
    forward = model.base_model.forward if hasattr(model, "base_model") else model.forward
    kinds = getattr(model.config, "type_vocab_size", 2) or 0
    return "token_type_ids" in inspect.signature(forward).parameters and kinds > 1


@dataclass(frozen=True)
class HeadObjective:
    """Give a text, or each of its words, what a model's head says of it, and ask what that costs.

    Formula: Σ loss(head(text), label) over the rows (tagging: over the first piece of each word), divided by Σ weights.
    Examples: {"tokens": int64[T]}, with a pair also {"types": int64[T]}, and {"target"}: a class id (classification),
    float32[C] of zeros and ones (multi_label), a number (regression), int64[T] with −100 where no word begins
    (tagging).
    """

    task: str
    loss: TaskLoss
    outputs: int
    pad_id: int
    types: bool = field(default=True)

    @property
    def additive(self) -> bool:
        """Whether a batch may be divided."""
        return self.loss.additive

    def adopt(self, model: Any) -> HeadObjective:
        """Return the objective with what the model can see."""
        return replace(self, types=sees_types(model))

    def batch(self, examples: Sequence[Example], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return input_ids, attention_mask (and token_type_ids) int64[B, T], and targets."""
        batch = text_inputs([example["tokens"] for example in examples], self.pad_id)
        if "types" in examples[0] and self.types:
            batch["token_type_ids"] = padded([example["types"] for example in examples], 0)
        targets = [example["target"] for example in examples]
        if self.task == "tagging":
            return batch | {"targets": padded(targets, -100)}
        kind = torch.long if self.task == "classification" else torch.float32
        return batch | {"targets": torch.from_numpy(np.stack(targets)).to(kind)}

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return Σ weights; what a loss weighs depends on its targets alone, so that zeros may stand for the output."""
        targets = batch["targets"]
        shape = targets.shape if self.task in ("multi_label", "regression") else (*targets.shape, self.outputs)
        return {self.task: self.loss(torch.zeros(shape, device=targets.device), targets).weight}

    def output(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        """Return what the head says: [B, C], [B] (regression) or [B, T, C] (tagging)."""
        inputs = {key: value for key, value in batch.items() if key != "targets"}
        logits: Tensor = model(**inputs).logits.float()
        return logits[..., 0] if self.task == "regression" else logits

    def total(self, output: Tensor, batch: dict[str, Tensor]) -> Total:
        """Return what an output costs."""
        return self.loss(output, batch["targets"])

    def terms(self, model: Any, batch: dict[str, Tensor]) -> dict[str, Total]:
        """Return {task: Total}."""
        return {self.task: self.total(self.output(model, batch), batch)}
