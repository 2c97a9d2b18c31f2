"""What models do to logits, said of the hidden states and the head that make them.

A rule takes a Recipe and the arguments of a torch function, and returns the recipe of its result, or the result itself
(cross_entropy), or None where the logits have to be made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.errors import InputError, RunError
from lossmith.integrations.torch import streamed


@dataclass(frozen=True)
class Recipe:
    """What the logits are: ``scale·(hidden·headᵀ + bias)``, and where `cap` is set ``cap·tanh`` of that.

    Shapes: hidden [..., D], head [V, D], bias [V]. autocast: the dtype of the products where autocast was on.
    read: the tensors they come from, each with its version (torch counts in-place changes) at that time.
    """

    hidden: Tensor
    head: Tensor
    bias: Tensor | None
    dtype: torch.dtype
    autocast: torch.dtype | None
    read: tuple[tuple[Tensor, int], ...] = ()
    scale: float | Tensor = 1.0
    cap: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the logits."""
        return (*self.hidden.shape[:-1], len(self.head))

    def parts(self) -> list[Tensor]:
        """Return the tensors that a gradient may reach."""
        return [x for x in (self.hidden, self.head, self.bias, self.scale) if isinstance(x, Tensor)]

    def detached(self) -> Recipe:
        """Return the recipe of what is computed under no_grad."""
        cut: dict[str, Any] = {k: v.detach() for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **cut)

    def product(self) -> Tensor:
        """Return ``hidden·headᵀ + bias`` as the model's own layer computes it."""
        self.unchanged()
        with self.precision():
            return nn.functional.linear(self.hidden, self.head, self.bias)

    def arguments(self) -> dict[str, Any]:
        """Return bias, softcap k, logit_scale s: cap·tanh(scale·x) is k·tanh(s·x/k) with k = cap, s = scale·cap."""
        self.unchanged()
        scale = self.scale if self.cap is None else self.scale * self.cap
        return {"bias": self.bias, "softcap": self.cap, "logit_scale": scale}

    def precision(self) -> torch.autocast:
        """Return the context of the products: autocast as it was where the head stands in the model."""
        return torch.autocast(self.hidden.device.type, self.autocast, enabled=self.autocast is not None)

    def unchanged(self) -> None:
        """Raise RunError where hidden states or head were changed in place, by an optimizer's step say, meanwhile."""
        if any(version(x) != before for x, before in self.read):
            raise RunError(
                "these logits were not read while the model was as it was: its weights or hidden states have changed "
                "in place since. Read outputs.logits before optimizer.step()"
            )


def version(x: Tensor) -> int:
    """Return how often `x` was changed in place (torch does not count in inference mode)."""
    return 0 if x.is_inference() else x._version


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
    options: dict[str, Any] = {
        "weight": weight,
        "ignore_index": ignore_index,
        "reduction": reduction,
        "label_smoothing": label_smoothing,
    }
    with recipe.precision():
        try:
            return streamed(recipe.hidden, recipe.head, target, **options, **recipe.arguments())
        except InputError:  # torch says it in its own words, of the logits
            return None


def times(recipe: Recipe, other: Any, **more: Any) -> Recipe | None:
    """logits · other, a number: into the scale, or, after a tanh, into the cap."""
    if more or not _is_scalar(other):
        return None
    dtype = recipe.dtype
    if isinstance(other, Tensor):
        dtype = torch.promote_types(dtype, other.dtype) if other.ndim else dtype
        other = other.reshape(()) if other.requires_grad else other.item()
    if recipe.cap is None:
        return replace(recipe, scale=recipe.scale * other, dtype=dtype)
    if isinstance(other, Tensor) or other <= 0:
        return None
    return replace(recipe, cap=recipe.cap * other, dtype=dtype)


def divided(recipe: Recipe, other: Any, **more: Any) -> Recipe | None:
    """logits / other, a number."""
    if more or not _is_scalar(other) or (not isinstance(other, Tensor) and other == 0):
        return None
    return times(recipe, 1 / other)


def tanh(recipe: Recipe) -> Recipe | None:
    """tanh(logits): a soft-cap of 1, once."""
    return replace(recipe, cap=1.0) if recipe.cap is None and not isinstance(recipe.scale, Tensor) else None


def plus(recipe: Recipe, other: Any, **more: Any) -> Recipe | None:
    """logits + a vector [V]: into the bias, before any scale."""
    vector = isinstance(other, Tensor) and other.numel() == recipe.shape[-1] == (other.shape or (0,))[-1]
    untouched = recipe.cap is None and not isinstance(recipe.scale, Tensor) and recipe.scale == 1.0
    if more or not vector or not untouched or other.ndim > len(recipe.shape) or not other.is_floating_point():
        return None
    bias = other.reshape(-1) if recipe.bias is None else recipe.bias + other.reshape(-1)
    return replace(recipe, bias=bias, dtype=torch.promote_types(recipe.dtype, other.dtype))


def cast(recipe: Recipe, *args: Any, **kwargs: Any) -> Recipe | None:
    """logits.to(...): a floating dtype is remembered, another device is not."""
    target = torch.empty(0, dtype=recipe.dtype, device=recipe.hidden.device).to(*args, **kwargs)
    kept = target.device == recipe.hidden.device and target.is_floating_point()
    return replace(recipe, dtype=target.dtype) if kept else None


def same(recipe: Recipe, *args: Any, **kwargs: Any) -> Recipe:
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
    if not all(type(part) in (int, slice, type(None), type(Ellipsis), Tensor) for part in parts):
        return None
    missing = [slice(None)] * (len(recipe.shape) - sum(_dimensions(part) for part in parts))
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), None)
    if at is not None:
        parts[at : at + 1] = missing
    elif missing:
        return replace(recipe, hidden=recipe.hidden[tuple(parts)])
    last = parts.pop()
    if not isinstance(last, slice):
        return None
    bias = None if recipe.bias is None else recipe.bias[last]
    return replace(recipe, hidden=recipe.hidden[tuple(parts)], head=recipe.head[last], bias=bias)


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
    **dict.fromkeys(("mul", "rmul", "multiply"), times),
    **dict.fromkeys(("div", "truediv", "true_divide", "divide"), divided),
    **dict.fromkeys(("add", "radd"), plus),
    **dict.fromkeys(("contiguous", "clone"), same),
    **{name: reshaped(name) for name in ("view", "reshape", "flatten", "squeeze", "unsqueeze")},
}
