"""Focal loss whose γ follows a schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.errors import InputError, did_you_mean
from lossmith.losses._items import positive
from lossmith.losses._spec import LossSpec
from lossmith.losses.classification import focal
from lossmith.total import Total

SCHEDULES = ("linear", "cosine")


class ScheduledFocal(nn.Module):
    """Return the focal loss with a γ that goes from `start` to `stop` in `steps` steps.

    Formula: focal with ``γ = start + (stop − start)·p`` (linear) or ``stop + (start − stop)·(1 + cos πp)/2`` (cosine),
        ``p = min(step/steps, 1)``.
    Shapes: as focal: logits [..., C], targets [...], weights [...].
    Use: to start with cross-entropy (start=0) and focus later, when the easy examples have been learned; or to start
        focused and end at cross-entropy (stop=0), whose probabilities are the ones to trust.
    Avoid: where the loss itself is compared between steps: its unit changes with γ.
    Errors: InputError for a negative start or stop, no steps, an unknown schedule, and what focal refuses.
    Source: https://arxiv.org/abs/1708.02002 (focal), https://arxiv.org/abs/2002.09437 (Mukhoti et al.: schedules)

    `step()` counts one step (call it after the optimizer's); state_dict holds the count. Or give step= at each call.

    >>> loss = ScheduledFocal(start=0.0, stop=2.0, steps=10)
    >>> loss(torch.zeros(1, 2), torch.tensor([0])).mean()  # γ = 0: ln 2
    tensor(0.6931)
    >>> loss(torch.zeros(1, 2), torch.tensor([0]), step=10).mean()  # γ = 2: (1 − ½)²·ln 2
    tensor(0.1733)
    """

    position: Tensor
    focal_alpha: float | Tensor | None

    def __init__(
        self, start: float, stop: float, steps: int, *, schedule: str = "linear", alpha: float | Tensor | None = None
    ) -> None:
        super().__init__()
        for name, value in (("start", start), ("stop", stop)):
            positive(name, value, zero=True)
        positive("steps", steps)
        if schedule not in SCHEDULES:
            hint = did_you_mean(schedule, SCHEDULES)
            raise InputError(f"schedule must be one of {', '.join(SCHEDULES)}; got {schedule!r}.{hint}")
        self.start, self.stop, self.steps, self.schedule = start, stop, steps, schedule
        if isinstance(alpha, Tensor):
            self.register_buffer("focal_alpha", alpha)
        else:
            self.focal_alpha = alpha
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    def gamma(self, step: int | Tensor | None = None) -> Tensor:
        """Return γ at a step (default: the one that has been counted to): float32, no dimensions."""
        at = self.position if step is None else torch.as_tensor(step, device=self.position.device)
        share = (at / self.steps).clamp(0, 1)
        if self.schedule == "cosine":
            share = (1 - torch.cos(math.pi * share)) / 2
        return self.start + (self.stop - self.start) * share

    def step(self) -> None:
        """Count one step."""
        self.position += 1

    def forward(
        self, logits: Tensor, targets: Tensor, *, weights: Tensor | None = None, step: int | Tensor | None = None
    ) -> Total:
        """Return the total of focal at the step's γ."""
        options: dict[str, Any] = {"gamma": self.gamma(step), "alpha": self.focal_alpha}
        return focal(logits, targets, weights=weights, **options)

    def extra_repr(self) -> str:
        """Say the schedule and where it stands."""
        return f"{self.start} → {self.stop} in {self.steps} steps, {self.schedule}, at step {int(self.position)}"


SPECS: tuple[LossSpec, ...] = (LossSpec(name="scheduled_focal", family="adaptive", fn=ScheduledFocal),)
