"""Classes that do not exclude each other: binary cross-entropy and focal loss, element by element, from logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossmith.errors import InputError
from lossmith.losses._items import (
    blank,
    broadcast,
    counted,
    floating,
    in_range,
    product,
    same_shape,
    spread,
    total,
)
from lossmith.losses._spec import LossSpec
from lossmith.losses.classification._focal import check_gamma, modulation
from lossmith.total import Total


def binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    positive_weights: Tensor | None = None,
) -> Total:
    """Return the binary cross-entropy of sigmoid(logits), each element a question of its own.

    Formula: with ``p = σ(logits)``: ``−[r·t·log p + (1 − t)·log(1 − p)]`` nats, t the target, r its positive weight.
    Shapes: logits and targets [...] of one shape; targets 0 or 1 (integers, booleans) or probabilities (floating);
        weights of that shape, or of its leading dimensions: one a row, which every element of the row then weighs;
        positive_weights broadcast to logits: [C] is one a class. They are not in the weight: the mean is torch's.
    Use: for several labels at once (multi-label), and for two classes with one logit.
    Avoid: for classes that exclude each other (cross_entropy).
    Errors: InputError for shapes that do not fit, and integers other than 0, 1 and −100 (which weighs nothing).
    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy_with_logits.html

    >>> binary_cross_entropy(torch.tensor([0.0, 2.0, 5.0]), torch.tensor([1, 0, -100])).mean()  # (ln 2 + ln(1 + e²))/2
    tensor(1.4100)
    """
    keep, x, t, weights = _elements(logits, targets, weights)
    r: Tensor | float = 1.0
    if positive_weights is not None:
        r = blank(broadcast("positive_weights", positive_weights.detach(), x.shape, "logits").to(x.dtype), keep)
    return total(_costs(x, t, r), keep, weights)


def binary_focal(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float | Tensor = 2.0,
    alpha: float | None = None,
    weights: Tensor | None = None,
) -> Total:
    """Return the focal loss of sigmoid(logits), each element a question of its own.

    Formula: with ``p = σ(logits)``, t the target and ``h = p·t + (1 − p)·(1 − t)`` the probability of what is right:
        ``(1 − h)^γ·−[t·log p + (1 − t)·log(1 − p)]`` nats, times ``α·t + (1 − α)·(1 − t)`` where alpha is given.
    Shapes: logits and targets [...] of one shape; targets 0 or 1 or probabilities (constants: no gradient); weights of
        that shape or of its leading dimensions; gamma a number or a tensor without dimensions; alpha a number. alpha is
        not in the weight.
    Use: for dense detection, where nearly all elements are easy negatives; alpha 0.25 with gamma 2 in the paper.
    Avoid: for classes that exclude each other (focal), and with wrong labels.
    Errors: InputError for shapes that do not fit, integers other than 0, 1 and −100 (which weighs nothing), a gamma
        (given as a number) below 0, and an alpha outside [0, 1].
    Source: https://arxiv.org/abs/1708.02002 (Lin et al. 2017); as sigmoid_focal_loss of torchvision and optax

    >>> binary_focal(torch.tensor([0.0, -2.0]), torch.tensor([1.0, 0.0])).mean()  # (ln 2/4 + 0.1192²·0.1269)/2
    tensor(0.0875)
    """
    check_gamma(gamma)
    if alpha is not None and not 0 <= alpha <= 1:
        raise InputError(f"alpha must be in [0, 1], or None for none; got {alpha}")
    keep, x, t, weights = _elements(logits, targets, weights)
    t = t.detach()
    # log(1 − h), where 1 − h = t·(1 − p) + (1 − t)·p; neither logarithm of p may be −∞ beside the −∞ of t
    least = torch.finfo(x.dtype).min
    log_rest = torch.logaddexp(
        t.log() + logsigmoid(-x).clamp_min(least), torch.log1p(-t) + logsigmoid(x).clamp_min(least)
    )
    losses = modulation(log_rest, gamma) * _costs(x, t, 1.0)
    return total(losses if alpha is None else losses * (alpha * t + (1 - alpha) * (1 - t)), keep, weights)


def _costs(x: Tensor, t: Tensor, r: Tensor | float) -> Tensor:
    """Return −[r·t·log σ(x) + (1 − t)·log σ(−x)]: no difference, so that nothing cancels; 0·∞ = 0."""
    return -(product(r * t, logsigmoid(x)) + product(1 - t, logsigmoid(-x)))


def _elements(logits: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return which elements count, their logits and targets in float32 or wider, and one weight an element."""
    floating("logits", logits)
    same_shape("targets", targets, logits.shape, "logits")
    if not targets.is_floating_point():
        in_range("targets", targets, 2)
    weights = spread(weights, logits.shape, "logits")
    keep = counted(logits, weights, targets)
    dtype = torch.promote_types(torch.promote_types(logits.dtype, targets.dtype), torch.float32)
    return keep, blank(logits.to(dtype), keep), blank(targets.to(dtype), keep), weights


def _kept(
    logits: Tensor, targets: Tensor, weights: Tensor | None, r: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return weights, probabilities, targets, positive weights of what weighs something, flat: for the references."""
    w = torch.ones_like(logits) if weights is None else weights.detach()
    w = w[(..., *[None] * (logits.ndim - w.ndim))].expand_as(logits)
    keep = w != 0
    if not targets.is_floating_point():
        keep = keep & (targets != -100)
    r = torch.ones_like(logits) if r is None else r.detach().expand_as(logits)
    return w[keep], 1 / (1 + torch.exp(-logits[keep])), targets[keep].to(logits.dtype), r[keep]


def _binary_cross_entropy_reference(
    logits: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    positive_weights: Tensor | None = None,
) -> Total:
    w, p, t, r = _kept(logits, targets, weights, positive_weights)
    return Total((w * -(r * t * p.log() + (1 - t) * (1 - p).log())).sum(), w.sum())


def _binary_focal_reference(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float | Tensor = 2.0,
    alpha: float | None = None,
    weights: Tensor | None = None,
) -> Total:
    w, p, t, _ = _kept(logits, targets, weights)
    t = t.detach()
    right = p * t + (1 - p) * (1 - t)
    losses = (1 - right) ** gamma * -(t * p.log() + (1 - t) * (1 - p).log())
    return Total((w * losses * (1 if alpha is None else alpha * t + (1 - alpha) * (1 - t))).sum(), w.sum())


def _example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    def uniform() -> Tensor:
        return torch.rand(7, 3, generator=generator, dtype=torch.float64)

    logits = torch.randn(7, 3, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    return {"logits": logits, "targets": (uniform() < 0.5).long(), "weights": (uniform() + 0.5).to(dtype)}


def _curve(fn: Callable[..., Total]) -> Callable[[Tensor], Tensor]:
    def curve(p: Tensor) -> Tensor:
        right = torch.ones((), dtype=torch.long)
        return torch.stack([fn(x, right).value for x in p.log() - torch.log1p(-p)])

    return curve


def _row(fn: Callable[..., Total], reference: Callable[..., Total], *variants: dict[str, Any]) -> LossSpec:
    return LossSpec(
        name=fn.__name__,
        family="classification",
        fn=fn,
        reference=reference,
        example=_example,
        items=("logits", "targets"),
        variants=({}, {"targets": SOFT}, {"weights": torch.linspace(0.5, 1.5, 7, dtype=torch.float64)}, *variants),
        picture="probability",
        curve=_curve(fn),
    )


SOFT = torch.linspace(0, 1, 21, dtype=torch.float64).reshape(7, 3)  # both ends too
POSITIVE_WEIGHTS = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)

SPECS: tuple[LossSpec, ...] = (
    _row(
        binary_cross_entropy,
        _binary_cross_entropy_reference,
        {"positive_weights": POSITIVE_WEIGHTS},
        {"targets": SOFT.clone().requires_grad_(), "positive_weights": POSITIVE_WEIGHTS},
    ),
    _row(
        binary_focal,
        _binary_focal_reference,
        {"alpha": 0.25, "gamma": 0.5},
        {"gamma": 0.0},
        {"gamma": torch.tensor(1.5, dtype=torch.float64, requires_grad=True)},
    ),
)
