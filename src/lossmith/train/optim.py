"""Optimizers: parameters in groups, one or two torch optimizers behind one handle."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lossmith.errors import MissingPackageError
from lossmith.train.config import TrainConfig, settled


class Optimizers:
    """One or more torch optimizers stepped together; each group's rate is its peak times the schedule's factor."""

    def __init__(self, optimizers: list[torch.optim.Optimizer]) -> None:
        self.optimizers = optimizers
        self.peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]

    def step(self, factor: float) -> None:
        """Set every group's learning rate to peak × factor and update."""
        for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the state of every optimizer."""
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Restore what state_dict gave; peaks stay those of the options."""
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def build_optimizers(model: nn.Module, config: TrainConfig) -> Optimizers:
    """Make the optimizers of a resolved config: matrices are decayed, vectors (norms, biases) are not.

    Source: https://kellerjordan.github.io/posts/muon (which parameters Muon is for).
    """
    if config.optim == "muon":
        return _muon(model, config)
    groups = _decay_groups(list(model.named_parameters()), config)
    rate = settled(config.learning_rate)
    if config.optim == "sgd":
        return Optimizers([torch.optim.SGD(groups, lr=rate, momentum=settled(config.momentum))])
    kind = torch.optim.Adam if config.optim == "adam" else torch.optim.AdamW
    return Optimizers([kind(groups, lr=rate, **_adam_options(config))])


def _adam_options(config: TrainConfig) -> dict[str, Any]:
    betas = (settled(config.adam_beta1), settled(config.adam_beta2))
    return {"betas": betas, "eps": settled(config.adam_epsilon), "fused": True}


def _decay_groups(named: list[tuple[str, nn.Parameter]], config: TrainConfig) -> list[dict[str, Any]]:
    trained = [p for _, p in named if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _muon(model: nn.Module, config: TrainConfig) -> Optimizers:
    if not hasattr(torch.optim, "Muon"):
        raise MissingPackageError(f"--optim muon needs torch 2.9 or newer; got {torch.__version__}: use --optim adamw")
    outside = _embedding_and_head(model)
    named = list(model.named_parameters())
    matrices = [p for _, p in named if p.ndim == 2 and p.requires_grad and id(p) not in outside]
    rest = _decay_groups([(name, p) for name, p in named if p.ndim != 2 or id(p) in outside], config)
    made: list[torch.optim.Optimizer] = []
    if matrices:
        rate, decay = settled(config.learning_rate), settled(config.weight_decay)
        made.append(torch.optim.Muon(matrices, lr=rate, weight_decay=decay, momentum=settled(config.momentum)))
    if rest:
        made.append(torch.optim.AdamW(rest, lr=settled(config.adamw_learning_rate), **_adam_options(config)))
    return Optimizers(made)


def _embedding_and_head(model: Any) -> set[int]:
    layers = [m for m in model.modules() if isinstance(m, nn.Embedding)] + [model.get_output_embeddings()]
    return {id(p) for layer in layers if layer is not None for p in layer.parameters()}
