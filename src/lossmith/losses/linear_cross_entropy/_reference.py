"""The plain formula, in whatever dtype it is given: what the streaming forms are tested against."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.total import Total


def logits(
    hidden: Tensor, head: Tensor, bias: Tensor | None, logit_scale: float | Tensor, softcap: float | None
) -> Tensor:
    """Return ``cap(logit_scale·(hidden·headᵀ + bias))``, all of it: hidden [N, D], head [V, D] → [N, V]."""
    z = torch.nn.functional.linear(hidden, head, bias) * logit_scale
    return z if softcap is None else softcap * torch.tanh(z / softcap)


def reference(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    logit_scale: float | Tensor = 1.0,
) -> Total:
    """Return the total of `linear_cross_entropy` with all logits in memory; hidden [N, D], head [V, D], targets [N]."""
    keep = targets != -100
    if weights is not None:
        keep &= weights != 0
    hidden, targets = hidden[keep], targets[keep]
    z = logits(hidden, head, bias, logit_scale, softcap)
    w = z.new_ones(len(targets)) if weights is None else weights[keep].to(z.dtype)
    c = z.new_ones(len(head)) if class_weights is None else class_weights.to(z.dtype)
    own = c[targets]
    surprisal = -torch.log_softmax(z, -1)
    losses = own * surprisal.gather(-1, targets[:, None])[:, 0] * (1 - label_smoothing)
    if label_smoothing:
        losses = losses + label_smoothing / len(head) * (surprisal * c).sum(-1)
    losses = losses + z_loss * own * torch.logsumexp(z, -1) ** 2
    return Total((w * losses).sum(), (w * own).sum().detach())
