"""Learning-rate schedules: a factor of the peak for every step, a function of the step alone."""

from __future__ import annotations

import math


def learning_rate_factor(
    step: int,
    total: int,
    *,
    kind: str,
    warmup: float = 0.0,
    min_rate: float = 0.0,
    decay_fraction: float = 0.2,
) -> float:
    """Return the factor of the peak learning rate at optimizer step `step` (0, 1, …) of `total`.

    Formula: linear warm-up ``(step+1)/warmup``; then with progress p in [0, 1): constant 1, linear ``1−p``,
    cosine ``(1+cos πp)/2``, wsd 1 until the last `decay_fraction` of all steps, then linear to 0; all stretched to end
    at `min_rate`. A `warmup` below 1 is a fraction of `total`.
    Source: https://arxiv.org/abs/1608.03983 (cosine), https://arxiv.org/abs/2404.06395 (wsd).

    >>> [round(learning_rate_factor(s, 4, kind="linear"), 2) for s in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    >>> learning_rate_factor(0, 100, kind="cosine", warmup=10)
    0.1
    """
    warmup_steps = round(warmup * total) if warmup < 1 else round(warmup)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    after = total - warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, after))
    return min_rate + (1 - min_rate) * _shape(kind, progress, decay_fraction * total / max(1, after))


def _shape(kind: str, progress: float, decay: float) -> float:
    if kind == "linear":
        return 1 - progress
    if kind == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    if kind == "wsd":
        return min(1.0, (1 - progress) / min(1.0, decay)) if decay > 0 else 1.0
    return 1.0
