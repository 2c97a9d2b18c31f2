"""Stop before a non-finite number reaches the weights, and say where it came from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.errors import NonFiniteError


def check_finite(
    step: int,
    terms: Sequence[dict[str, float]],
    grad_norm: float,
    model: nn.Module,
    describe: Any,
) -> None:
    """Raise NonFiniteError naming step, term, micro-batch (in `describe(index)`'s words) or the parameters at fault.

    `terms`: the value of each term, by micro-batch, in nats; `grad_norm`: L2 norm of all gradients before clipping.
    """
    for index, values in enumerate(terms):
        for name, value in values.items():
            if not math.isfinite(value):
                raise NonFiniteError(
                    f"step {step}: the loss term {name!r} is {value} in micro-batch {index + 1} of {len(terms)} "
                    f"({describe(index)}); the weights are those of step {step - 1}"
                )
    if not math.isfinite(grad_norm):
        raise NonFiniteError(
            f"step {step}: the loss is finite and the gradient is not (norm {grad_norm}): {_culprits(model)}, "
            f"on {_all(len(terms))}{describe(0)}; the weights are those of step {step - 1}. A lower "
            "--learning-rate, or a longer --warmup-steps, mostly helps"
        )


def _all(parts: int) -> str:
    """The gradient is that of all micro-batches: the first one alone would be a guess."""
    return f"{parts} micro-batches from " if parts > 1 else ""


def _culprits(model: nn.Module) -> str:
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not _finite(p.grad)]
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    return "in " + ", ".join(bad[:3]) + more if bad else "each gradient is finite, their norm overflows"


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
