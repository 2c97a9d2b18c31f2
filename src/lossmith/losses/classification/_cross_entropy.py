"""Cross-entropy against class ids or probabilities, with torch's options, z-loss and soft-cap; logit adjustment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses._items import blank, counted, positive, product, same_shape, total, wide
from lossmith.losses._spec import LossSpec
from lossmith.losses.classification._ids import (
    ROWS,
    check_logits,
    class_ids,
    example,
    over_probability,
    pick,
    remaining,
)
from lossmith.total import Total


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
) -> Total:
    """Return the cross-entropy of softmax(logits) against class ids or probabilities.

    Formula: with class weights c (ones), label smoothing s and ``lse = logsumexp(z)``, z the logits (``k·tanh(z/k)``
        where softcap is k): an id t costs ``(1−s)·c_t·(lse − z_t) + (s/C)·Σⱼ cⱼ·(lse − zⱼ) + z_loss·c_t·lse²`` nats
        and weighs ``wᵢ·c_t``; probabilities q cost ``Σⱼ ((1−s)·qⱼ + s/C)·cⱼ·(lse − zⱼ) + z_loss·lse²`` and weigh wᵢ.
        The mean is torch's in both cases.
    Shapes: logits [..., C]; targets [...] of integers, or [..., C] of probabilities; weights [...]; class_weights [C].
        −100, a weight of 0 and (without smoothing) an id whose class weighs 0 weigh nothing.
    Use: for classes that exclude each other.
    Avoid: for a language model's head (linear_cross_entropy never holds the logits), and where several classes may be
        right at once (binary_cross_entropy).
    Errors: InputError for shapes that do not fit, ids outside [0, C), and options outside their range.
    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html (torch has the classes
        in dimension 1, here they are last); z-loss: https://arxiv.org/abs/2204.02311 (PaLM, 5); soft-cap:
        https://arxiv.org/abs/2408.00118 (Gemma 2, 2)

    A logit of −∞ masks its class (after a soft-cap, which would make it −k): no cost and no gradient where nothing is
    asked of it, infinite cost where it is the target, or where smoothing spreads over it.

    >>> cross_entropy(torch.tensor([2.0, 1.0, 0.5]), torch.tensor(0)).mean()  # not 0.4076, as a popular page says
    tensor(0.4644)
    """
    _check_options(label_smoothing, z_loss, softcap)
    soft = targets.is_floating_point()
    keep, z, targets = (_probabilities if soft else class_ids)(logits, targets, weights)
    c = _class_weights(class_weights, z)
    own = z.new_ones(z.shape[:-1]) if soft or c is None else pick(c.expand_as(z), targets)
    if not label_smoothing:
        keep = keep & (own != 0)
        z = blank(z, keep)
    losses, lse2 = _losses(z, targets, c, own, label_smoothing, softcap, z_loss != 0)
    if z_loss:
        losses = losses + z_loss * own * lse2
    return Total(total(losses, keep, weights).value, total(own, keep, weights).value)
