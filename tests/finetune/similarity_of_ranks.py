"""Run as a process (alone or under torchrun): the loss of eight rows of texts and its gradients, for every loss."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertModel

from lossmith.objectives.tasks_losses import task_loss
from lossmith.objectives.tasks_similarity import SimilarityObjective
from lossmith.train.distributed import World, world

CASES: dict[str, tuple[str, str, list[str]]] = {
    "info_nce": ("paired", "info_nce", []),
    "both ways": ("paired", "info_nce", ["symmetric=true", "within=true", "temperature=0.3"]),
    "hard negatives": ("triplet", "info_nce", ["temperature=0.2"]),
    "decoupled": ("paired", "decoupled", ["within=true"]),
    "siglip": ("paired", "siglip", []),
    "cosent": ("scored", "cosent", []),
    "triplet": ("triplet", "triplet", []),
    "mse": ("scored", "mse", []),
}


def examples(texts: int) -> list[dict[str, Any]]:
    """Eight rows; the last text of row 6 is the one of row 1, on the other rank."""
    draw = np.random.default_rng(0)
    rows = [{f"tokens_{i}" if i else "tokens": draw.integers(5, 40, 3 + i) for i in range(texts)} for _ in range(8)]
    rows[6]["tokens_1"] = rows[1]["tokens_1"]
    return [row | {"target": float(i % 3)} for i, row in enumerate(rows)]


def one(case: str, this: World) -> dict[str, Any]:
    shape, name, options = CASES[case]
    texts = 3 if shape == "triplet" else 2
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.5,
    )  # fmt: skip
    model = BertModel(config).double().train()
    loss = task_loss(f"similarity_{shape}", name, options)
    objective = SimilarityObjective(loss, 0, "mean", texts, shape == "scored").adopt(model)
    rows, size = examples(texts), 8 // this.size
    batch = objective.batch(rows[this.rank * size : (this.rank + 1) * size], np.random.default_rng(0))
    count = this.sum(objective.counts(batch)["similarity"].double())
    total = objective.terms(model, batch)["similarity"]
    assert float(total.weight) == size
    (total.value / count).backward()
    parameters = [p for p in model.parameters() if p.requires_grad]
    this.sum_gradients(parameters)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return {"value": this.sum(total.value.detach().clone()), "count": count, "gradients": gradients}


def main(out: str) -> None:
    with world() as this:
        found = {case: one(case, this) for case in CASES}
        if this.leads:
            torch.save(found, out)


if __name__ == "__main__":
    main(sys.argv[1])
