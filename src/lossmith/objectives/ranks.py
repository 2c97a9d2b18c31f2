"""What one rank needs of the others, with gradients that find their way back."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    """All ranks' tensors [W, …]; each rank's loss sends gradients to all of them, which are added up on the way back.

    Exact where the trainer's loss is the sum of the ranks' losses, and their gradients are added (not averaged).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[dist.get_rank()]


def everyones(x: Tensor) -> list[Tensor]:
    """Return `x` of all ranks (of one shape), this rank's own first, then those of the others in order."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return [x]
    every: list[Tensor] = list(_Gather.apply(x))  # type: ignore[no-untyped-call]
    own = every.pop(dist.get_rank())
    return [own, *every]
