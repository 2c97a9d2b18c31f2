"""The operator that torch sees: opaque to torch.compile, its gradients made in the forward pass, backward a scaling.

Gradients for an upstream of 1 are made while the logits are there (three products in all, where recomputing takes
four), and only those that somebody asked for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossmith.losses._items import IGNORED
from lossmith.losses.linear_cross_entropy._chunked import Options, RowTerms, chunked_sum
from lossmith.losses.linear_cross_entropy._made import gradients_are_made

Results = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _forward(
    hidden: Tensor,
    head: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    weights: Tensor | None,
    class_weights: Tensor | None,
    numbers: list[float],
    softcap: float | None,
    max_memory: int | None,
    impl: str,
    want: list[bool],
    compute: torch.dtype,
) -> Results:
    """Return Σ loss, Σ weights, and the gradients with respect to hidden, head and bias (empty where not wanted)."""
    label_smoothing, z_loss, logit_scale, filter_below = numbers
    options = Options(label_smoothing, z_loss, softcap, logit_scale, filter_below)
    rows = counted_rows(targets, weights, None if label_smoothing else class_weights)
    if rows is not None:
        targets = targets[rows]
        weights = None if weights is None else weights[rows]
    asked = (want[0], want[1], want[2])
    with torch.autocast(hidden.device.type, enabled=False):
        if impl == "triton":
            from lossmith.losses.linear_cross_entropy._triton import triton_sum

            inputs = (*_narrow(hidden, head, rows, compute), bias, targets, weights, class_weights)
            value, *grads = triton_sum(*inputs, options, asked, max_memory, head_gradient_dtype(head, impl, compute))
            grads[0] = _spread_rows(grads[0], rows, hidden)
        else:
            terms = RowTerms(targets, weights, class_weights, options, len(head))
            value, *grads = chunked_sum(hidden, head.to(compute), bias, rows, terms, asked, max_memory)
    counted = _count(targets, weights, class_weights, value.dtype)
    nothing = [value.new_empty(0) if grad is None else grad for grad in grads]
    return value, counted, nothing[0].to(hidden.dtype), nothing[1], nothing[2]


def counted_rows(targets: Tensor, weights: Tensor | None, class_weights: Tensor | None) -> Tensor | None:
    """Return the indices of the rows that weigh something; None where all do."""
    keep = targets != IGNORED
    if weights is not None:
        keep &= weights != 0
    if class_weights is not None:
        keep &= class_weights[targets.clamp_min(0)] != 0
    rows = keep.nonzero()[:, 0]
    return None if len(rows) == len(targets) else rows


def head_gradient_dtype(head: Tensor, impl: str, compute: torch.dtype) -> torch.dtype:
    """Wide where it is accumulated block by block; Triton makes it in one product, so the head's own dtype will do."""
    wide = torch.promote_types(compute, torch.float32)
    return compute if impl == "triton" and head.dtype == compute else wide


def _narrow(hidden: Tensor, head: Tensor, rows: Tensor | None, compute: torch.dtype) -> tuple[Tensor, Tensor]:
    return (hidden if rows is None else hidden[rows]).to(compute), head.to(compute)


def _spread_rows(grad: Tensor | None, rows: Tensor | None, hidden: Tensor) -> Tensor | None:
    if grad is None or rows is None:
        return grad
    return torch.zeros_like(hidden, dtype=grad.dtype).index_copy_(0, rows, grad)


def _count(targets: Tensor, weights: Tensor | None, class_weights: Tensor | None, dtype: torch.dtype) -> Tensor:
    if weights is None and class_weights is None:
        return torch.full((), len(targets), dtype=dtype, device=targets.device)
    each = torch.ones_like(targets, dtype=dtype) if weights is None else weights.to(dtype)
    return (each if class_weights is None else each * class_weights[targets].to(dtype)).sum()


linear_cross_entropy_op = torch.library.custom_op("lossmith::linear_cross_entropy", _forward, mutates_args=())


@linear_cross_entropy_op.register_fake
def _shapes(
    hidden: Tensor, head: Tensor, bias: Any, targets: Any, weights: Any, class_weights: Any, *options: Any
) -> Results:
    impl, want, compute = options[-3:]
    wide = torch.promote_types(compute, torch.float32)

    def like(x: Tensor, wanted: bool, dtype: torch.dtype) -> Tensor:
        return (
            torch.empty_like(x, dtype=dtype, memory_format=torch.contiguous_format)
            if wanted
            else x.new_empty(0, dtype=dtype)
        )

    return (
        hidden.new_empty((), dtype=wide),
        hidden.new_empty((), dtype=wide),
        like(hidden, want[0], hidden.dtype),
        like(head, want[1], head_gradient_dtype(head, impl, compute)),
        like(hidden.new_empty(len(head)), want[2], wide),
    )


gradients_are_made(
    linear_cross_entropy_op,
    totals=2,
    want=-2,
    refusal="linear_cross_entropy has no second derivative; use impl='reference' (it holds the logits)",
)
