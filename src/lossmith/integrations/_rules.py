"""What models do to logits, said of the hidden states and the head that make them.

A rule takes a Recipe and the arguments of a torch function, and returns the recipe of its result, or the result itself
(cross_entropy), or None where the logits have to be made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.integrations.torch import streamed


@dataclass(frozen=True)
class Recipe:
    """What the logits are: ``scale·(hidden·headᵀ + bias)``, and where `cap` is set ``cap·tanh`` of that.

    Shapes: hidden [..., D], head [V, D], bias [V]. autocast: the dtype of the products where autocast was on.
    """

    hidden: Tensor
    head: Tensor
    bias: Tensor | None
    dtype: torch.dtype
    autocast: torch.dtype | None
    scale: float | Tensor = 1.0
    cap: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the logits."""
        return (*self.hidden.shape[:-1], len(self.head))


def cross_entropy(
    recipe: Recipe,
    target: Any,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor | None:
    """Return torch's loss of logits [N, V] or [V] against class ids."""
    legacy = size_average is not None or reduce is not None or (weight is not None and weight.requires_grad)
    if legacy or target.shape != recipe.shape[:-1] or target.ndim > 1 or (reduction == "none" and label_smoothing):
        return None
    # cap·tanh(scale·x) is k·tanh(s·x/k) with k = cap and s = scale·cap.
    scale = recipe.scale if recipe.cap is None else recipe.scale * recipe.cap
    with torch.autocast(recipe.hidden.device.type, recipe.autocast, enabled=recipe.autocast is not None):
        try:
            return streamed(
                recipe.hidden,
                recipe.head,
                target,
                recipe.bias,
                weight=weight,
                ignore_index=ignore_index,
                reduction=reduction,
                label_smoothing=label_smoothing,
                softcap=recipe.cap,
                logit_scale=scale,
            )
        except InputError:  # torch says it in its own words, of the logits
            return None


def times(recipe: Recipe, factor: Any, *rest: Any, **more: Any) -> Recipe | None:
    """logits · factor, a number: into the scale, or, after a tanh, into the cap."""
    if rest or more or not _is_scalar(factor):
        return None
    dtype = recipe.dtype
    if isinstance(factor, Tensor):
        dtype = torch.promote_types(dtype, factor.dtype) if factor.ndim else dtype
        factor = factor.reshape(()) if factor.requires_grad else factor.item()
    if recipe.cap is None:
        return replace(recipe, scale=recipe.scale * factor, dtype=dtype)
    if isinstance(factor, Tensor) or factor <= 0:
        return None
    return replace(recipe, cap=recipe.cap * factor, dtype=dtype)


def divided(recipe: Recipe, divisor: Any, *rest: Any, **more: Any) -> Recipe | None:
    """logits / divisor, a number."""
    if rest or more or not _is_scalar(divisor):
        return None
    return times(recipe, 1 / divisor)


def tanh(recipe: Recipe) -> Recipe | None:
    """tanh(logits): a soft-cap of 1, once."""
    return replace(recipe, cap=1.0) if recipe.cap is None and not isinstance(recipe.scale, Tensor) else None


def plus(recipe: Recipe, other: Any, *rest: Any, **more: Any) -> Recipe | None:
    """logits + a vector [V]: into the bias, before any scale."""
    vector = isinstance(other, Tensor) and other.numel() == recipe.shape[-1] == (other.shape or (0,))[-1]
    if rest or more or not vector or recipe.cap is not None or recipe.scale != 1.0 or other.ndim > len(recipe.shape):
        return None
    bias = other.reshape(-1) if recipe.bias is None else recipe.bias + other.reshape(-1)
    return replace(recipe, bias=bias, dtype=torch.promote_types(recipe.dtype, other.dtype))


def cast(recipe: Recipe, *args: Any, **kwargs: Any) -> Recipe | None:
    """logits.to(...): a dtype is remembered, another device is not."""
    target = torch.empty(0, dtype=recipe.dtype, device=recipe.hidden.device).to(*args, **kwargs)
    return replace(recipe, dtype=target.dtype) if target.device == recipe.hidden.device else None


def same(recipe: Recipe, *args: Any, **kwargs: Any) -> Recipe | None:
    """contiguous() and clone()."""
    return recipe


def reshaped(name: str) -> Callable[..., Recipe | None]:
    """view, reshape, flatten, squeeze, unsqueeze: as long as every row stays whole."""

    def rule(recipe: Recipe, *args: Any, **kwargs: Any) -> Recipe | None:
        if recipe.shape[-1] < 2 or any(isinstance(x, torch.dtype) for x in args):
            return None
        shape = getattr(torch.empty(recipe.shape, device="meta"), name)(*args, **kwargs).shape
        if not shape or shape[-1] != recipe.shape[-1]:
            return None
        return replace(recipe, hidden=recipe.hidden.reshape(*shape[:-1], recipe.hidden.shape[-1]))

    return rule


def picked(recipe: Recipe, index: Any) -> Recipe | None:
    """logits[index]: rows, and a slice of the vocabulary (padding cut off)."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(part, (list, DEFERRED)) for part in parts):
        return None
    covered = sum(_dimensions(part) for part in parts)
    if any(part is Ellipsis for part in parts):
        at = next(i for i, part in enumerate(parts) if part is Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(recipe.shape) - covered)
        covered = len(recipe.shape)
    if covered < len(recipe.shape):
        return replace(recipe, hidden=recipe.hidden[tuple(parts)])
    last = parts.pop()
    if not isinstance(last, slice):
        return None
    bias = None if recipe.bias is None else recipe.bias[last]
    return replace(recipe, hidden=recipe.hidden[tuple(parts)], head=recipe.head[last], bias=bias)


DEFERRED = (str, float)  # no index at all


def _dimensions(part: Any) -> int:
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8) else 1


def _is_scalar(x: Any) -> bool:
    return isinstance(x, (int, float)) or (isinstance(x, Tensor) and x.numel() == 1 and x.ndim <= 1)


RULES: dict[str, Callable[..., Recipe | Tensor | None]] = {
    "cross_entropy": cross_entropy,
    "tanh": tanh,
    "getitem": picked,
    "float": lambda recipe: cast(recipe, torch.float32),
    "to": cast,
    **dict.fromkeys(("mul", "rmul", "imul", "multiply"), times),
    **dict.fromkeys(("div", "truediv", "itruediv", "true_divide", "divide"), divided),
    **dict.fromkeys(("add", "radd", "iadd"), plus),
    **dict.fromkeys(("contiguous", "clone"), same),
    **{name: reshaped(name) for name in ("view", "reshape", "flatten", "squeeze", "unsqueeze")},
}
