"""A learned temperature that stays in the papers' range and finds back into it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.errors import InputError
from lossmith.losses._items import wide
from lossmith.losses._spec import LossSpec


class Temperature(nn.Module):
    """Return a learned temperature, kept in a range; give it to a contrastive loss as temperature=.

    Formula: ``temperature = exp(−s)`` with s = log_scale, learned, clamped to ``[−log highest, −log lowest]``. At a
        bound the gradient passes when a step of descent would go inwards and is 0 when it would go outwards.
    Shapes: no dimensions.
    Use: CLIP: Temperature(), 0.07 to begin with, scale (1/temperature) in [1, 100]. SigLIP: Temperature(0.1), with a
        bias that begins at −10. Leave log_scale out of weight decay.
    Avoid: SimCSE and other small batches: a fixed 0.05. With a learned one the loss may fall and nothing else improve.
    Errors: InputError unless 0 < lowest ≤ initial ≤ highest.
    Source: https://arxiv.org/abs/2103.00020 (CLIP, 2.5), https://arxiv.org/abs/2303.15343 (SigLIP)

    A plain clamp has no gradient outside its range, so that a scale which once stepped over it stays there for ever;
    clamping the parameter after each step, which CLIP's trainers do, is forgotten by whoever writes the next trainer.

    >>> temperature = Temperature()
    >>> round(temperature().item(), 4), round(temperature.log_scale.item(), 4)  # ln(1/0.07)
    (0.07, 2.6593)
    """

    def __init__(self, initial: float = 0.07, *, lowest: float = 0.01, highest: float = 1.0) -> None:
        super().__init__()
        if not 0 < lowest <= initial <= highest < math.inf:
            raise InputError(
                "lowest, initial and highest must satisfy 0 < lowest ≤ initial ≤ highest; "
                f"got {lowest}, {initial}, {highest}"
            )
        self.lowest, self.highest = lowest, highest
        self.log_scale = nn.Parameter(torch.tensor(-math.log(initial)))

    def forward(self) -> Tensor:
        """Return the temperature, float32 or wider."""
        bounds = -math.log(self.highest), -math.log(self.lowest)
        scale: Tensor = _InwardClamp.apply(wide(self.log_scale), *bounds)  # type: ignore[no-untyped-call]
        return torch.exp(-scale)

    def extra_repr(self) -> str:
        """Say what has been learned, and within what."""
        return f"{self().item():.4g}, lowest={self.lowest}, highest={self.highest}"


class _InwardClamp(torch.autograd.Function):
    """Clamp whose gradient passes where descent leads inwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (x,), (low, high) = ctx.saved_tensors, ctx.bounds
        outwards = ((x <= low) & (upstream > 0)) | ((x >= high) & (upstream < 0))
        return torch.where(outwards, 0, upstream), None, None


SPECS: tuple[LossSpec, ...] = (LossSpec(name="temperature", family="adaptive", fn=Temperature),)
