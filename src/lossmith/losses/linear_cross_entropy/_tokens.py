"""What a model thinks of each token: its log-probability (differentiable), entropy, rank and logsumexp."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossmith.errors import RunError
from lossmith.losses._items import in_range
from lossmith.losses.linear_cross_entropy._checks import check_linear, check_softcap, choose, compute_dtype
from lossmith.losses.linear_cross_entropy._chunked import Options, softmax_
from lossmith.losses.linear_cross_entropy._op import counted_rows, linear_cross_entropy_op
from lossmith.losses.linear_cross_entropy._stream import Stream


class TokenStatistics(NamedTuple):
    """What `token_statistics` returns, each of the targets' shape, float32 or wider: see there."""

    log_probs: Tensor
    logsumexp: Tensor
    entropy: Tensor
    rank: Tensor

    @property
    def correct(self) -> Tensor:
        """Tell where the target is the model's first choice (bool)."""
        return self.rank == 0


def token_log_probs(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    max_memory: int | None = None,
    impl: str = "auto",
) -> Tensor:
    """Return the log-probability of every target, differentiable, without storing the logits.

    Formula: ``z_t − logsumexp(z)`` nats, z as in linear_cross_entropy; 0 where the target is −100. The backward pass
        makes the logits again (four products in all), since a token's upstream gradient is not known before.
    Shapes: hidden [..., D], head [V, D], bias [V], targets [...] of integers; result [...], float32 or wider.
    Use: for preference and policy-gradient losses (DPO, GRPO), for reduction="none", for scoring candidates.
    Avoid: for a plain sum or mean: linear_cross_entropy takes three products.
    Memory: as linear_cross_entropy.
    Errors: InputError for shapes that do not fit, and targets outside [0, V).
    Source: https://arxiv.org/abs/2305.18290 (DPO: what needs it); recomputing: https://arxiv.org/abs/1604.06174

    >>> token_log_probs(torch.zeros(3, 2), torch.zeros(4, 2), torch.tensor([0, 3, -100]))  # −ln 4
    tensor([-1.3863, -1.3863,  0.0000])
    """
    flat = _flat(hidden, head, targets, bias, softcap)
    recorded = torch.is_grad_enabled()
    want = [recorded and x is not None and x.requires_grad for x in (hidden, head, bias)]
    out = token_log_probs_op(
        *flat, bias, softcap, float(logit_scale), max_memory, choose(hidden, impl), want, compute_dtype(hidden, head)
    )
    return torch.reshape(out, targets.shape)


@torch.no_grad()
def token_statistics(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    max_memory: int | None = None,
) -> TokenStatistics:
    """Return log-probability, logsumexp, entropy and rank of every token, without gradients and without its logits.

    Formula: ``log p_t``; ``logsumexp(z)``; ``−Σⱼ pⱼ·log pⱼ`` (all nats); the number of tokens with a larger logit
        than the target (0: the first choice). Where the target is −100: 0, and rank −1.
    Shapes: as token_log_probs; rank is int64. `.correct` tells where the rank is 0.
    Use: to evaluate: accuracy, calibration, surprise against entropy.
    Avoid: in training: it has no gradient.
    Errors: as token_log_probs.
    Source: https://arxiv.org/abs/1906.04043 (GLTR: rank and entropy of each token)

    >>> s = token_statistics(torch.ones(1, 1), torch.tensor([[0.0], [1.0]]), torch.tensor([0]))
    >>> s.rank, s.entropy  # p = 0.2689 and 0.7311
    (tensor([1]), tensor([0.5822]))
    """
    x, w, flat = _flat(hidden, head, targets, bias, softcap)
    stream, rows = _stream(x, w, flat, bias, softcap, logit_scale, max_memory, compute_dtype(hidden, head))
    out = torch.zeros(4, len(flat), dtype=stream.wide, device=x.device)
    out[3] = -1
    picked = flat if rows is None else flat[rows]

    def visit(z: Tensor, span: slice) -> None:
        at = z.gather(1, picked[span, None])
        rank = (z > at).sum(1)
        largest, log_sum = softmax_(z)
        entropy = torch.special.entr(z).sum(1)
        here = span if rows is None else rows[span]
        out[:, here] = torch.stack([at[:, 0] - largest - log_sum, largest + log_sum, entropy, rank.to(z.dtype)])

    with torch.autocast(x.device.type, enabled=False):
        stream.run(visit)
    log_probs, logsumexp, entropy, rank = (row.reshape(targets.shape) for row in out)
    return TokenStatistics(log_probs, logsumexp, entropy, rank.long())


def _flat(
    hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None, softcap: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    check_linear(hidden, head, targets, bias=bias)
    check_softcap(softcap)
    in_range("targets", targets, len(head))
    return hidden.reshape(-1, hidden.shape[-1]), head, targets.reshape(-1)


def _stream(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    softcap: float | None,
    logit_scale: float,
    max_memory: int | None,
    compute: torch.dtype,
) -> tuple[Stream, Tensor | None]:
    rows = counted_rows(targets, None, None)
    exact = targets if rows is None else targets[rows]
    return (
        Stream(hidden, head.to(compute), bias, logit_scale, softcap, rows, exact, max_memory=max_memory),
        rows,
    )


def _forward(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    softcap: float | None,
    logit_scale: float,
    max_memory: int | None,
    impl: str,
    want: list[bool],
    compute: torch.dtype,
) -> Tensor:
    """Return log p of the targets [N]; `want` is only for the backward pass."""
    if impl == "triton":
        return _by_triton(hidden, head, targets, bias, Options(0.0, 0.0, softcap, logit_scale), compute)
    stream, rows = _stream(hidden, head, targets, bias, softcap, logit_scale, max_memory, compute)
    out = torch.zeros(len(targets), dtype=stream.wide, device=hidden.device)
    picked = targets if rows is None else targets[rows]

    def visit(z: Tensor, span: slice) -> None:
        at = z.gather(1, picked[span, None])[:, 0]
        largest, log_sum = softmax_(z)
        out[span if rows is None else rows[span]] = at - largest - log_sum

    with torch.autocast(hidden.device.type, enabled=False):
        stream.run(visit)
    return out


def _by_triton(
    hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None, options: Options, compute: torch.dtype
) -> Tensor:
    from lossmith.losses.linear_cross_entropy._triton import triton_rows

    rows = counted_rows(targets, None, None)
    out = torch.zeros(len(targets), dtype=torch.float32, device=hidden.device)
    where = slice(None) if rows is None else rows
    seen = triton_rows(hidden[where].to(compute), head.to(compute), bias, targets[where], options)
    out[where] = -seen.surprisal
    return out


token_log_probs_op = torch.library.custom_op("lossmith::token_log_probs", _forward, mutates_args=())


@token_log_probs_op.register_fake
def _shape(hidden: Tensor, head: Tensor, targets: Tensor, *rest: Any) -> Tensor:
    return hidden.new_empty(len(targets), dtype=torch.promote_types(rest[-1], torch.float32))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.options = inputs[4:]


def _backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
    """Σ uᵢ·log pᵢ is a cross-entropy with weights −u: the same operator makes its gradients."""
    if torch.is_grad_enabled() and upstream.requires_grad:
        raise RunError("token_log_probs has no second derivative; use log_softmax of the logits")
    hidden, head, targets, bias = ctx.saved_tensors
    softcap, scale, max_memory, impl, want, compute = ctx.options
    numbers = [0.0, 0.0, scale, 0.0]
    _, _, *grads = linear_cross_entropy_op(
        hidden, head, bias, targets, -upstream, None, numbers, softcap, max_memory, impl, want, compute
    )
    made = [
        grad.to(x.dtype) if wanted else None for grad, x, wanted in zip(grads, (hidden, head, bias), want, strict=True)
    ]
    return made[0], made[1], None, made[2], *[None] * 6


token_log_probs_op.register_autograd(_backward, setup_context=_keep)
