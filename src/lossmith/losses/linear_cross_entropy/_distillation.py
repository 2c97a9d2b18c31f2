"""Distillation from hidden states and heads: two streams side by side, the logits of neither are ever all in memory."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses._items import positive, same_shape
from lossmith.losses.linear_cross_entropy._checks import check_map, check_memory, check_softcap, compute_dtype
from lossmith.losses.linear_cross_entropy._made import gradients_are_made
from lossmith.losses.linear_cross_entropy._reference import logits as plain_logits
from lossmith.losses.linear_cross_entropy._stream import Stream
from lossmith.total import Total


def linear_distillation(
    hidden: Tensor,
    head: Tensor,
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    *,
    bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    weights: Tensor | None = None,
    beta: float = 0.0,
    temperature: float = 1.0,
    rescale: bool = False,
    top_k: int | None = None,
    softcap: float | None = None,
    teacher_softcap: float | None = None,
    logit_scale: float = 1.0,
    teacher_logit_scale: float = 1.0,
    max_memory: int | None = None,
) -> Total:
    """Return the divergence of a student's next tokens from its teacher's, without storing the logits of either.

    Formula: with p (student) and q (teacher) the softmax of ``logits/temperature`` and ``m = beta·q + (1 − beta)·p``:
        beta 0: forward ``KL(q ‖ p)``; beta 1: reverse ``KL(p ‖ q)``; between: ``beta·KL(q ‖ m) + (1 − beta)·KL(p ‖
        m)``; nats, times temperature² if rescale. top_k: q keeps its k largest entries, and those that equal the
        k-th, and is normalized again.
    Shapes: hidden [..., D], head [V, D], bias [V]; the teacher's [..., E], [V, E], [V]; weights [...]. Gradients go
        to the student only.
    Use: to train a small model on a larger one's whole distribution: forward KL covers all that the teacher may say,
        reverse KL keeps to what it says most, between is GKD's.
    Avoid: where teacher and student have different vocabularies; top_k with beta 1, which would be infinite.
    Memory: beside the student's gradients one block of logits of each: max_memory bytes in all (default: two of
        linear_cross_entropy's).
    Errors: InputError for shapes that do not fit (vocabularies that differ among them) and options out of range.
    Source: https://arxiv.org/abs/1503.02531 (Hinton et al. 2015), https://arxiv.org/abs/2306.13649 (GKD: beta)

    >>> x = torch.zeros(1, 1)
    >>> linear_distillation(x, torch.zeros(2, 1), x, torch.zeros(2, 1), teacher_bias=torch.tensor([0.0, -50.0])).mean()
    tensor(0.6931)
    """
    check_map(hidden, head, bias)
    check_map(teacher_hidden, teacher_head, teacher_bias, "teacher_")
    same_shape("teacher_hidden", teacher_hidden[..., 0], hidden.shape[:-1], "hidden (without the last dimension)")
    same_shape("teacher_head", teacher_head[:, 0], head.shape[:1], "head (one vocabulary)")
    same_shape("weights", weights, hidden.shape[:-1], "hidden (without the last dimension)")
    _check_numbers(beta, temperature, top_k, len(head))
    check_softcap(softcap)
    check_softcap(teacher_softcap, "teacher_softcap")
    check_memory(max_memory)
    recorded = torch.is_grad_enabled()
    value, weight, *_ = linear_distillation_op(
        hidden.reshape(-1, hidden.shape[-1]), head, bias,
        teacher_hidden.detach().reshape(-1, teacher_hidden.shape[-1]), teacher_head.detach(),
        None if teacher_bias is None else teacher_bias.detach(), None if weights is None else
        weights.detach().reshape(-1), [float(beta), float(temperature), float(temperature**2 if rescale else 1)], top_k,
        [softcap or math.inf, teacher_softcap or math.inf, float(logit_scale), float(teacher_logit_scale)], max_memory,
        [recorded and x is not None and x.requires_grad for x in (hidden, head, bias)],
        compute_dtype(hidden, head), compute_dtype(teacher_hidden, teacher_head),
    )  # fmt: skip
    return Total(value, weight.detach())


def _check_numbers(beta: float, temperature: float, top_k: int | None, classes: int) -> None:
    if not 0 <= beta <= 1:
        raise InputError(f"beta must be in [0, 1]; got {beta}")
    positive("temperature", temperature)
    if top_k is not None and not 1 <= top_k <= classes:
        raise InputError(f"top_k must be in [1, {classes}] (the vocabulary), or None; got {top_k}")
    if top_k is not None and beta == 1:
        raise InputError("top_k needs a beta below 1: reverse KL to a teacher that excludes tokens is infinite")


def divergence_(z: Tensor, log_q: Tensor, beta: float) -> Tensor:
    """Return the divergence of each row, from tempered student logits z and log q; z becomes its gradient."""
    log_p = torch.log_softmax(z, 1)
    if beta == 0:
        q = log_q.exp()
        torch.sub(log_p.exp(), q, out=z)
        return _expected(q, log_q, log_p)
    p = log_p.exp()
    if beta == 1:
        losses = _expected(p, log_p, log_q)
        torch.mul(p, log_p - log_q - losses[:, None], out=z).nan_to_num_(0.0, math.inf, -math.inf)
        return losses
    log_m = torch.logaddexp(log_q + math.log(beta), log_p + math.log1p(-beta))
    own = _expected(p, log_p, log_m)
    torch.mul(p, torch.where(p == 0, 0, log_p - log_m) - own[:, None], out=z).mul_(1 - beta)
    return beta * _expected(log_q.exp(), log_q, log_m) + (1 - beta) * own


def _expected(p: Tensor, log_p: Tensor, log_m: Tensor) -> Tensor:
    """Return Σ p·(log p − log m): what has no probability costs nothing, whatever m says."""
    return torch.where(p == 0, 0, p * (log_p - log_m)).sum(1)


def _forward(
    hidden: Tensor,
    head: Tensor,
    bias: Tensor | None,
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    teacher_bias: Tensor | None,
    weights: Tensor | None,
    numbers: list[float],
    top_k: int | None,
    shape: list[float],
    max_memory: int | None,
    want: list[bool],
    narrow: torch.dtype,
    teacher_narrow: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return Σ w·divergence, Σ w, and the gradients of the student's hidden states, head and bias (or empty)."""
    beta, temperature, factor = numbers
    caps = [None if math.isinf(cap) else cap for cap in shape[:2]]
    rows = None if weights is None or bool((weights != 0).all()) else weights.nonzero()[:, 0]
    half = None if max_memory is None else (max_memory + 1) // 2
    student = Stream(hidden, head.to(narrow), bias, shape[2], caps[0], rows,
                     want=(want[0], want[1], want[2]), max_memory=half)  # fmt: skip
    teacher = Stream(teacher_hidden, teacher_head.to(teacher_narrow), teacher_bias, shape[3], caps[1], rows)
    teacher.block, teacher.piece = student.block, student.piece
    w = torch.ones(student.count, dtype=student.wide, device=hidden.device)
    if weights is not None:
        w = (weights if rows is None else weights[rows]).to(student.wide)
    losses = torch.empty_like(w)
    block: list[Any] = []

    def before(span: slice) -> None:
        block[:] = [span.start, *teacher.product(span)]

    def visit(z: Tensor, span: slice) -> None:
        start, x, product = block
        here = slice(span.start - start, span.stop - start)
        t = teacher.widen(product[here], x[here], span)[0].to(z.dtype) / temperature
        if top_k is not None:
            t.masked_fill_(t < t.topk(top_k, 1).values[:, -1:], -math.inf)
        losses[span] = divergence_(z.div_(temperature), torch.log_softmax(t, 1), beta)
        z.mul_((w[span] * (factor / temperature))[:, None])

    with torch.autocast(hidden.device.type, enabled=False):
        student.run(visit, before)
    grads = [
        losses.new_empty(0) if g is None else g for g in (student.grad_hidden, student.grad_head, student.grad_bias)
    ]
    return (losses * w).sum() * factor, w.sum(), grads[0].to(hidden.dtype), grads[1], grads[2]


linear_distillation_op = torch.library.custom_op("lossmith::linear_distillation", _forward, mutates_args=())


@linear_distillation_op.register_fake
def _shapes(hidden: Tensor, head: Tensor, bias: Any, *rest: Any) -> tuple[Tensor, ...]:
    want, narrow = rest[-3:-1]
    wide = torch.promote_types(narrow, torch.float32)
    like = [(hidden, hidden.dtype), (head, wide), (head[:, 0], wide)]
    grads = [
        x.new_empty(x.shape if wanted else (0,), dtype=dtype) for (x, dtype), wanted in zip(like, want, strict=True)
    ]
    return hidden.new_empty((), dtype=wide), hidden.new_empty((), dtype=wide), *grads


gradients_are_made(
    linear_distillation_op,
    totals=2,
    want=-3,
    refusal="linear_distillation has no second derivative: its gradient is made in the forward pass",
)


def reference(
    hidden: Tensor,
    head: Tensor,
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    *,
    bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    weights: Tensor | None = None,
    beta: float = 0.0,
    temperature: float = 1.0,
    rescale: bool = False,
    top_k: int | None = None,
    softcap: float | None = None,
    teacher_softcap: float | None = None,
    logit_scale: float = 1.0,
    teacher_logit_scale: float = 1.0,
    max_memory: int | None = None,
) -> Total:
    """Return the total of `linear_distillation` with all logits of both in memory."""
    keep = torch.ones(len(hidden), dtype=torch.bool) if weights is None else weights != 0
    z = plain_logits(hidden[keep], head, bias, logit_scale, softcap) / temperature
    with torch.no_grad():
        t = plain_logits(teacher_hidden[keep], teacher_head, teacher_bias, teacher_logit_scale, teacher_softcap)
        t = t / temperature
        if top_k is not None:
            t = torch.where(t < t.topk(top_k, 1).values[:, -1:], -torch.inf, t)
        q = torch.softmax(t, 1)
    p = torch.softmax(z, 1)
    if beta in (0, 1):
        one, other = (q, p) if beta == 0 else (p, q)
        losses = (torch.xlogy(one, one) - torch.xlogy(one, other)).sum(1)
    else:
        m = beta * q + (1 - beta) * p
        pull, push = torch.xlogy(q, q) - torch.xlogy(q, m), torch.xlogy(p, p) - torch.xlogy(p, m)
        losses = (beta * pull + (1 - beta) * push).sum(1)
    w = z.new_ones(len(losses)) if weights is None else weights[keep].to(z.dtype)
    return Total((w * losses).sum() * (temperature**2 if rescale else 1), w.sum())
