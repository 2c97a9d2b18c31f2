"""Cross-entropy straight from hidden states and the output head: the logits are never all in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses.linear_cross_entropy._chunked import ChunkedSum, Shape, chunk_rows
from lossmith.total import Total


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    bias: Tensor | None = None,
    weights: Tensor | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
) -> Total:
    """Return the summed cross-entropy of `softmax(head(hidden))` against `target`, without storing the logits.

    Formula: ``z = logit_scale·(hidden·weightᵀ + bias)``, with ``z = c·tanh(z/c)`` when ``softcap`` is c;
    ``value = Σ wᵢ·(logsumexp(zᵢ) − zᵢ[targetᵢ])`` in nats, ``weight = Σ wᵢ``.
    Shapes: hidden [..., D], weight [V, D], bias [V], target [...] of integers, weights [...] (default 1).
    A target of −100 weighs nothing; what weighs nothing is removed before the maths.
    Memory: one chunk of logits (32 MiB) beside the gradients; float32 statistics whatever the inputs.
    Errors: InputError for shapes that do not fit and for targets outside [0, V).
    Source: https://arxiv.org/abs/2411.09009 (Cut Your Losses in Large-Vocabulary Language Models).

    >>> hidden, weight = torch.zeros(3, 2), torch.zeros(5, 2)
    >>> linear_cross_entropy(hidden, weight, torch.tensor([1, 4, -100])).mean()  # ln 5
    tensor(1.6094)
    """
    _check(hidden, weight, target, weights)
    hidden, target = hidden.reshape(-1, hidden.shape[-1]), target.reshape(-1)
    weights = None if weights is None else weights.reshape(-1)
    keep = target != -100 if weights is None else (target != -100) & (weights != 0)
    if not bool(keep.all()):
        hidden, target = hidden[keep], target[keep]
        weights = None if weights is None else weights[keep]
    _check_range(target, len(weight))
    shape = Shape(softcap, logit_scale)
    value: Tensor = ChunkedSum.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, target, weights, shape, chunk_rows(len(weight))
    )
    counted = torch.tensor(len(target), device=value.device, dtype=value.dtype)
    return Total(value, counted if weights is None else weights.detach().sum(dtype=value.dtype))


def _check(hidden: Tensor, weight: Tensor, target: Tensor, weights: Tensor | None) -> None:
    if weight.ndim != 2 or hidden.shape[-1] != weight.shape[1]:
        raise InputError(
            f"hidden [..., D] and weight [V, D] must share D; got {tuple(hidden.shape)} and {tuple(weight.shape)}"
        )
    if target.shape != hidden.shape[:-1]:
        raise InputError(f"target must have the shape {tuple(hidden.shape[:-1])} of hidden; got {tuple(target.shape)}")
    if weights is not None and weights.shape != target.shape:
        raise InputError(f"weights must have the shape {tuple(target.shape)} of target; got {tuple(weights.shape)}")


def _check_range(target: Tensor, vocabulary: int) -> None:
    if len(target) and not (int(target.min()) >= 0 and int(target.max()) < vocabulary):
        bad = target[(target < 0) | (target >= vocabulary)][0].item()
        raise InputError(
            f"target must be in [0, {vocabulary}) or −100; got {bad}: tokenizer and model differ in vocabulary"
        )
