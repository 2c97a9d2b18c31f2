"""What every loss does with its items: widen, leave out what weighs nothing, add up what is left, name wrong shapes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.total import Total

IGNORED = -100  # an integer target that weighs nothing: the ecosystem's convention


def wide(x: Tensor) -> Tensor:
    """Return `x` in float32, or wider where it is wider: statistics are never taken in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def widest(x: Tensor) -> Tensor:
    """Return `x` in float64 (float32 where a device has none): for a few numbers whose rounding would be multiplied."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


def counted(like: Tensor, weights: Tensor | None, targets: Tensor | None = None) -> Tensor:
    """Tell which items weigh something: bool of `like`'s shape; weight 0 and integer target −100 weigh nothing."""
    keep = torch.ones(like.shape, dtype=torch.bool, device=like.device)
    if targets is not None and not targets.is_floating_point():
        keep = keep & (targets != IGNORED)
    return keep if weights is None else keep & (weights != 0)


def blank(x: Tensor, keep: Tensor, fill: float = 0.0) -> Tensor:
    """Replace what weighs nothing before the maths, so that a NaN there reaches neither the sum nor a gradient.

    `keep` has the shape of `x` or of its leading dimensions.
    """
    return torch.where(keep.reshape(keep.shape + (1,) * (x.ndim - keep.ndim)), x, fill)


def total(losses: Tensor, keep: Tensor, weights: Tensor | None) -> Total:
    """Return Σ wᵢ·lossᵢ and Σ wᵢ over the items of `keep`; losses, keep and weights share one shape."""
    if weights is None:
        return Total(torch.where(keep, losses, 0).sum(), keep.sum().to(losses.dtype))
    weighing = torch.where(keep, weights.detach().to(losses.dtype), 0)
    return Total((torch.where(keep, losses, 0) * weighing).sum(), weighing.sum())


def product(factor: Tensor, log: Tensor) -> Tensor:
    """Return `factor·log` where 0·(±∞) is 0, in value and gradients: a class that cannot occur and is not asked for."""
    return factor * torch.where((factor == 0) & torch.isinf(log), 0, log)


def spread(weights: Tensor | None, shape: torch.Size, of: str) -> Tensor | None:
    """Return one weight an element: weights of that shape already, or of its leading dimensions (one a row)."""
    if weights is None or weights.shape == shape:
        return weights
    if weights.shape != shape[: weights.ndim]:
        got = tuple(weights.shape)
        raise InputError(f"weights must have the shape {tuple(shape)} of {of}, or of its leading dimensions; got {got}")
    return weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)).expand(shape)


def floating(name: str, x: Tensor) -> None:
    """Raise InputError where a tensor does not hold floating numbers."""
    if not x.is_floating_point():
        raise InputError(f"{name} must be floating numbers; got {x.dtype}")


def broadcast(name: str, x: Tensor, shape: torch.Size, of: str) -> Tensor:
    """Return `x` expanded to the shape of what it belongs to, or raise InputError, naming the argument."""
    if x.ndim > len(shape) or any(a not in (1, b) for a, b in zip(x.shape[::-1], shape[::-1], strict=False)):
        raise InputError(f"{name} must broadcast to the shape {tuple(shape)} of {of}; got {tuple(x.shape)}")
    return x.expand(shape)


def same_shape(name: str, x: Tensor | None, shape: torch.Size, of: str) -> None:
    """Raise InputError, naming the argument, where `x` is given and has not the shape of what it belongs to."""
    if x is not None and x.shape != shape:
        raise InputError(f"{name} must have the shape {tuple(shape)} of {of}; got {tuple(x.shape)}")


def in_range(name: str, targets: Tensor, classes: int) -> None:
    """Raise InputError where an integer target is neither in [0, classes) nor −100; on CUDA the device asserts."""
    good = ((targets >= 0) & (targets < classes)) | (targets == IGNORED)
    _require(good, f"{name} must be in [0, {classes}) or −100", lambda: f"got {targets[~good][0].item()}")


def not_nan(name: str, x: Tensor) -> None:
    """Raise InputError where a tensor holds NaN; on CUDA the device asserts."""
    good = ~torch.isnan(x)
    _require(good, f"{name} must not be NaN", lambda: f"it is at {(~good).nonzero()[0].tolist()}")


def _require(good: Tensor, rule: str, got: Callable[[], str]) -> None:
    """Raise InputError where not all is good.

    On CUDA this would make the host wait for the device: there the device asserts for itself (torch._assert_async).
    """
    if good.is_cuda or torch.compiler.is_compiling():
        torch._assert_async(good.all(), rule)
    elif not bool(good.all()):
        raise InputError(f"{rule}; {got()}")


def positive(name: str, value: float, *, zero: bool = False) -> None:
    """Raise InputError where an option is not a positive number (or zero, where that is allowed)."""
    if not (value > 0 or (zero and value == 0)):
        raise InputError(f"{name} must be {'at least' if zero else 'greater than'} 0; got {value}")
