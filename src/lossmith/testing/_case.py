"""A case: one loss, one implementation, one variant, one dtype; how it is called, and what it is measured against."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lossmith.errors import InputError, did_you_mean
from lossmith.losses._items import IGNORED
from lossmith.losses._spec import Loss, LossSpec

Arguments = dict[str, Any]
Results = dict[str, Tensor]  # "value", "weight", "gradient of NAME"

EXACT = 1e-10  # float64: largest error, relative to the norm of what is expected
DRAWS = 4  # examples over which the plain formula earns its tolerance, since one may be exact by luck
FACTOR = 2  # law 2: how many times the plain formula's error is allowed
FLOOR = 1, 2  # ulp always allowed, of the norm of what is expected: in the input's dtype, and in that of the statistics
LEAST = 3  # items of an example: one that weighs nothing, one that is ignored, one that counts
TINY = 1e-3  # what is smaller than this (examples are of order 1) is measured against this
NORMS = {"largest entry": math.inf, "Frobenius norm": 2.0}


class Broken(Exception):
    """A law does not hold: of which tensor, what was expected, what was got. check_loss adds the rest."""

    def __init__(self, tensor: str, expected: object, got: object) -> None:
        super().__init__(f"{tensor}: expected {expected}; got {got}")
        self.tensor, self.expected, self.got = tensor, expected, got


@contextmanager
def blame() -> Iterator[None]:
    """Let whatever the loss raises break the law."""
    try:
        yield
    except Exception as error:
        first, *_ = str(error).splitlines() or [""]  # the rest is in the chain
        raise Broken("the call", "value and gradients", f"{type(error).__name__}: {first}") from error


def run(function: Loss, arguments: Arguments, upstream: float = 1.0) -> Results:
    """Call a loss on fresh leaves, go backward with `upstream`, return value, weight and every gradient there is."""
    fresh = fresh_leaves(arguments)
    total = function(**fresh)
    results = {"value": total.value.detach(), "weight": total.weight.detach()}
    if total.value.requires_grad:
        total.value.backward(torch.full_like(total.value, upstream))
    return results | {f"gradient of {k}": x.grad for k, x in tensors(fresh).items() if x.grad is not None}


def tensors(arguments: Arguments) -> dict[str, Tensor]:
    """Return the arguments that are tensors."""
    return {name: x for name, x in arguments.items() if isinstance(x, Tensor)}


def asking(arguments: Arguments) -> list[str]:
    """Return the names of the tensors that ask for a gradient."""
    return [name for name, x in tensors(arguments).items() if x.requires_grad]


def fresh_leaves(arguments: Arguments, dtype: torch.dtype | None = None) -> Arguments:
    """Copy every tensor into a leaf of its own; floating ones into `dtype` where one is given."""
    return arguments | {name: _leaf(x, dtype) for name, x in tensors(arguments).items()}


def _leaf(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    copy = x.detach().clone()
    if dtype is not None and x.is_floating_point():
        copy = copy.to(dtype)
    return copy.requires_grad_(x.requires_grad)


def filled(x: Tensor, rows: Tensor, value: float) -> Tensor:
    """Copy `x` with `value` in the rows where the bool[n] `rows` is true; it asks for a gradient where x did."""
    copy = x.detach().clone()
    copy[rows] = value
    return copy.requires_grad_(x.requires_grad)


def norm(x: Tensor, order: float) -> float:
    """Return a norm of all entries, in float64; 0 of an empty tensor."""
    return float(torch.linalg.vector_norm(x.double().flatten(), order)) if x.numel() else 0.0


def errors(got: Tensor, truth: Tensor) -> tuple[float, ...]:
    """Return the error in each of NORMS, relative to that norm of the truth; not finite counts as infinite."""
    size = [norm(got.double() - truth, order) / max(norm(truth, order), TINY) for order in NORMS.values()]
    return tuple(x if math.isfinite(x) else math.inf for x in size)


@dataclass(frozen=True)
class Expected:
    """What a tensor should be, and how far off it may be, in each of NORMS and relative to it."""

    name: str
    truth: Tensor
    allowed: tuple[float, ...]

    def check(self, got: Tensor | None) -> None:
        """Assert that a tensor is there, finite, and near enough."""
        if got is None or got.shape != self.truth.shape:
            raise Broken(self.name, f"the shape {tuple(self.truth.shape)}", None if got is None else tuple(got.shape))
        if not bool(torch.isfinite(got).all()):
            raise Broken(self.name, self.truth, got)
        for kind, error, allowed in zip(NORMS, errors(got, self.truth), self.allowed, strict=True):
            if not error <= allowed:
                near = f"{self.truth} within {allowed:.2g} ({kind}, relative)"
                raise Broken(self.name, near, f"{got}, off by {error:.2g}")


@dataclass(frozen=True)
class Case:
    """One row of the table LOSSES under one implementation, variant, dtype and device."""

    spec: LossSpec
    implementation: str | None
    variant: Mapping[str, Any]
    dtype: torch.dtype
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("reference", "example", "items"):
            if not getattr(self.spec, name):
                raise InputError(f"LossSpec {self.spec.name!r} must have {name}: the laws are asserted by it; got none")
        names = [*self.spec.implementations, "reference"]
        if self.implementation is not None and self.implementation not in names:
            hint = did_you_mean(self.implementation, names)
            raise InputError(f"implementation must be one of {', '.join(names)}; got {self.implementation!r}.{hint}")

    @property
    def function(self) -> Loss:
        """Return what is checked."""
        if self.implementation is None:
            return self.spec.fn
        return self.spec.implementations.get(self.implementation, self.reference)

    @property
    def reference(self) -> Loss:
        """Return the plain formula."""
        assert self.spec.reference is not None
        return self.spec.reference

    def arguments(self, draw: int = 0) -> Arguments:
        """Draw the arguments of a call, the variant's options among them."""
        assert self.spec.example is not None
        drawn = self.spec.example(torch.Generator().manual_seed(self.seed + draw), self.dtype)
        options = fresh_leaves(dict(self.variant), self.dtype)
        given = drawn | options
        return given | {
            k: x.detach().to(self.device).requires_grad_(x.requires_grad) for k, x in tensors(given).items()
        }

    def items(self, arguments: Arguments) -> dict[str, Tensor]:
        """Return the tensors whose first dimension runs over the items."""
        return {name: x for name, x in tensors(arguments).items() if name in (*self.spec.items, "weights")}

    def count(self, arguments: Arguments) -> int:
        """Return how many items there are; with fewer than LEAST the laws about some of them would be empty."""
        n = len(arguments[self.spec.items[0]])
        if n < LEAST:
            raise InputError(f"the example of LossSpec {self.spec.name!r} must have {LEAST} items at least; got {n}")
        return n

    def every_third(self, arguments: Arguments, start: int) -> Tensor:
        """Choose items start, start + 3, ...: bool[n]."""
        return torch.arange(self.count(arguments), device=self.device) % 3 == start

    def muted(self, arguments: Arguments, rows: Tensor) -> Iterator[Arguments]:
        """Let some items weigh nothing, in every way the loss has: weight 0, integer target −100, both."""
        zero, ignored = {}, {}
        if isinstance(arguments.get("weights"), Tensor):
            zero = {"weights": filled(arguments["weights"], rows, 0)}
            yield arguments | zero
        if has_classes(arguments):
            ignored = {"targets": filled(arguments["targets"], rows, IGNORED)}
            yield arguments | ignored
        if zero and ignored:
            yield arguments | zero | ignored

    def poisoned(self, arguments: Arguments, rows: Tensor, value: float) -> Arguments:
        """Put `value` into every floating per-item input (but weights) of some items."""
        floating = {k: x for k, x in self.items(arguments).items() if x.is_floating_point() and k != "weights"}
        fits = {k: min(value, torch.finfo(x.dtype).max) if math.isfinite(value) else value for k, x in floating.items()}
        return arguments | {k: filled(x, rows, fits[k]) for k, x in floating.items()}

    def run(self, arguments: Arguments, function: Loss | None = None, upstream: float = 1.0) -> Results:
        """Run what is checked, or a function made of it."""
        with blame():
            return run(function or self.function, arguments, upstream)

    @cached_property
    def earned(self) -> dict[str, tuple[float, ...]]:
        """Return the plain formula's error in this dtype, for each tensor in each of NORMS: its worst of some draws."""
        worst: dict[str, tuple[float, ...]] = {}
        for draw in range(DRAWS):
            for name, size in self._errors_of_plain(self.arguments(draw)).items():
                worst[name] = tuple(map(max, size, worst.get(name, size)))
        return worst

    def _errors_of_plain(self, arguments: Arguments, upstream: float = 1.0) -> dict[str, tuple[float, ...]]:
        plain, truth = run(self.reference, arguments, upstream), self.truth(arguments, upstream)
        return {name: errors(x, truth[name]) for name, x in plain.items()}

    def truth(self, arguments: Arguments, upstream: float = 1.0) -> Results:
        """Return what the plain formula gives in float64 for the same, already rounded, inputs."""
        return run(self.reference, fresh_leaves(arguments, torch.float64), upstream)

    def expected(self, arguments: Arguments, upstream: float = 1.0) -> dict[str, Expected]:
        """Return the truth with what is allowed: stated in float64; else earned, by some draws and by this call."""
        truth = self.truth(arguments, upstream)
        if self.dtype == torch.float64:
            return {name: Expected(name, x, (EXACT,) * len(NORMS)) for name, x in truth.items()}
        floor = FLOOR[0] * torch.finfo(self.dtype).eps + FLOOR[1] * torch.finfo(torch.float32).eps
        own = self._errors_of_plain(arguments, upstream)
        worst = {name: map(max, size, self.earned[name]) for name, size in own.items()}
        return {name: Expected(name, x, tuple(FACTOR * e + floor for e in worst[name])) for name, x in truth.items()}

    def agree(
        self, arguments: Arguments, function: Loss | None = None, upstream: float = 1.0, only: tuple[str, ...] = ()
    ) -> None:
        """Assert that value, weight and every gradient are those of the plain formula, within what is allowed."""
        got = self.run(arguments, function, upstream)
        expected = self.expected(arguments, upstream)
        for name in only or expected:
            expected[name].check(got.get(name))
        for name in sorted(set(got) - set(expected)):
            if bool(got[name].any()):
                raise Broken(name, "no gradient: the formula has none", got[name])


def has_classes(arguments: Arguments) -> bool:
    """Tell whether the targets are integers, so that −100 among them weighs nothing."""
    targets = arguments.get("targets")
    return isinstance(targets, Tensor) and not targets.is_floating_point() and targets.dtype != torch.bool
