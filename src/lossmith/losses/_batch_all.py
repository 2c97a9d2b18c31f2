"""Every triplet of a batch, streamed: N³ triplets are made and used a few pairs of anchor and positive at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossmith.errors import RunError
from lossmith.losses.linear_cross_entropy._stream import spans
from lossmith.total import Total

TRIPLET_BYTES = 4 * 2**20  # of wide differences d(a, p) − d(a, n) at once, and seven times that of what is made of them


def batch_all(
    distances: Tensor, near: Tensor, far: Tensor, weights: Tensor, margin: float | None, nonzero: bool
) -> Total:
    """Return ``Σ wₐ·hinge(dₐₚ − dₐₙ)`` over every near p and far n of every anchor a; margin None: softplus.

    distances [N, N]; near, far bool [N, N]; weights [N]. nonzero: only triplets that cost something weigh.
    """
    wanted = torch.is_grad_enabled() and distances.requires_grad
    value, weight, _ = batch_all_op(distances, near, far, weights, margin, nonzero, wanted)
    return Total(value, weight.detach())


def _forward(
    distances: Tensor,
    near: Tensor,
    far: Tensor,
    weights: Tensor,
    margin: float | None,
    nonzero: bool,
    wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return Σ w·loss, Σ w, and the gradient of the distances (empty where not wanted)."""
    value, weight = distances.new_zeros(()), distances.new_zeros(())
    gradient = torch.zeros_like(distances) if wanted else distances.new_empty(0)
    anchor, positive = near.nonzero(as_tuple=True)
    for span in spans(0, len(anchor), TRIPLET_BYTES // max(1, len(distances) * distances.itemsize)):
        a, p = anchor[span], positive[span]
        difference = distances[a, p, None] - distances[a]
        losses, slope = _soft(difference) if margin is None else _hard(difference + margin)
        valid = far[a]
        w = weights[a]
        costing = valid & (losses > 0) if nonzero else valid
        value += (torch.where(valid, losses, 0).sum(1) * w).sum()
        weight += (costing.sum(1) * w).sum()
        if wanted:
            slope = torch.where(valid, slope, 0) * w[:, None]
            gradient.index_add_(0, a, -slope)
            gradient.index_put_((a, p), slope.sum(1), accumulate=True)
    return value, weight, gradient


def _soft(difference: Tensor) -> tuple[Tensor, Tensor]:
    return -logsigmoid(-difference), torch.sigmoid(difference)


def _hard(violation: Tensor) -> tuple[Tensor, Tensor]:
    return torch.relu(violation), (violation > 0).to(violation.dtype)


batch_all_op = torch.library.custom_op("lossmith::batch_all", _forward, mutates_args=())


@batch_all_op.register_fake
def _shapes(distances: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    gradient = torch.empty_like(distances) if rest[-1] else distances.new_empty(0)
    return distances.new_empty(()), distances.new_empty(()), gradient


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[2])


def _backward(ctx: Any, upstream: Tensor | None, *of_the_rest: Tensor | None) -> tuple[Any, ...]:
    if any(x is not None for x in of_the_rest):
        raise RunError("batch_all has no second derivative: its gradient is made in the forward pass")
    return None if upstream is None else ctx.saved_tensors[0] * upstream, *[None] * 6


batch_all_op.register_autograd(_backward, setup_context=_keep)
