"""What the steps so far amount to: the smoothed loss, the speed, the time that is left."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

SMOOTHING = 0.95  # weight of the past at each step: half of the smoothed loss comes from the last 14 steps


@dataclass
class Smoothed:
    """A mean of the losses of all steps in which a step weighs 0.95 of the next one.

    Formula: mₙ = β·mₙ₋₁ + (1−β)·lossₙ from m₀ = 0, divided by 1−βⁿ, so that the first steps weigh no more than their
    share. Source: https://arxiv.org/abs/1412.6980, section 3 (initialization bias correction).

    >>> smoothed = Smoothed()
    >>> [round(smoothed.add(loss), 3) for loss in (4.0, 2.0)]
    [4.0, 2.974]
    """

    sum: float = 0.0
    steps: int = 0

    def add(self, loss: float) -> float:
        """Take in the loss of a step and return the mean."""
        self.sum = SMOOTHING * self.sum + (1 - SMOOTHING) * loss
        self.steps += 1
        return self.sum / (1 - SMOOTHING**self.steps)


@dataclass
class Story:
    """What a reader of the live line knows: last and smoothed loss, last evaluation, speed, the time that is left."""

    step: int = 0
    loss: float = math.nan
    smoothed: float = math.nan
    eval_loss: float = math.nan
    bits_per_byte: float | None = None
    speed: float = math.nan
    first_step: int = 0
    began: float = field(default_factory=time.perf_counter)

    def advance(self, step: int, loss: float, smoothed: float) -> None:
        """Take in a step; the clock starts after the first one."""
        if not self.first_step:
            self.first_step, self.began = step, time.perf_counter()
        self.step, self.loss, self.smoothed = step, loss, smoothed

    def evaluation(self, row: dict[str, Any]) -> None:
        """Take in an evaluation row."""
        self.eval_loss, self.bits_per_byte = row["eval_loss"], row.get("eval_bpb")

    def remaining(self, total: int) -> float:
        """Seconds to the end at the pace so far, evaluations and checkpoints included."""
        done = self.step - self.first_step
        return (time.perf_counter() - self.began) / done * (total - self.step) if done else math.nan
