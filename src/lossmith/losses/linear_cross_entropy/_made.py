"""Autograd for operators whose forward pass makes the gradients: backward only multiplies by the upstream."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossmith.errors import RunError


def gradients_are_made(op: Any, *, totals: int, want: int, refusal: str) -> None:
    """Register the backward pass of an operator returning `totals` scalars, then gradients of its first arguments.

    A gradient that is not wanted is empty; want: the index of the argument that says which are. Only the first
    scalar is differentiated. refusal: what is said to who asks for a second derivative.
    """

    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        grads = output[totals:]
        ctx.set_materialize_grads(False)
        ctx.dtypes = [None if x is None else x.dtype for x in inputs[: len(grads)]]
        ctx.want, ctx.arguments = inputs[want], len(inputs)
        ctx.save_for_backward(*grads)

    def backward(ctx: Any, upstream: Tensor | None, *of_the_rest: Tensor | None) -> tuple[Any, ...]:
        if any(x is not None for x in of_the_rest):
            raise RunError(refusal)
        made = zip(ctx.saved_tensors, ctx.dtypes, ctx.want, strict=True)
        grads = [
            scaled(grad, upstream, dtype) if wanted and upstream is not None else None for grad, dtype, wanted in made
        ]
        return *grads, *[None] * (ctx.arguments - len(grads))

    op.register_autograd(backward, setup_context=keep)


def scaled(grad: Tensor, upstream: Tensor, dtype: torch.dtype) -> Tensor:
    """Return upstream·grad: in place where this is the last backward pass that will need it, else beside it."""
    if not graph_is_kept():
        return grad.detach().mul_(upstream).to(dtype)
    return (grad * upstream).to(dtype)


def graph_is_kept() -> bool:
    """Tell whether another backward pass may follow this one (retain_graph); yes where torch does not say."""
    if torch.compiler.is_compiling():
        return True
    asked = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return True if asked is None else bool(asked())
