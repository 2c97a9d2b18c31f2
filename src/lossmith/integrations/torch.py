"""torch's names and signatures over our losses: change the import, keep the call.

What differs from torch, on purpose: the loss of half-precision input is float32; no gradient is ever NaN where nothing
counts (the mean is NaN, as torch's is); NaN in an ignored row reaches no gradient; the linear ones hold no logits.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.errors import InputError
from lossmith.losses._items import IGNORED, blank, wide
from lossmith.losses.classification import cross_entropy as summed_cross_entropy
from lossmith.losses.linear_cross_entropy import linear_cross_entropy as summed_linear_cross_entropy
from lossmith.losses.linear_cross_entropy import token_log_probs
from lossmith.total import Total

__all__ = ["CrossEntropyLoss", "LinearCrossEntropyLoss", "cross_entropy", "linear_cross_entropy"]


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return what torch.nn.functional.cross_entropy returns, in float32 or wider.

    Formula: torch's; the mean over class ids divides by the sum of their class weights, over probabilities by how many
        there are.
    Shapes: input [C], [N, C] or [N, C, d1, ...]; target [], [N] or [N, d1, ...] of ids, or as input (probabilities).
    Errors: torch's own, word for word.
    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html

    >>> cross_entropy(torch.tensor([[2.0, 1.0, 0.5]]), torch.tensor([0]))
    tensor(0.4644)
    """
    if size_average is not None or reduce is not None:
        reduction = nn._reduction.legacy_get_string(size_average, reduce)
    options: dict[str, Any] = {
        "weight": weight,
        "ignore_index": ignore_index,
        "reduction": reduction,
        "label_smoothing": label_smoothing,
    }
    if weight is not None and weight.requires_grad:  # torch differentiates it, or says why not
        return nn.functional.cross_entropy(input, target, **options)
    try:
        return _from_logits(input, target, **options)
    except InputError:
        nn.functional.cross_entropy(input, target, **options)  # refuses in its own words
        raise


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """Return what torch 2.13's linear_cross_entropy returns, on any torch, without holding the logits.

    Formula: ``cross_entropy(input · linear_weightᵀ + linear_bias, target)`` with torch's reductions.
    Shapes: input [D] or [N, D]; linear_weight [C, D] or [C, d1, ..., D]; target as for cross_entropy.
    Memory: a block of logits at a time. All of them are held where their like is given or returned: probabilities as
        targets, d1, ... (K-dimensional losses), and reduction="none" with label smoothing.
    `options` (torch's chunking) is accepted and not needed: nothing about the result depends on it.
    Errors: torch's own.
    Source: https://docs.pytorch.org/docs/main/generated/torch.nn.functional.linear_cross_entropy.html

    >>> linear_cross_entropy(torch.ones(1, 1), torch.tensor([[2.0], [1.0], [0.5]]), torch.tensor([0]))
    tensor(0.4644)
    """
    shape = _logits_shape(input, linear_weight, linear_bias)
    soft = target.shape == shape
    if soft and ignore_index is not None:
        raise RuntimeError("ignore_index cannot be specified when target contains probabilities")
    ignore = IGNORED if ignore_index is None else ignore_index
    rest: dict[str, Any] = {
        "weight": weight,
        "ignore_index": ignore,
        "reduction": reduction,
        "label_smoothing": label_smoothing,
    }
    flat = (linear_weight.flatten(0, -2), None if linear_bias is None else linear_bias.flatten())
    stored = soft or linear_weight.ndim > 2 or (reduction == "none" and label_smoothing != 0)
    if stored or (weight is not None and weight.requires_grad):
        return cross_entropy(nn.functional.linear(input, *flat).reshape(shape), target, **rest)
    try:
        return streamed(input, linear_weight, target, linear_bias, **rest)
    except InputError:
        nn.functional.cross_entropy(nn.functional.linear(input, *flat), target, **rest)  # refuses in its own words
        raise


def streamed(
    hidden: Tensor,
    head: Tensor,
    target: Tensor,
    bias: Tensor | None,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    logit_scale: float | Tensor = 1.0,
) -> Tensor:
    """Return torch's reduction of linear_cross_entropy: class ids only, logits never held.

    Shapes: hidden [..., D], head [C, D], target [...], bias [C], weight [C].
    """
    ids = _ids(target, ignore_index, len(head))
    if reduction != "none":
        total = summed_linear_cross_entropy(
            hidden,
            head,
            ids,
            bias=bias,
            class_weights=weight,
            label_smoothing=label_smoothing,
            softcap=softcap,
            logit_scale=logit_scale,
        )
        return _reduced(total, reduction)
    if isinstance(logit_scale, Tensor):
        hidden, bias, logit_scale = hidden * logit_scale, None if bias is None else bias * logit_scale, 1.0
    losses = -token_log_probs(hidden, head, ids, bias=bias, softcap=softcap, logit_scale=logit_scale)
    return losses if weight is None else losses * weight[ids.clamp_min(0)]


def _from_logits(
    logits: Tensor, target: Tensor, *, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    if logits.ndim == 0 or not logits.is_floating_point():
        raise InputError(f"input must be floating numbers with a dimension of classes; got {logits.dtype}")
    if target.is_floating_point():
        if ignore_index >= 0:
            raise InputError("ignore_index needs class ids as targets")
        ids = target.movedim(min(1, target.ndim - 1), -1) if target.ndim else target
    else:
        ids = _ids(target, ignore_index, logits.shape[min(1, logits.ndim - 1)])
    rows = logits.movedim(min(1, logits.ndim - 1), -1)
    if logits.ndim == 1 and not target.is_floating_point() and target.shape == (1,):
        ids = ids[0]  # torch takes it for a scalar
    if reduction != "none":
        total = summed_cross_entropy(rows, ids, class_weights=weight, label_smoothing=label_smoothing)
        return _reduced(total, reduction)
    return _each(rows, ids, weight, label_smoothing)


def _each(rows: Tensor, ids: Tensor, weight: Tensor | None, label_smoothing: float) -> Tensor:
    """Return torch's loss of each row, blanked and widened first; rows have their classes last."""
    z = wide(rows)
    if not ids.is_floating_point():
        z = blank(z, (ids != IGNORED).expand(z.shape[:-1]))
    classes = 0 if z.ndim == 1 else 1
    if ids.is_floating_point() and ids.ndim:
        ids = ids.movedim(-1, classes)
    weight = None if weight is None else weight.to(z.dtype)
    return nn.functional.cross_entropy(
        z.movedim(-1, classes), ids, weight, reduction="none", label_smoothing=label_smoothing
    )


def _ids(target: Tensor, ignore_index: int, classes: int) -> Tensor:
    """Return class ids; what is ignored is −100, and a −100 that is not ignored is out of range, as it is in torch."""
    if target.dtype not in (torch.int64, torch.uint8):
        raise InputError(f"target must be int64 (or uint8); got {target.dtype}")
    target = target.long()
    if ignore_index == IGNORED:
        return target
    return torch.where(target == ignore_index, IGNORED, torch.where(target == IGNORED, classes, target))


def _reduced(total: Total, reduction: str) -> Tensor:
    """Return sum or mean; a mean over nothing is torch's NaN, but with gradients of zero."""
    if reduction == "sum":
        return total.value
    if reduction not in ("mean", "elementwise_mean"):
        raise InputError(f"reduction must be none, mean or sum; got {reduction!r}")
    return torch.where(total.weight != 0, total.mean(), math.nan)


def _logits_shape(input: Tensor, linear_weight: Tensor, linear_bias: Tensor | None) -> tuple[int, ...]:
    """Return the shape of the logits, or raise what torch 2.13 raises (older ones have no such function to ask)."""
    if input.ndim not in (1, 2):
        raise RuntimeError(f"expected input with dimensionality 1 or 2, got {input.ndim}")
    if linear_weight.ndim < 2:
        raise RuntimeError(f"expected linear_weight with dimensionality at least 2, got {linear_weight.ndim}")
    if input.shape[-1] != linear_weight.shape[-1]:
        raise RuntimeError(
            "expected equal input and linear_weight last dimensions (in_features), "
            f"got {input.shape[-1]} and {linear_weight.shape[-1]}, respectively"
        )
    outputs = tuple(linear_weight.shape[:-1])
    if linear_bias is not None and tuple(linear_bias.shape) != outputs:
        raise RuntimeError(f"expected linear_bias shape {outputs}, got {tuple(linear_bias.shape)}")
    if len(outputs) > 1 and input.ndim == 1:
        raise RuntimeError(
            f"K-dimensional loss defined by linear_weight shape {tuple(linear_weight.shape)} requires batched input, "
            f"(N, {input.shape[-1]}), got unbatched input with shape {tuple(input.shape)}"
        )
    return (*input.shape[:-1], *outputs)


class CrossEntropyLoss(nn.CrossEntropyLoss):
    """torch.nn.CrossEntropyLoss over our cross_entropy: same arguments, same state_dict; see cross_entropy.

    >>> CrossEntropyLoss(label_smoothing=0.1)(torch.tensor([[2.0, 1.0, 0.5]]), torch.tensor([0]))
    tensor(0.5477)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class LinearCrossEntropyLoss(nn.modules.loss._WeightedLoss):
    """torch.nn.LinearCrossEntropyLoss (torch 2.13), on any torch, without holding the logits; same state_dict.

    It owns the head as `linear`, of out_features·num_classes rows; see linear_cross_entropy.

    >>> LinearCrossEntropyLoss(4, 10)(torch.zeros(2, 4), torch.tensor([3, 9]))  # ln 10
    tensor(2.3026, grad_fn=<WhereBackward0>)
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        reduction: str = "mean",
        weight: Tensor | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: Any = None,
    ) -> None:
        if weight is not None and weight.shape != (num_classes,):
            raise RuntimeError(f"expected weight shape to be {(num_classes,)}, got {tuple(weight.shape)}")
        if not 0 <= label_smoothing <= 1:
            raise RuntimeError(f"expected label_smoothing to be in range [0, 1], got {label_smoothing}")
        super().__init__(weight, None, None, reduction)
        self.num_classes, self.out_features = num_classes, out_features
        self.ignore_index, self.label_smoothing, self.options = ignore_index, label_smoothing, options
        self.linear = nn.Linear(in_features, math.prod(out_features, start=num_classes), bias, device, dtype)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        shape = (self.num_classes, *self.out_features)
        return linear_cross_entropy(
            input,
            self.linear.weight.reshape(*shape, self.linear.in_features),
            target,
            linear_bias=None if self.linear.bias is None else self.linear.bias.reshape(shape),
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            options=self.options,
        )

    def extra_repr(self) -> str:
        """Return what print(module) shows."""
        return (
            f"in_features={self.linear.in_features}, num_classes={self.num_classes}, "
            f"out_features={self.out_features}, bias={self.linear.bias is not None}, reduction={self.reduction}, "
            f"ignore_index={self.ignore_index}, label_smoothing={self.label_smoothing}"
        )
