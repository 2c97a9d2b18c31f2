"""The plain formula, in whatever dtype it is given: what the chunked form is tested against."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.total import Total


def reference(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    bias: Tensor | None = None,
    weights: Tensor | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
) -> Total:
    """Return Σ wᵢ·(logsumexp(zᵢ) − zᵢ[targetᵢ]) with all logits in memory; hidden [N, D], weight [V, D], target [N]."""
    keep = target != -100
    if weights is not None:
        keep &= weights != 0
        weights = weights[keep]
    logits = torch.nn.functional.linear(hidden[keep], weight, bias) * logit_scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    losses = torch.logsumexp(logits, -1) - logits.gather(-1, target[keep, None])[:, 0]
    if weights is None:
        return Total(losses.sum(), keep.sum())
    return Total((losses * weights).sum(), weights.sum())
