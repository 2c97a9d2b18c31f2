"""linear_cross_entropy: the function that users call."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.losses._items import in_range
from lossmith.losses.linear_cross_entropy._checks import (
    check_linear,
    check_options,
    check_softcap,
    choose,
    compute_dtype,
)
from lossmith.losses.linear_cross_entropy._op import linear_cross_entropy_op
from lossmith.losses.linear_cross_entropy._reference import reference
from lossmith.total import Total


def linear_cross_entropy(
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
    filter_below: float = 0.0,
    max_memory: int | None = None,
    impl: str = "auto",
) -> Total:
    """Return the summed cross-entropy of softmax(head(hidden)) against class ids, without storing the logits.

    Formula: ``z = logit_scale·(hidden·headᵀ + bias)``, with ``z = k·tanh(z/k)`` when softcap is k; with class weights c
        (ones), label smoothing s and ``lse = logsumexp(z)``, item i costs
        ``wᵢ·[(1−s)·c_t·(lse − z_t) + (s/V)·Σⱼ cⱼ·(lse − zⱼ) + z_loss·c_t·lse²]`` nats and weighs ``wᵢ·c_t``.
    Shapes: hidden [..., D], head [V, D], bias [V], targets [...] of integers, weights [...] (default 1), class_weights
        [V]. A target of −100, a weight of 0 and (without smoothing) a class weight of 0 weigh nothing.
    Use: for the loss of every language model: causal, masked (only masked rows reach the head), sequence to sequence.
    Avoid: where you need the logits anyway, or a second derivative: impl="reference" holds them.
    Memory: beside the gradients and a float32 accumulator of the head's, one block of logits: max_memory bytes (default
        52 MB; where fewer than 384 rows fit: 384, as far as 200 MB hold them, and never fewer than 256). Gradients are
        made in the forward pass, those that are asked for only.
    Errors: InputError for shapes that do not fit, unknown options, and targets outside [0, V) (CPU; on CUDA the device
        asserts, so that the host need not wait).
    Source: https://arxiv.org/abs/2411.09009 (Cut Your Losses); chunks with the gradient in the forward pass:
        https://github.com/mgmalek/efficient_cross_entropy; z-loss: https://arxiv.org/abs/2204.02311 (PaLM, section 5)

    filter_below=ε leaves a vocabulary entry out of hidden's gradient for some rows in which no entry of the logits'
    gradient G reaches ε (the head's gradient stays exact): row i then misses at most ``Σⱼ |Gᵢⱼ|·‖headⱼ‖``, less than
    ``ε·Σⱼ ‖headⱼ‖``, over the entries j left out.

    >>> hidden, head = torch.zeros(3, 2), torch.zeros(5, 2)
    >>> linear_cross_entropy(hidden, head, torch.tensor([1, 4, -100])).mean()  # ln 5
    tensor(1.6094)
    """
    check_linear(hidden, head, targets, bias=bias, weights=weights, class_weights=class_weights)
    check_options(label_smoothing, z_loss, filter_below)
    check_softcap(softcap)
    in_range("targets", targets, len(head))
    if isinstance(logit_scale, Tensor):  # learned: its gradient comes through what it multiplies
        hidden, bias = (hidden * logit_scale).to(hidden.dtype), None if bias is None else bias * logit_scale
        logit_scale = 1.0
    chosen, compute = choose(hidden, impl), compute_dtype(hidden, head)
    hidden, targets = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    weights = None if weights is None else weights.detach().reshape(-1)
    class_weights = None if class_weights is None else class_weights.detach()
    if chosen == "reference":
        return reference(
            hidden,
            head,
            targets,
            bias=bias,
            weights=weights,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            z_loss=z_loss,
            softcap=softcap,
            logit_scale=logit_scale,
        )
    numbers = [float(label_smoothing), float(z_loss), float(logit_scale), float(filter_below)]
    recorded = torch.is_grad_enabled()
    want = [recorded and x is not None and x.requires_grad for x in (hidden, head, bias)]
    value, weight, *_ = linear_cross_entropy_op(
        hidden, head, bias, targets, weights, class_weights, numbers, softcap, max_memory, chosen, want, compute
    )
    return Total(value, weight.detach())
