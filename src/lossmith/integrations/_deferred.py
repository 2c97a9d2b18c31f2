"""Logits that nobody has multiplied out: they remember hidden states and head until somebody needs the numbers.

A model's own code goes on working with them. What models usually do to logits (see _rules) is remembered, and
cross-entropy is computed without them. Anything else, in-place changes among it, first makes every one of them that is
still in use, as the model would have made them: from there on it is the model's own computation on ordinary tensors.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from lossmith.errors import RunError
from lossmith.integrations._rules import RULES, Recipe

METADATA = {"shape", "dtype", "device", "ndim", "requires_grad", "is_leaf", "layout", "is_cuda", "is_cpu", "is_meta"}
METADATA_CALLS = {"size", "dim", "numel", "is_floating_point", "is_complex", "__len__", "get_device", "__hash__"}
COMMUTE = {"add", "mul"}


@dataclass
class Ledger:
    """What became of the logits of one forward pass: was a loss computed without them, and what had to make them."""

    fused: bool = False
    closed: bool = False
    needed_by: list[str] = field(default_factory=list)
    alive: list[weakref.ref[DeferredLogits]] = field(default_factory=list)

    def make_all(self, why: str) -> None:
        """Make whatever is still in use; after the loss (closed) it is only being read, and that is no news."""
        if not self.closed:
            self.needed_by.append(why)
        for logits in [ref() for ref in self.alive]:
            if logits is not None:
                logits.make()
        self.alive = []


class DeferredLogits(torch.Tensor):
    """A tensor of logits whose numbers are made when something needs them; `made` holds them from then on."""

    recipe: Recipe
    ledger: Ledger
    origin: Callable[[], Tensor]
    recorded: bool
    made: Tensor | None

    def make(self) -> Tensor:
        """Return the logits, with or without a graph as it was where they stand in the model; computed once."""
        if self.made is None:
            with torch.set_grad_enabled(self.recorded):
                self.made = self.origin()
        return self.made

    def __repr__(self, **kwargs: Any) -> str:  # type: ignore[override]
        """Say what is deferred, without making it."""
        return f"DeferredLogits({tuple(self.shape)}, dtype={self.dtype})"

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Remember `func` where a rule knows how; else make the logits and apply it to them."""
        kwargs = kwargs or {}
        name = called(func)
        if name in METADATA or name in METADATA_CALLS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        result = ruled(name, func, args, kwargs)
        if result is not None:
            return result
        for logits in tree_leaves((args, kwargs)):
            if isinstance(logits, DeferredLogits) and logits.made is None:
                logits.ledger.make_all(name.strip("_"))
        return func(*tree_map(plain, args), **tree_map(plain, kwargs))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Serve what comes around __torch_function__ (collectives) where no gradient can be lost; else refuse."""
        if any(isinstance(x, DeferredLogits) and x.requires_grad for x in tree_leaves((args, kwargs or {}))):
            raise RunError(
                f"{func} of deferred logits would lose their gradient; use fused_loss(..., return_logits=False)"
            )
        return func(*tree_map(plain, args), **tree_map(plain, kwargs or {}))


class Placed(torch.autograd.Function):
    """Gives deferred logits their place in the graph, where DDP looks for the parameters that a loss will reach."""

    @staticmethod
    def forward(ctx: Any, recipe: Recipe, *parts: Tensor) -> Any:
        """Return logits without numbers."""
        return torch.Tensor._make_wrapper_subclass(
            DeferredLogits, recipe.shape, dtype=recipe.dtype, device=recipe.hidden.device
        )

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Any:
        """Refuse: gradients come through the loss, or through the logits that were made."""
        raise RunError(
            "the gradient of deferred logits was asked for where only their numbers have one. Under DDP set "
            "find_unused_parameters=False (the Trainer: ddp_find_unused_parameters=False); else use outputs.logits + 0"
        )


def called(func: Callable[..., Any]) -> str:
    """Return the name of a torch function; of an attribute's getter the attribute's."""
    name = getattr(func, "__name__", "")
    attribute = getattr(getattr(func, "__self__", None), "__name__", "")
    return attribute if name == "__get__" else name


def ruled(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return what a rule says of func(*args, **kwargs): logits deferred further, a loss; None where no rule does."""
    if name in COMMUTE and len(args) == 2 and not isinstance(args[0], DeferredLogits):
        args = args[::-1]
    first, rest = (args[0], args[1:]) if args else (kwargs.get("input"), ())
    rule = RULES.get(name.strip("_") if name.startswith("__") else name)
    if rule is None or not isinstance(first, DeferredLogits) or first.made is not None:
        return None
    recipe = first.recipe if torch.is_grad_enabled() else first.recipe.detached()
    result = rule(recipe, *rest, **{k: v for k, v in kwargs.items() if k != "input"})
    if isinstance(result, Recipe):
        return defer(result, first.ledger, lambda: func(*tree_map(plain, args), **tree_map(plain, kwargs)))
    first.ledger.fused = first.ledger.fused or result is not None
    return result


def defer(recipe: Recipe, ledger: Ledger, origin: Callable[[], Tensor]) -> DeferredLogits:
    """Return the deferred result of origin(), which `recipe` describes."""
    logits: DeferredLogits = Placed.apply(recipe, *recipe.parts())  # type: ignore[no-untyped-call]
    logits.recipe, logits.ledger, logits.origin = recipe, ledger, origin
    logits.recorded, logits.made = torch.is_grad_enabled(), None
    ledger.alive.append(weakref.ref(logits))
    return logits


def plain(x: Any) -> Any:
    """Return `x`, made if it is deferred."""
    return x.make() if isinstance(x, DeferredLogits) else x
