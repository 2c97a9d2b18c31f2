"""Optimizers: parameters in groups, one or two torch optimizers behind one handle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lossmith.errors import MissingPackageError
from lossmith.precision import fast_bf16
from lossmith.train.config import settled
from lossmith.train.options import RunOptions


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


def build_optimizers(
    model: nn.Module, config: RunOptions, own: nn.Module | None = None, heads: Sequence[nn.Module] = ()
) -> Optimizers:
    """Make the optimizers of a resolved config: matrices are decayed, vectors (norms, biases) are not.

    `own`: tensors of the objective, trained like the model's; `heads`: further layers that Muon is not for.

    Source: https://kellerjordan.github.io/posts/muon (which parameters Muon is for).
    """
    modules = [model] if own is None else [model, own]
    trained = trained_parameters(*modules)
    if config.optim == "muon":
        outside = _embeddings_and_heads(modules) | {id(p) for head in heads for p in head.parameters()}
        return _muon(trained, outside, config)
    groups = _decay_groups(trained, config)
    rate = settled(config.learning_rate)
    if config.optim == "sgd":
        return Optimizers([torch.optim.SGD(groups, lr=rate, momentum=settled(config.momentum))])
    kind = torch.optim.Adam if config.optim == "adam" else torch.optim.AdamW
    return Optimizers([kind(groups, lr=rate, **_adam_options(config))])


def _adam_options(config: RunOptions) -> dict[str, Any]:
    betas = (settled(config.adam_beta1), settled(config.adam_beta2))
    return {"betas": betas, "eps": settled(config.adam_epsilon), "fused": True}


def trained_parameters(*modules: nn.Module | None) -> list[nn.Parameter]:
    """Return the parameters of modules that take gradients, each once though modules share it."""
    found = {id(p): p for module in modules if module is not None for p in module.parameters() if p.requires_grad}
    return list(found.values())


def _decay_groups(trained: list[nn.Parameter], config: RunOptions) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _muon(trained: list[nn.Parameter], outside: set[int], config: RunOptions) -> Optimizers:
    if not hasattr(torch.optim, "Muon"):
        raise MissingPackageError(f"--optim muon needs torch 2.9 or newer; got {torch.__version__}: use --optim adamw")
    # A matrix of one row is a vector: Muon would make every step of it equally long.
    matrices = [p for p in trained if p.ndim == 2 and min(p.shape) > 1 and id(p) not in outside]
    inside = {id(p) for p in matrices}
    rest = _decay_groups([p for p in trained if id(p) not in inside], config)
    made: list[torch.optim.Optimizer] = []
    if matrices:
        rate, decay = settled(config.learning_rate), settled(config.weight_decay)
        kind = _muon_for(matrices[0].device)
        made.append(kind(matrices, lr=rate, weight_decay=decay, momentum=settled(config.momentum)))
    if rest:
        made.append(torch.optim.AdamW(rest, lr=settled(config.adamw_learning_rate), **_adam_options(config)))
    return Optimizers(made)


def _muon_for(device: torch.device) -> type[torch.optim.Muon]:
    """Return torch's Muon, which multiplies in bfloat16, or the one for devices that do so slowly."""
    if fast_bf16(device):
        return torch.optim.Muon
    from lossmith.train.muon import WideMuon  # which asks for a torch that has one

    return WideMuon


def _embeddings_and_heads(modules: list[nn.Module]) -> set[int]:
    """Return the ids of parameters that Muon is not for: tables of tokens, and layers that score tokens."""
    every = [m for module in modules for m in module.modules()]
    layers: list[Any] = [m for m in every if isinstance(m, nn.Embedding)]
    scoring: list[Any] = [m for m in every if hasattr(m, "get_output_embeddings")]
    layers += [m.get_output_embeddings() for m in scoring]
    return {id(p) for layer in layers if layer is not None for p in layer.parameters()}
