"""Regression: what a residual costs, element by element, and the likelihood of one under a Gaussian."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses._items import blank, broadcast, counted, floating, positive, same_shape, spread, total
from lossmith.losses._spec import LossSpec
from lossmith.total import Total


def mse(inputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Total:
    """Return the squared error.

    Formula: ``lossᵢ = (inputᵢ − targetᵢ)²``.
    Shapes: inputs and targets [...] of one shape (nothing broadcasts); weights of that shape, or of its leading
        dimensions: one a row, which every element of the row then weighs.
    Use: for residuals that are about Gaussian; the minimum is the conditional mean.
    Avoid: with outliers, each of which counts by its square: huber, log_cosh or mae.
    Errors: InputError for shapes that differ and for integers (is −100 then a number, or padding? Say targets.float()).
    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.mse_loss.html

    >>> mse(torch.tensor([1.0, 2.0]), torch.tensor([1.5, 4.0])).mean()  # (0.25 + 4) / 2
    tensor(2.1250)
    """
    keep, x, weights = _residuals(inputs, targets, weights)
    return total(x.square(), keep, weights)


def mae(inputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Total:
    """Return the absolute error.

    Formula: ``lossᵢ = |inputᵢ − targetᵢ|``; the slope where they are equal is taken as 0.
    Shapes: as mse.
    Use: where outliers shall not pull: the minimum is the conditional median.
    Avoid: where the last digits count: its slope does not fall near the minimum, so that steps there must.
    Errors: as mse.
    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.l1_loss.html

    >>> mae(torch.tensor([1.0, 2.0]), torch.tensor([1.5, 4.0])).mean()  # (0.5 + 2) / 2
    tensor(1.2500)
    """
    keep, x, weights = _residuals(inputs, targets, weights)
    return total(x.abs(), keep, weights)


def huber(inputs: Tensor, targets: Tensor, *, delta: float = 1.0, weights: Tensor | None = None) -> Total:
    """Return the Huber loss: squares near 0, a straight line beyond delta.

    Formula: with ``x = inputᵢ − targetᵢ``: ``x²/2`` where ``|x| ≤ delta``, else ``delta·(|x| − delta/2)``.
    Shapes: as mse.
    Use: for regression with some outliers; delta is the largest residual that is still noise.
    Avoid: where smooth L1 with its beta is meant: that is huber divided by delta.
    Errors: as mse, and for a delta that is not above 0.
    Source: https://doi.org/10.1214/aoms/1177703732 (Huber 1964)

    >>> huber(torch.tensor([0.5, 3.0]), torch.zeros(2)).mean()  # (0.125 + 2.5) / 2
    tensor(1.3125)
    """
    positive("delta", delta)
    keep, x, weights = _residuals(inputs, targets, weights)
    size = x.abs()
    near = size.clamp(max=delta)  # one formula for both sides: no branch whose square overflows
    return total(near * (size - near / 2), keep, weights)


def log_cosh(inputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Total:
    """Return the logarithm of the hyperbolic cosine of the residual: a smooth Huber loss without a parameter.

    Formula: with ``x = inputᵢ − targetᵢ``: ``log cosh x``, which is ``x²/2`` near 0 and ``|x| − ln 2`` far from it.
    Shapes: as mse.
    Use: where huber's kink in the second derivative disturbs (second-order methods, boosting).
    Avoid: where the scale of the noise is far from 1: rescale, or use huber with its delta.
    Errors: as mse.
    Source: https://arxiv.org/abs/2208.04564 (Saleh and Saleh 2022)

    Exact to rounding everywhere: no exp that overflows, and no difference of near numbers around 0.

    >>> log_cosh(torch.tensor([1e-4, 1.0, 1e30]), torch.zeros(3), weights=torch.tensor([0.0, 1.0, 0.0])).mean()
    tensor(0.4338)
    """
    keep, x, weights = _residuals(inputs, targets, weights)
    return total(_log_cosh(x), keep, weights)


def _log_cosh(x: Tensor) -> Tensor:
    size = x.abs()
    small = size < 1
    near, far = torch.where(small, x, 0), torch.where(small, 1, size)
    # cosh x = 1 + 2·sinh²(x/2), and cosh x = eˣ·(1 + e⁻²ˣ)/2
    return torch.where(
        small, torch.log1p(2 * torch.sinh(near / 2).square()), far + torch.log1p(torch.exp(-2 * far)) - math.log(2)
    )


def gaussian_nll(
    inputs: Tensor,
    targets: Tensor,
    *,
    variance: float | Tensor | None = None,
    log_variance: Tensor | None = None,
    full: bool = False,
    weights: Tensor | None = None,
) -> Total:
    """Return the negative log-likelihood of targets under Gaussians whose means are the inputs.

    Formula: with variance v: ``½·(log v + (inputᵢ − targetᵢ)²/v)`` nats, plus ``½·log 2π`` if full (only then it is a
        likelihood that can be compared with others).
    Shapes: as mse; variance or log_variance (one of them) broadcasts to inputs and gets its gradient.
    Use: for regression that says how sure it is. log_variance is the output of a network as it is: no softplus, no eps.
    Avoid: from a cold start with large residuals (the variance grows before the mean learns): begin with mse.
    Errors: as mse; unless exactly one of variance and log_variance is given; for a variance that is not above 0 (on
        CUDA that is not looked at, so that the host need not wait: the loss is then not finite). There is no eps.
    Source: https://doi.org/10.1109/ICNN.1994.374138 (Nix and Weigend 1994)

    >>> gaussian_nll(torch.tensor([0.0]), torch.tensor([2.0]), variance=4.0, full=True).mean()  # ½·(ln 4 + 1 + ln 2π)
    tensor(2.1121)
    """
    keep, x, weights = _residuals(inputs, targets, weights)
    if (variance is None) == (log_variance is None):
        got = "neither" if variance is None else "both"
        raise InputError(f"one of variance and log_variance must be given; got {got}")
    if log_variance is not None:
        log_v = blank(broadcast("log_variance", log_variance, x.shape, "inputs").to(x.dtype), keep)
        scaled = x * torch.exp(-log_v / 2)
    else:
        v = _variance(variance, keep, x)
        log_v, scaled = v.log(), x / v.sqrt()  # divided first: the square of x may overflow where the quotient does not
    constant = math.log(2 * math.pi) / 2 if full else 0.0
    return total((log_v + scaled.square()) / 2 + constant, keep, weights)


def _variance(variance: float | Tensor | None, keep: Tensor, x: Tensor) -> Tensor:
    v = torch.as_tensor(variance, dtype=x.dtype, device=x.device)
    v = blank(broadcast("variance", v, x.shape, "inputs"), keep, 1.0)
    if not v.is_cuda and not torch.compiler.is_compiling() and not bool((v > 0).all()):
        raise InputError(f"variance must be greater than 0; got {v[~(v > 0)][0].item()}. Or give log_variance")
    return v


def _residuals(inputs: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return which elements count, their residuals in float32 or wider, and one weight an element."""
    floating("inputs", inputs)
    if not targets.is_floating_point():
        raise InputError(
            f"targets must be floating numbers; got {targets.dtype}: is −100 a number there? Say targets.float()"
        )
    same_shape("targets", targets, inputs.shape, "inputs")
    weights = spread(weights, inputs.shape, "inputs")
    keep = counted(inputs, weights)
    dtype = torch.promote_types(torch.promote_types(inputs.dtype, targets.dtype), torch.float32)
    return keep, blank(inputs.to(dtype), keep) - blank(targets.to(dtype), keep), weights


def _kept(weights: Tensor | None, *given: Tensor) -> tuple[Tensor, ...]:
    """Return weights and tensors without what weighs nothing, flat: for the references below."""
    w = torch.ones_like(given[0]) if weights is None else weights.detach()
    w = w[(..., *[None] * (given[0].ndim - w.ndim))].expand_as(given[0])
    return w[w != 0], *(x[w != 0] for x in given)


def _mse_reference(inputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Total:
    w, x, y = _kept(weights, inputs, targets)
    return Total((w * (x - y) ** 2).sum(), w.sum())


def _mae_reference(inputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Total:
    w, x, y = _kept(weights, inputs, targets)
    return Total((w * torch.maximum(x - y, y - x)).sum(), w.sum())


def _huber_reference(inputs: Tensor, targets: Tensor, *, delta: float = 1.0, weights: Tensor | None = None) -> Total:
    w, x, y = _kept(weights, inputs, targets)
    size = (x - y).abs()
    return Total((w * torch.where(size <= delta, size**2 / 2, delta * (size - delta / 2))).sum(), w.sum())


def _log_cosh_reference(inputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Total:
    w, x, y = _kept(weights, inputs, targets)
    return Total((w * torch.log(torch.cosh(x - y))).sum(), w.sum())


def _gaussian_nll_reference(
    inputs: Tensor,
    targets: Tensor,
    *,
    variance: float | Tensor | None = None,
    log_variance: Tensor | None = None,
    full: bool = False,
    weights: Tensor | None = None,
) -> Total:
    v = torch.as_tensor(variance, dtype=inputs.dtype) if log_variance is None else torch.exp(log_variance)
    w, x, y, v = _kept(weights, inputs, targets, v.expand_as(inputs))
    density = torch.exp(-((x - y) ** 2) / (2 * v)) / torch.sqrt(v * (2 * math.pi if full else 1))
    return Total((w * -torch.log(density)).sum(), w.sum())


def _example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    def normal() -> Tensor:
        return torch.randn(7, 3, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    weights = (torch.rand(7, 3, generator=generator, dtype=torch.float64) + 0.5).to(dtype)
    return {"inputs": normal(), "targets": normal(), "weights": weights}


def _gaussian_example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    given = _example(generator, dtype)
    log_variance = torch.randn(7, 3, generator=generator, dtype=torch.float64).to(dtype)
    return given | {"log_variance": log_variance.requires_grad_()}


ROWS = {"weights": torch.linspace(0.5, 1.5, 7, dtype=torch.float64)}  # one weight a row, where the example has one each
VARIANCES = torch.linspace(0.25, 3, 21, dtype=torch.float64).reshape(7, 3).requires_grad_()


def _curve(loss: Callable[..., Total], **options: Any) -> Callable[[Tensor], Tensor]:
    def at(residuals: Tensor) -> Tensor:
        return torch.stack([loss(x, torch.zeros_like(x), **options).value for x in residuals])

    return at


def _row(
    fn: Callable[..., Total], reference: Callable[..., Total], *variants: dict[str, Any], **variance: Any
) -> LossSpec:
    return LossSpec(
        name=fn.__name__,
        family="regression",
        fn=fn,
        reference=reference,
        example=_gaussian_example if variance else _example,
        items=("inputs", "targets", "variance", "log_variance"),
        variants=({}, ROWS, *variants),
        picture="residual",
        curve=_curve(fn, **variance),
    )


SPECS: tuple[LossSpec, ...] = (
    _row(mse, _mse_reference),
    _row(mae, _mae_reference),
    _row(huber, _huber_reference, {"delta": 0.5}),
    _row(log_cosh, _log_cosh_reference),
    _row(
        gaussian_nll,
        _gaussian_nll_reference,
        {"full": True},
        {"log_variance": None, "variance": VARIANCES},
        {"log_variance": None, "variance": 2.0, "full": True},
        variance=1.0,
    ),
)
