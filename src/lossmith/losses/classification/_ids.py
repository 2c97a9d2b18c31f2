"""What the losses on class ids share: which items count, and how far the right class is ahead of all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses._items import blank, counted, floating, in_range, same_shape, wide
from lossmith.total import Total

ROWS = "logits without the last dimension"


def check_logits(logits: Tensor) -> None:
    """Raise InputError unless logits are floating, with one class at least in the last dimension."""
    floating("logits", logits)
    if logits.ndim < 1 or not logits.shape[-1]:
        raise InputError(f"logits must be [..., C] with at least one class; got {tuple(logits.shape)}")


def class_ids(logits: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return which items count, their logits in float32 or wider, and their class ids (0 where nothing counts)."""
    check_logits(logits)
    if targets.is_floating_point() or targets.dtype == torch.bool:
        raise InputError(f"targets must be class ids (integers); got {targets.dtype}")
    same_shape("targets", targets, logits.shape[:-1], ROWS)
    same_shape("weights", weights, logits.shape[:-1], ROWS)
    in_range("targets", targets, logits.shape[-1])
    keep = counted(targets, weights, targets)
    return keep, blank(wide(logits), keep), torch.where(keep, targets, 0).long()


def pick(x: Tensor, ids: Tensor) -> Tensor:
    """Return the entry of each row (last dimension) that an id names."""
    return x.gather(-1, ids[..., None])[..., 0]


def margin(logits: Tensor, ids: Tensor) -> Tensor:
    """Return ``m = z_y − log Σ_{j≠y} exp zⱼ``, so that p_y = σ(m): log p and log(1 − p) are both exact from it.

    From log p alone 1 − p is lost where p is near 1, and with it the slope of (1 − p)^γ for γ < 1.
    """
    others = logits.scatter(-1, ids[..., None], -torch.inf)
    alone = (others == -torch.inf).all(-1)  # p = 1; logsumexp has no slope there
    rest = torch.logsumexp(torch.where(alone[..., None], 0, others), -1)
    return torch.where(alone, torch.inf, pick(logits, ids) - rest)


def remaining(logits: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights, probabilities and ids without what weighs nothing, by index: for the references."""
    keep = targets != -100
    w = logits.new_ones(targets.shape)
    if weights is not None:
        w, keep = weights.detach(), keep & (weights != 0)
    return w[keep], torch.softmax(logits[keep], -1), targets[keep]


def example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    """Return a small call: seven items of five classes."""
    logits = torch.randn(7, 5, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weights = (torch.rand(7, generator=generator, dtype=torch.float64) + 0.5).to(dtype)
    return {"logits": logits, "targets": torch.tensor([0, 4, 1, 1, 3, 2, 0]), "weights": weights}


def over_probability(loss: Callable[..., Total], **options: Any) -> Callable[[Tensor], Tensor]:
    """Return the loss of two classes as a function of the probability of the right one."""

    def curve(p: Tensor) -> Tensor:
        logits, right = torch.stack([p.log(), torch.log1p(-p)], -1), torch.zeros((), dtype=torch.long)
        return torch.stack([loss(row, right, **options).value for row in logits])

    return curve
