"""The streaming form: logits exist for a few rows at a time, and gradients are made while they do (any device)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_BYTES = (
    32 * 2**20
)  # of float32 logits alive at once: fits a server's last-level cache, long enough for fast GEMMs


def chunk_rows(vocabulary: int) -> int:
    """Return how many rows of float32 logits fit into CHUNK_BYTES."""
    return max(1, CHUNK_BYTES // (4 * vocabulary))


@dataclass(frozen=True, slots=True)
class Shape:
    """What stands between the linear map and the softmax."""

    softcap: float | None
    scale: float


def _logits(rows: Tensor, weight: Tensor, bias: Tensor | None, shape: Shape, wide: torch.dtype) -> Tensor:
    logits = torch.nn.functional.linear(rows, weight, bias).to(wide)
    if shape.scale != 1.0:
        logits = logits * shape.scale
    if shape.softcap is not None:
        logits = torch.tanh(logits / shape.softcap) * shape.softcap
    return logits


def _logit_gradient(logits: Tensor, lse: Tensor, target: Tensor, weights: Tensor | None, shape: Shape) -> Tensor:
    """d value / d (hidden·weightᵀ + bias), written over nothing: softmax − onehot, weighted, through cap and scale."""
    grad = torch.exp(logits - lse[:, None])
    grad[torch.arange(len(target), device=target.device), target] -= 1
    if weights is not None:
        grad *= weights[:, None]
    if shape.softcap is not None:
        grad *= 1 - (logits / shape.softcap) ** 2
    if shape.scale != 1.0:
        grad *= shape.scale
    return grad


class ChunkedSum(torch.autograd.Function):
    """Σ wᵢ·nllᵢ over rows; the gradients for an upstream of 1 are made in the forward pass, where the logits are."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        weights: Tensor | None,
        shape: Shape,
        chunk_rows: int,
    ) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        want_h, want_w, want_b = ctx.needs_input_grad[:3]
        value = torch.zeros((), dtype=wide, device=hidden.device)
        grad_h = torch.empty_like(hidden) if want_h else None
        grad_w = torch.zeros_like(weight, dtype=wide) if want_w else None
        grad_b = torch.zeros_like(bias, dtype=wide) if want_b and bias is not None else None
        for start in range(0, len(target), chunk_rows):
            piece = slice(start, start + chunk_rows)
            rows, labels = hidden[piece], target[piece]
            w = None if weights is None else weights[piece].to(wide)
            logits = _logits(rows, weight, bias, shape, wide)
            lse = torch.logsumexp(logits, -1)
            nll = lse - logits.gather(1, labels[:, None])[:, 0]
            value += nll.sum() if w is None else (nll * w).sum()
            if not (want_h or want_w or want_b):
                continue
            grad = _logit_gradient(logits, lse, labels, w, shape)
            if grad_b is not None:
                grad_b += grad.sum(0)
            narrow = grad.to(hidden.dtype)
            if grad_h is not None:
                grad_h[piece] = narrow @ weight
            if grad_w is not None:
                grad_w += narrow.T @ rows
        ctx.dtypes = (weight.dtype, None if bias is None else bias.dtype)
        ctx.save_for_backward(grad_h, grad_w, grad_b)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        grad_h, grad_w, grad_b = ctx.saved_tensors
        grad_h = None if grad_h is None else (grad_h * upstream).to(grad_h.dtype)
        grad_w = None if grad_w is None else (grad_w * upstream).to(ctx.dtypes[0])
        grad_b = None if grad_b is None else (grad_b * upstream).to(ctx.dtypes[1])
        return grad_h, grad_w, grad_b, None, None, None, None
