"""Run as a process (alone or under torchrun): do one training step in float64 and save loss and gradients of rank 0."""

from __future__ import annotations

import sys
from typing import Any

import torch

from lossmith.data import Blocks, open_store
from lossmith.models import build_model
from lossmith.objectives import CausalObjective
from lossmith.train.config import TrainConfig, resolve
from lossmith.train.distributed import world
from lossmith.train.optim import Optimizers
from lossmith.train.signals import StopRequest
from lossmith.train.step import Trainer


class Recording(torch.optim.SGD):
    """SGD that keeps the gradients of its last step."""

    def step(self, closure: Any = None) -> Any:
        self.seen = [p.grad.clone() for group in self.param_groups for p in group["params"]]
        return super().step(closure)


class Uneven(CausalObjective):
    """The causal objective on rows of uneven weight: the longer the row's index, the more labels are ignored."""

    def batch(self, examples: Any, rng: Any) -> dict[str, torch.Tensor]:
        batch = super().batch(examples, rng)
        batch["labels"] = batch["labels"].clone()
        for row, tokens in zip(batch["labels"], batch["input_ids"], strict=True):
            row[int(tokens.sum()) % len(row) :] = -100
        return batch


def main(text: str, model_folder: str, out: str, batch: int, parts: int) -> None:
    config = resolve(
        TrainConfig(
            inputs=(text,), model=model_folder, tokenizer="byte", block_size=16, max_grad_norm=0.0, max_steps=1,
            per_device_train_batch_size=batch, gradient_accumulation_steps=parts,
        )
    )  # fmt: skip
    with world() as this:
        store = open_store(config.data())
        model = build_model(model_folder, vocab_size=257, context=16, seed=7, end_id=256).double()
        recording = Recording(model.parameters(), lr=0.1)
        trainer = Trainer(
            model, Uneven(), Optimizers([recording]), store, Blocks(store.train, 16, seed=3), config, this,
            total_steps=1,
        )  # fmt: skip
        trainer.train_step(1, StopRequest())
        if this.leads:
            nats, count = trainer.window.nats["causal"], trainer.window.counts["causal"]
            torch.save({"nats": nats, "count": count, "gradients": recording.seen}, out)


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]))
