"""Logits that nobody has multiplied out: they remember hidden states and head until somebody needs the numbers.

A model's own code goes on working with them. What it usually does to logits (see _rules) is remembered,
cross-entropy is computed without them, and whatever else is done first makes them, exactly as the model would have
made them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from lossmith.integrations._rules import RULES, Recipe

METADATA = {"shape", "dtype", "device", "ndim", "requires_grad", "is_leaf", "layout", "is_cuda", "is_cpu", "is_meta"}
METADATA_CALLS = {"size", "dim", "numel", "is_floating_point", "is_complex", "len", "get_device", "hash"}
COMMUTE = {"add", "mul"}


@dataclass
class Ledger:
    """What became of the logits of one forward pass: was a loss computed without them, and what had to make them."""

    fused: bool = False
    made_for: list[str] = field(default_factory=list)
    alive: list[weakref.ref[DeferredLogits]] = field(default_factory=list)


class DeferredLogits(torch.Tensor):
    """A tensor of logits whose numbers are made when something needs them.

    `recipe` is None once they can no longer be told from hidden states and head.
    """

    recipe: Recipe | None
    ledger: Ledger
    origin: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
    made: Tensor | None
    parent: bool

    def make(self) -> Tensor:
        """Return the logits, computed as the model computes them; once."""
        if self.made is None:
            function, args, kwargs = self.origin
            self.made = function(*tree_map(plain, args), **tree_map(plain, kwargs))
        return self.made

    def __repr__(self, **kwargs: Any) -> str:  # type: ignore[override]
        """Say what is deferred, without making it."""
        return f"DeferredLogits({tuple(self.shape)})"

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Remember `func` where a rule knows how; else make the logits and apply it to them."""
        kwargs = kwargs or {}
        name: str = getattr(func, "__name__", "")
        getter = getattr(func, "__self__", None) if name == "__get__" else None
        key = name.strip("_") if getter is None else getter.__name__
        if key in METADATA or key in METADATA_CALLS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if key in COMMUTE and len(args) == 2 and not isinstance(args[0], DeferredLogits):
            args = args[::-1]
        first, rest = (args[0], args[1:]) if args else (kwargs.get("input"), ())
        if isinstance(first, DeferredLogits) and first.recipe is not None and key in RULES:
            result = RULES[key](first.recipe, *rest, **{k: v for k, v in kwargs.items() if k != "input"})
            if isinstance(result, Recipe) and not (changes(name) and first.parent):
                return remember(result, first, func, args, kwargs, changes(name))
            if isinstance(result, Tensor):
                first.ledger.fused = True
                return result
        return give_up(func, name, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Refuse: everything comes by __torch_function__, where autograd still sees it."""
        raise NotImplementedError(f"{func} of deferred logits below autograd")


def defer(recipe: Recipe, ledger: Ledger, make: Callable[..., Any], *args: Any, **kwargs: Any) -> DeferredLogits:
    """Return the deferred result of make(*args, **kwargs), which `recipe` describes."""
    parts = [x for x in (recipe.hidden, recipe.head, recipe.bias) if x is not None]
    logits: DeferredLogits = torch.Tensor._make_wrapper_subclass(
        DeferredLogits,
        recipe.shape,
        dtype=recipe.dtype,
        device=recipe.hidden.device,
        requires_grad=torch.is_grad_enabled() and any(x.requires_grad for x in parts),
    )
    logits.recipe, logits.ledger, logits.made, logits.parent = recipe, ledger, None, False
    logits.origin = (make, args, kwargs)
    ledger.alive.append(weakref.ref(logits))
    return logits


def remember(
    recipe: Recipe, first: DeferredLogits, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], in_place: bool
) -> DeferredLogits:
    """Return the deferred result of func(first, ...); in place it is `first` itself, with a new recipe."""
    before = first
    if in_place and first.recipe is not None:
        function, old_args, old_kwargs = first.origin
        before = defer(first.recipe, first.ledger, function, *old_args, **old_kwargs)
        before.made = first.made
        first.recipe, first.made, first.origin = recipe, None, (func, (before, *args[1:]), kwargs)
    before.parent = True
    return first if in_place else defer(recipe, first.ledger, func, *args, **kwargs)


def give_up(func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make the logits and apply func to them; where that changes them, all that was remembered is made before."""
    for arg in (*args, *kwargs.values()):
        if isinstance(arg, DeferredLogits):
            arg.ledger.made_for.append(name.strip("_"))
    if changes(name) and args and isinstance(args[0], DeferredLogits):
        for other in (ref() for ref in args[0].ledger.alive):
            if other is not None:
                other.make()
                other.recipe = None
    return func(*tree_map(plain, args), **tree_map(plain, kwargs))


def changes(name: str) -> bool:
    """Tell whether a function of this name changes its first argument."""
    inner = name.strip("_")
    return (name.endswith("_") and not name.startswith("_")) or inner == "setitem" or inner in IN_PLACE


IN_PLACE = {"iadd", "isub", "imul", "idiv", "itruediv", "ipow", "iand", "ior", "ixor", "ifloordiv", "imod"}


def plain(x: Any) -> Any:
    """Return `x`, made if it is deferred."""
    return x.make() if isinstance(x, DeferredLogits) else x
