"""Losses of one margin, by how much the right class is ahead: focal, poly and generalized cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossmith.errors import InputError
from lossmith.losses._items import positive, product, same_shape, total
from lossmith.losses._spec import LossSpec
from lossmith.losses.classification._ids import class_ids, example, margin, over_probability, pick, remaining
from lossmith.total import Total


def focal(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float | Tensor = 2.0,
    alpha: float | Tensor | None = None,
    weights: Tensor | None = None,
) -> Total:
    """Return the focal loss of classes that exclude each other: cross-entropy that counts easy items less.

    Formula: with ``p = softmax(logits)`` at the target y: ``−α_y·(1 − p)^γ·log p`` nats. gamma 0 is cross_entropy.
    Shapes: logits [..., C]; targets [...] of integers; gamma a number or a tensor without dimensions; alpha [C], one
        factor a class, or one number; weights [...]. alpha is not in the weight: the mean is over items.
    Use: for many easy items and few hard ones; γ from 0.5 to 5 (2 in the paper).
    Avoid: with wrong labels, which are the hardest items of all (generalized_cross_entropy), and where p itself is
        used: it comes out too near to uniform. For classes that do not exclude each other: binary_focal.
    Errors: InputError for shapes that do not fit, ids outside [0, C), and a gamma (given as a number) below 0.
    Source: https://arxiv.org/abs/1708.02002 (Lin et al. 2017, equations 4 and 5)

    All of it is computed from the logarithms of p and 1 − p, neither of them from the other: gradients are finite for
    any γ, where p is 1 too.

    >>> focal(torch.tensor([[2.0, 1.0, 0.5]]), torch.tensor([0])).mean()  # p = 0.6285: (1 − p)²·0.4644
    tensor(0.0641)
    """
    check_gamma(gamma)
    keep, z, ids = class_ids(logits, targets, weights)
    m = margin(z, ids)
    never = torch.isneginf(m)  # p = 0, where (1 − p)^γ is 1 and flat: its slope times log p would be 0·∞
    some = torch.where(never, 0, m)
    losses = torch.where(never, -logsigmoid(m), -modulation(logsigmoid(-some), gamma) * logsigmoid(some))
    if isinstance(alpha, Tensor):
        same_shape("alpha", alpha, z.shape[-1:], "the logits' classes")
        alpha = alpha.detach().to(z.dtype)[ids]
    if alpha is not None:
        losses = product(torch.as_tensor(alpha, dtype=z.dtype, device=z.device), losses)
    return total(losses, keep, weights)


def check_gamma(gamma: float | Tensor) -> None:
    """Raise InputError where gamma is a number below 0, or a tensor with dimensions."""
    if not isinstance(gamma, Tensor):
        positive("gamma", gamma, zero=True)
    elif gamma.ndim:
        raise InputError(f"gamma must be a number or a tensor without dimensions; got {tuple(gamma.shape)}")


def modulation(log_rest: Tensor, gamma: float | Tensor) -> Tensor:
    """Return ``(1 − p)^γ`` from log(1 − p); that is never −∞ here, so that γ = 0 gives 1, and γ a finite gradient."""
    return torch.exp(gamma * log_rest.clamp_min(torch.finfo(log_rest.dtype).min))


def poly(logits: Tensor, targets: Tensor, *, epsilon: float = 1.0, weights: Tensor | None = None) -> Total:
    """Return the Poly-1 loss: cross-entropy with another coefficient of the first term of its series in 1 − p.

    Formula: with ``p = softmax(logits)`` at the target: ``−log p + epsilon·(1 − p)`` nats.
    Shapes: logits [..., C]; targets [...] of integers; weights [...].
    Use: as cross_entropy with one number to tune: above 0 pulls p harder towards 1, below 0 less.
    Avoid: where the loss shall be a log-likelihood: only epsilon 0 is.
    Errors: InputError for shapes that do not fit, ids outside [0, C), and an epsilon below −1 (p would be pushed down).
    Source: https://arxiv.org/abs/2204.12511 (Leng et al. 2022, section 4)

    >>> poly(torch.tensor([[2.0, 1.0, 0.5]]), torch.tensor([0])).mean()  # p = 0.6285: 0.4644 + 1 − p
    tensor(0.8358)
    """
    if not epsilon >= -1:
        raise InputError(f"epsilon must be at least −1; got {epsilon}")
    keep, z, ids = class_ids(logits, targets, weights)
    m = margin(z, ids)
    return total(epsilon * torch.sigmoid(-m) - logsigmoid(m), keep, weights)


def generalized_cross_entropy(
    logits: Tensor, targets: Tensor, *, q: float = 0.7, weights: Tensor | None = None
) -> Total:
    """Return the generalized cross-entropy: between cross-entropy and absolute error, for labels that may be wrong.

    Formula: with ``p = softmax(logits)`` at the target: ``(1 − p^q)/q``, made from log p; its limit ``−log p`` for
        q = 0, and ``1 − p`` (half the absolute error to the one-hot vector) for q = 1. At most 1/q.
    Shapes: logits [..., C]; targets [...] of integers; weights [...].
    Use: for noisy labels: an item whose p stays small pulls by p^q of what it would pull in cross-entropy.
    Avoid: with clean labels, where it learns more slowly; q near 1 with many classes, where it hardly learns.
    Errors: InputError for shapes that do not fit, ids outside [0, C), and a q outside [0, 1].
    Source: https://arxiv.org/abs/1805.07836 (Zhang and Sabuncu 2018, equation 6)

    >>> generalized_cross_entropy(torch.tensor([[2.0, 1.0, 0.5]]), torch.tensor([0])).mean()  # p = 0.6285
    tensor(0.3964)
    """
    if not 0 <= q <= 1:
        raise InputError(f"q must be in [0, 1]; got {q}")
    keep, z, ids = class_ids(logits, targets, weights)
    log_p = logsigmoid(margin(z, ids))
    return total(_minus_expm1(q * log_p) / q if q else -log_p, keep, weights)


def _minus_expm1(y: Tensor) -> Tensor:
    """Return 1 − eʸ for y ≤ 0: by expm1 near 0, else by exp: the slope of expm1, 1 + itself, is lost far from 0."""
    near = y > -0.5
    return torch.where(near, -torch.expm1(torch.where(near, y, 0)), 1 - torch.exp(torch.where(near, -1, y)))


def _focal_reference(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float | Tensor = 2.0,
    alpha: float | Tensor | None = None,
    weights: Tensor | None = None,
) -> Total:
    w, p, ids = remaining(logits, targets, weights)
    p = pick(p, ids)
    a = alpha.detach()[ids] if isinstance(alpha, Tensor) else 1 if alpha is None else alpha
    return Total((w * a * -((1 - p) ** gamma) * p.log()).sum(), w.sum())


def _poly_reference(logits: Tensor, targets: Tensor, *, epsilon: float = 1.0, weights: Tensor | None = None) -> Total:
    w, p, ids = remaining(logits, targets, weights)
    p = pick(p, ids)
    return Total((w * (-p.log() + epsilon * (1 - p))).sum(), w.sum())


def _generalized_reference(logits: Tensor, targets: Tensor, *, q: float = 0.7, weights: Tensor | None = None) -> Total:
    w, p, ids = remaining(logits, targets, weights)
    p = pick(p, ids)
    return Total((w * ((1 - p**q) / q if q else -p.log())).sum(), w.sum())


def _row(fn: Callable[..., Total], reference: Callable[..., Total], *variants: dict[str, Any]) -> LossSpec:
    return LossSpec(
        name=fn.__name__,
        family="classification",
        fn=fn,
        reference=reference,
        example=example,
        items=("logits", "targets"),
        variants=({}, *variants),
        picture="probability",
        curve=over_probability(fn),
    )


ALPHA = torch.tensor([0.5, 1.0, 2.0, 1.5, 0.25], dtype=torch.float64)
GAMMA = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)

SPECS: tuple[LossSpec, ...] = (
    _row(focal, _focal_reference, {"gamma": 0.5, "alpha": ALPHA}, {"gamma": 0.0, "alpha": 0.25}, {"gamma": GAMMA}),
    _row(poly, _poly_reference, {"epsilon": -1.0}),
    _row(generalized_cross_entropy, _generalized_reference, {"q": 0.0}, {"q": 1.0}, {"q": 1e-3}),
)
