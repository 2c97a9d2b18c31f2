"""What the losses of a linear map ask of their arguments, and which implementation serves them."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.errors import InputError, did_you_mean
from lossmith.losses._items import same_shape

IMPLEMENTATIONS = ("auto", "chunked", "triton", "reference")


def compute_dtype(hidden: Tensor, head: Tensor) -> torch.dtype:
    """Return the dtype of the products: autocast's where it is on, else that of hidden and head (the same)."""
    device = hidden.device.type
    if torch.is_autocast_enabled(device) and hidden.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    if hidden.dtype != head.dtype:
        raise InputError(
            f"hidden and head must share a dtype (or run under autocast); got {hidden.dtype} and {head.dtype}"
        )
    return hidden.dtype


def choose(hidden: Tensor, impl: str = "auto") -> str:
    """Return which implementation runs: triton on CUDA where it is installed (not for float64), else chunked."""
    if impl not in IMPLEMENTATIONS:
        raise InputError(
            f"impl must be one of {', '.join(IMPLEMENTATIONS)}; got {impl!r}.{did_you_mean(impl, IMPLEMENTATIONS)}"
        )
    if impl != "auto":
        return impl
    if not hidden.is_cuda or hidden.dtype == torch.float64:
        return "chunked"
    from lossmith.losses.linear_cross_entropy import _triton

    return "triton" if _triton.available(hidden.device) is None else "chunked"


def check_linear(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
) -> None:
    """Raise InputError where shapes or kinds of the arguments do not fit together."""
    check_map(hidden, head, bias)
    if targets.is_floating_point():
        raise InputError(f"targets must be class ids (integers); got {targets.dtype}. For probabilities: cross_entropy")
    same_shape("targets", targets, hidden.shape[:-1], "hidden")
    same_shape("weights", weights, targets.shape, "targets")
    same_shape("class_weights", class_weights, head.shape[:1], "the head's rows")


def check_map(hidden: Tensor, head: Tensor, bias: Tensor | None, of: str = "") -> None:
    """Raise InputError where hidden [..., D], head [V, D], bias [V] do not fit together; `of` prefixes their names."""
    if head.ndim != 2 or hidden.ndim < 1 or hidden.shape[-1] != head.shape[1]:
        raise InputError(
            f"{of}hidden [..., D] and {of}head [V, D] must share D; got {tuple(hidden.shape)} and {tuple(head.shape)}"
        )
    same_shape(f"{of}bias", bias, head.shape[:1], f"the {of}head's rows")


def check_softcap(softcap: float | None, name: str = "softcap") -> None:
    """Raise InputError where a cap is given that is not above 0."""
    if softcap is not None and not softcap > 0:
        raise InputError(f"{name} must be greater than 0, or None for none; got {softcap}")


def check_memory(max_memory: int | None) -> None:
    """Raise InputError where a budget is given that holds nothing."""
    if max_memory is not None and max_memory < 1:
        raise InputError(f"max_memory must be a number of bytes above 0, or None; got {max_memory}")


def check_options(label_smoothing: float, z_loss: float, filter_below: float) -> None:
    """Raise InputError where a number is out of its range."""
    if not 0 <= label_smoothing <= 1:
        raise InputError(f"label_smoothing must be in [0, 1]; got {label_smoothing}")
    for name, number in (("z_loss", z_loss), ("filter_below", filter_below)):
        if not number >= 0:
            raise InputError(f"{name} must be at least 0; got {number}")
