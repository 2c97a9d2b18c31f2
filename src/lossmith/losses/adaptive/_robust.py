"""Barron's general robust loss: one formula from squares to Cauchy to Welsch, and its likelihood with learned shape."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lossmith.errors import InputError
from lossmith.losses._items import blank, counted, positive, same_shape, total, wide, widest
from lossmith.losses._spec import LossSpec
from lossmith.total import Total

SERIES = [1 / math.factorial(n + 1) for n in range(15)]  # of (eᵗ − 1)/t: exact to 1e-16 for |t| < ½
STEP, REACH = 0.1, 40.0  # nodes of log_partition: halving the step, or reaching further, changes nothing above 1e-15


def general_robust(
    inputs: Tensor,
    targets: Tensor,
    *,
    alpha: float | Tensor = 1.0,
    scale: float | Tensor = 1.0,
    weights: Tensor | None = None,
) -> Total:
    """Return Barron's general robust loss of each residual: alpha says how little outliers count.

    Formula: with ``x = (inputᵢ − targetᵢ)/scale``: ``(|α−2|/α)·((x²/|α−2| + 1)^{α/2} − 1)``, and its limits
        ``x²/2`` (α = 2), ``√(x²+1) − 1`` (1, smooth L1), ``log(x²/2 + 1)`` (0, Cauchy), ``2x²/(x²+4)`` (−2,
        Geman-McClure), ``1 − exp(−x²/2)`` (−∞, Welsch), ``exp(x²/2) − 1`` (+∞).
    Shapes: inputs, targets and weights of one shape [...]; alpha and scale numbers, or tensors that broadcast to it
        (and get their gradients).
    Use: for regression with outliers, where alpha may be tuned or annealed (from 2 to 0, say) by one number.
    Avoid: learning alpha or scale by this loss alone: it falls as alpha falls and scale grows; use AdaptiveRobust.
    Errors: InputError for shapes that do not fit and a scale (given as a number) that is not above 0.
    Source: https://arxiv.org/abs/1701.03077 (Barron 2019, equations 8 and 13)

    The limits are reached to rounding, and passed with finite gradients. At α = 2 the slope in α is infinite (it grows
    as ``−x²/4·log|α−2|``); what is returned is that next to it. Residuals beyond 2.6e15 scales (float32) count as that.

    >>> general_robust(torch.tensor([3.0]), torch.tensor([0.0]), alpha=1.0).mean()  # √10 − 1
    tensor(2.1623)
    """
    keep, x, scale = _residuals(inputs, targets, scale, weights)
    return total(robust(x / scale, _fitting("alpha", alpha, x)), keep, weights)


def robust(x: Tensor, alpha: Tensor) -> Tensor:
    """Return the loss of residuals `x` in units of scale; alpha broadcasts, x is float32 or wider.

    With s = x²/2, b = |α−2| and v = ±(b/2)·log(1 + 2s/b) (minus for α > 2) the formula is ``expm1(v·α/b)·b/α``, smooth
    where α passes 0, and ``(2s·e⁻ᵛ + b·expm1(−v))/α``, smooth where b passes 0: each is used on its side of 1. The
    slope in s is e⁻ᵛ; it is given apart, since the one that follows from the first form cancels for outliers.
    """
    numbers = torch.finfo(x.dtype)
    s = x.clamp(-(numbers.max**0.4), numbers.max**0.4).square() / 2
    alpha = alpha.clamp(-(numbers.eps**-1.5), numbers.eps**-1.5)  # infinity, to rounding
    still, two = s.detach(), alpha == 2
    b, v = _exponent(still, alpha)
    below = _below(*_exponent(still, alpha.clamp(max=1)), alpha.clamp(max=1))
    above = (2 * still * torch.exp(-v) + b * torch.expm1(-v)) / alpha.clamp(min=1)
    above = torch.where(two, still + (above - above.detach()), above)
    slope = torch.where(two, 1, torch.exp(-_exponent(s, alpha)[1]))
    return torch.where(alpha <= 1, below, above) + slope * (s - still)


def _exponent(s: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Return b and v. At α = 2, b is what it is at the next number below: for the slope in α alone."""
    sign = torch.where(alpha <= 2, 1.0, -1.0).to(s.dtype)
    b = sign * (2 - alpha) + torch.where(alpha == 2, torch.finfo(s.dtype).eps, 0.0)
    return b, sign * b / 2 * torch.log1p(2 * s / b)


def _below(b: Tensor, v: Tensor, alpha: Tensor) -> Tensor:
    return v * expm1_over(alpha / b * v)


def expm1_over(t: Tensor) -> Tensor:
    """Return (eᵗ − 1)/t, by its series near 0, where quotient and derivative would cancel."""
    small = t.abs() < 0.5
    near, far = torch.where(small, t, 0), torch.where(small, 1, t)
    series = torch.full_like(near, SERIES[-1])
    for coefficient in reversed(SERIES[:-1]):
        series = series * near + coefficient
    return torch.where(small, series, torch.expm1(far) / far)


def log_partition(alpha: Tensor) -> Tensor:
    """Return ``log ∫ exp(−ρ(x, α)) dx`` for α in [0, 2]: what makes the loss a likelihood. Float64.

    No table: x = √(2−α)·sinh t makes the integrand ``√(2−α)·cosh t·exp(−((2−α)/α)·(coshᵅt − 1))``, on which the
    trapezoid rule converges exponentially, for value and gradient alike. Against 30-digit quadrature the error of the
    value is below 1e-14, of its slope in α below 1e-11 of it (α from 0 to 1.9999; at 2 the slope is infinite).

    >>> log_partition(torch.tensor([0.0, 2.0])).exp()  # π√2 and √(2π)
    tensor([4.4429, 2.5066], dtype=torch.float64)
    """
    a = widest(alpha)[..., None]
    t = torch.arange(0, REACH, STEP, dtype=a.dtype, device=a.device)
    log_cosh = t + torch.log1p(torch.exp(-2 * t)) - math.log(2)
    b = (2 - a).clamp_min(1e-30)  # at α = 2: the limit, to rounding
    exponent = log_cosh - b * log_cosh * expm1_over(a * log_cosh)
    width = torch.where(t > 0, 2 * STEP, STEP * torch.ones_like(t))  # both sides of 0, and 0 once
    return torch.logsumexp(exponent + width.log(), -1) + b[..., 0].log() / 2


def _residuals(
    inputs: Tensor, targets: Tensor, scale: float | Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return which items count, their wide residuals, and the scale as a tensor that fits them."""
    if not inputs.is_floating_point():
        raise InputError(f"inputs must be floating numbers; got {inputs.dtype}")
    for name, x in (("targets", targets), ("weights", weights)):
        same_shape(name, x, inputs.shape, "inputs")
    if not isinstance(scale, Tensor):
        positive("scale", scale)
    keep = counted(inputs, weights)
    x = blank(wide(inputs), keep) - blank(wide(targets.to(torch.promote_types(targets.dtype, inputs.dtype))), keep)
    return keep, x, _fitting("scale", scale, x)


def _fitting(name: str, value: float | Tensor, x: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        if math.isnan(value):
            raise InputError(f"{name} must be a number; got {value}")
        return x.new_full((), value)
    try:
        fits = torch.broadcast_shapes(value.shape, x.shape) == x.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise InputError(f"{name} must broadcast to the inputs {tuple(x.shape)}; got {tuple(value.shape)}")
    return value.to(x.dtype)


class AdaptiveRobust(nn.Module):
    """Return the negative log-likelihood of residuals under Barron's distribution, whose shape and scale are learned.

    Formula: ``ρ((inputᵢ − targetᵢ)/c, α) + log c + log Z(α)`` nats, ρ as in general_robust; α in (0.001, 1.999) through
        a sigmoid, scale c above 1e-5 through a softplus, Z(α) the integral of exp(−ρ), exact in value and slope.
    Shapes: inputs, targets and weights of one shape [..., *shape]; `shape` that of alpha and scale: () for one of each,
        (D,) for one a column.
    Use: for regression whose noise is of unknown shape: from Gaussian (α near 2) to Cauchy (α near 0), learned.
    Avoid: with few residuals for each alpha; a likelihood of heavy tails needs some. Where outliers shall not count at
        all: general_robust with α < 0, which is no likelihood.
    Errors: InputError for shapes that do not fit, and an alpha or scale outside the ranges.
    Source: https://arxiv.org/abs/1701.03077 (Barron 2019, equations 13 to 16 and appendix)

    >>> loss = AdaptiveRobust(alpha=1.0)
    >>> round(loss(torch.zeros(5), torch.zeros(5)).mean().item(), 4)  # log Z(1) = log(2e·K₁(1))
    1.1855
    """

    lowest_alpha, highest_alpha, lowest_scale = 0.001, 1.999, 1e-5

    def __init__(self, shape: tuple[int, ...] = (), *, alpha: float = 1.0, scale: float = 1.0) -> None:
        super().__init__()
        if not self.lowest_alpha < alpha < self.highest_alpha:
            raise InputError(f"alpha must be in ({self.lowest_alpha}, {self.highest_alpha}); got {alpha}")
        if not self.lowest_scale < scale < math.inf:
            raise InputError(f"scale must be greater than {self.lowest_scale}; got {scale}")
        share = (alpha - self.lowest_alpha) / (self.highest_alpha - self.lowest_alpha)
        above = scale - self.lowest_scale
        self.latent_alpha = nn.Parameter(torch.full(shape, math.log(share / (1 - share))))
        self.latent_scale = nn.Parameter(torch.full(shape, above + math.log(-math.expm1(-above))))

    @property
    def alpha(self) -> Tensor:
        """The shape: 2 is Gaussian, 0 is Cauchy."""
        return self.lowest_alpha + (self.highest_alpha - self.lowest_alpha) * torch.sigmoid(wide(self.latent_alpha))

    @property
    def scale(self) -> Tensor:
        """The scale: of the residuals that are no outliers, about their standard deviation."""
        return self.lowest_scale + softplus(wide(self.latent_scale))

    def forward(self, inputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Total:
        """Return the total of the negative log-likelihood, in nats."""
        keep, x, scale = _residuals(inputs, targets, self.scale, weights)
        alpha = _fitting("alpha", self.alpha, x)
        constant = scale.log() + log_partition(alpha).to(x.dtype)
        return total(robust(x / scale, alpha) + constant, keep, weights)

    def extra_repr(self) -> str:
        """Say what has been learned, where that is one number each."""
        one = self.latent_alpha.numel() == 1
        return f"alpha={self.alpha.item():.4g}, scale={self.scale.item():.4g}" if one else str(self.latent_alpha.shape)


def _general_robust_reference(
    inputs: Tensor,
    targets: Tensor,
    *,
    alpha: float | Tensor = 1.0,
    scale: float | Tensor = 1.0,
    weights: Tensor | None = None,
) -> Total:
    w = torch.ones_like(inputs) if weights is None else weights.detach()
    keep = w != 0
    square = ((inputs[keep] - targets[keep]) / scale) ** 2
    a = torch.as_tensor(alpha, dtype=square.dtype)
    limits = {2.0: square / 2, 0.0: torch.log(square / 2 + 1), -math.inf: 1 - torch.exp(-square / 2)}
    losses = limits.get(float(a.detach()))
    if losses is None:
        b = (a - 2).abs()
        losses = b / a * ((square / b + 1) ** (a / 2) - 1)
    return Total((w[keep] * losses).sum(), w[keep].sum())


def _example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    def normal() -> Tensor:
        return (2 * torch.randn(9, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()

    return {
        "inputs": normal(),
        "targets": normal(),
        "alpha": torch.tensor(1.375, dtype=dtype, requires_grad=True),
        "scale": torch.tensor(0.75, dtype=dtype, requires_grad=True),
        "weights": (torch.rand(9, generator=generator, dtype=torch.float64) + 0.5).to(dtype),
    }


def _curve(residuals: Tensor) -> Tensor:
    return robust(residuals, residuals.new_ones(()))


SPECS: tuple[LossSpec, ...] = (
    LossSpec(
        name="general_robust",
        family="adaptive",
        fn=general_robust,
        reference=_general_robust_reference,
        example=_example,
        items=("inputs", "targets"),
        variants=({}, *({"alpha": a} for a in (3.0, 2.0, 1.0, 0.5, 0.0, -1.0, -2.0, -math.inf))),
        picture="residual",
        curve=_curve,
    ),
    LossSpec(name="adaptive_robust", family="adaptive", fn=AdaptiveRobust),
)
