"""The laws, a function each: what every loss of this house, and every plugin's, must do. Each raises Broken."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses._items import wide
from lossmith.losses._spec import Loss
from lossmith.testing._case import (
    DRAWS,
    Arguments,
    Broken,
    Case,
    asking,
    blame,
    filled,
    fresh_leaves,
    has_classes,
    tensors,
)
from lossmith.total import Total

UPSTREAM = -2.5  # neither 1 nor a power of two, and negative


def types(case: Case) -> None:
    """The result is a Total of two finite scalars, float32 or wider; float64 stays; weights get no gradient."""
    arguments = case.arguments()
    if isinstance(arguments.get("weights"), Tensor) and asking(arguments):
        arguments["weights"].requires_grad_()
    with blame():
        total = case.function(**arguments)
    if not isinstance(total, Total):
        raise Broken("the result", "a Total", type(total).__name__)
    least = wide(torch.empty((), dtype=case.dtype)).dtype
    for name, x in (("value", total.value), ("weight", total.weight)):
        if x.shape != () or torch.promote_types(x.dtype, least) != x.dtype or not bool(torch.isfinite(x)):
            raise Broken(name, f"a finite scalar, {least} or wider", f"{x} ({x.dtype})")
    if total.weight.requires_grad:
        raise Broken("weight", "no gradient", total.weight)
    if "gradient of weights" in case.run(arguments):
        raise Broken("gradient of weights", "none: weights are constants", "one")


def formula(case: Case) -> None:
    """Law 1. In float64, value, weight and every gradient agree with the reference: 1e-10 of their norm."""
    if case.dtype == torch.float64:
        for draw in range(DRAWS):
            case.agree(case.arguments(draw))


def precision(case: Case) -> None:
    """Law 2. In a lower precision, the error is at most 2× that of the plain formula in that dtype, plus a floor.

    Both are measured against the reference in float64 on the same rounded inputs, by largest entry and by Frobenius
    norm, relative to the norm of what is expected. The plain formula's error is its worst of four draws, as one may be
    exact by luck. The floor is an ulp (two rounding units) of that norm, plus two ulp of float32.
    """
    if case.dtype != torch.float64:
        for draw in range(DRAWS):
            case.agree(case.arguments(draw))


def weights(case: Case) -> None:
    """Law 3. Uneven weights, zeros among them, and targets of −100 count as in the reference; no weights are ones."""
    arguments = case.arguments()
    if isinstance(arguments.get("weights"), Tensor):
        case.agree({k: x for k, x in arguments.items() if k != "weights"})
        ramp = torch.arange(1, 1 + len(arguments["weights"]), device=case.device).to(case.dtype)
        uneven = arguments["weights"].detach() * ramp.reshape(-1, *[1] * (arguments["weights"].ndim - 1))
        arguments["weights"] = filled(uneven, case.every_third(arguments, 1), 0)
        case.agree(arguments)
    if has_classes(arguments):
        for ignoring in case.muted(arguments, case.every_third(arguments, 2)):
            case.agree(ignoring)


def upstream(case: Case) -> None:
    """Law 3. The gradient that comes from above (here −2.5) multiplies every gradient."""
    case.agree(case.arguments(), upstream=UPSTREAM)


def repeated(case: Case) -> None:
    """Law 3. Each of three backward passes through one graph gives the same gradients."""
    arguments = case.arguments()
    names = asking(arguments)
    expected = case.expected(arguments, UPSTREAM)
    fresh = fresh_leaves(arguments)
    with blame():
        value = case.function(**fresh).value
    above, leaves = torch.full_like(value, UPSTREAM), [fresh[name] for name in names]
    for last in (False, False, True) if names else ():
        with blame():
            grads = torch.autograd.grad(value, leaves, above, retain_graph=not last, allow_unused=True)
        for name, grad in zip(names, grads, strict=True):
            if grad is not None and grad.requires_grad:
                raise Broken(f"gradient of {name}", "a constant: nobody asked for a second derivative", grad.grad_fn)
            if f"gradient of {name}" in expected:
                expected[f"gradient of {name}"].check(grad)


def frozen(case: Case) -> None:
    """Law 3. Whichever inputs ask for a gradient (each alone, all but one, none), they get it, and the others none."""
    names = asking(case.arguments())
    wanted = {frozenset[str]()} | {frozenset({name}) for name in names} | {frozenset(names) - {name} for name in names}
    for some in sorted(wanted, key=sorted):
        arguments = case.arguments()
        for name in names:
            arguments[name].requires_grad_(name in some)
        case.agree(arguments)
        for name in case.run(arguments):
            if name.startswith("gradient") and name.removeprefix("gradient of ") not in some:
                raise Broken(name, "none: it does not require grad", "one")
    arguments = case.arguments()
    with torch.no_grad(), blame():
        total = case.function(**arguments)
    case.expected(arguments)["value"].check(total.value)


def poison(case: Case) -> None:
    """Law 4. NaN, ±inf, the largest number and 0 in the rows of what weighs nothing change no bit of value, weight or
    gradient, and the gradient of those rows is exactly 0."""
    arguments = case.arguments()
    rows = case.every_third(arguments, 1)
    for muted in case.muted(arguments, rows):
        clean = case.run(muted)
        for value in (math.nan, math.inf, -math.inf, torch.finfo(case.dtype).max, 0.0):
            got = case.run(case.poisoned(muted, rows, value))
            for name, expected in clean.items():
                if name not in got or not torch.equal(got[name], expected):
                    raise Broken(f"{name}, with {value} where nothing weighs", expected, got.get(name))
        for name in case.items(arguments):
            grad = clean.get(f"gradient of {name}")
            if grad is not None and bool(grad[rows].any()):
                raise Broken(f"gradient of {name}", "0 in the rows that weigh nothing", grad[rows])


def nothing(case: Case) -> None:
    """Law 5. Nothing counted (all weights 0, all targets −100) gives value 0, weight 0, mean 0 and zero gradients."""
    arguments = case.arguments()
    everything = torch.ones(case.count(arguments), dtype=torch.bool, device=case.device)
    for muted in case.muted(arguments, everything):
        for value in (1.0, math.nan):
            _zero(case, case.poisoned(muted, everything, value))
        _zero(case, muted)


def empty(case: Case) -> None:
    """Law 5. Zero items give 0 and zero gradients; a loss that is not additive may refuse them with an InputError."""
    arguments = _cut(case, case.arguments(), slice(0, 0))
    try:
        case.function(**arguments)
    except Exception as error:
        if isinstance(error, InputError) and not case.spec.additive:
            return
    _zero(case, arguments)


def _zero(case: Case, arguments: Arguments) -> None:
    def mean(**given: object) -> Total:
        total = case.function(**given)
        return Total(total.mean(), total.weight)

    names = case.truth(case.arguments())
    for function in (case.function, mean):
        got = case.run(arguments, function)
        for name in names:
            if name not in got or bool(got[name].any()):
                raise Broken(name if function is not mean else f"{name} (of the mean)", "zeros", got.get(name))


def split(case: Case) -> None:
    """Law 6. Additive losses: the totals of parts add up to that of the whole, wherever it is cut, empty parts too."""
    arguments = case.arguments()
    n = case.count(arguments)
    if not case.spec.additive:
        return
    for cuts in ([0], [1], [n // 2], [n - 1], [n], list(range(1, n)), [n // 2, n // 2]):
        bounds = [0, *cuts, n]

        def parts(bounds: list[int] = bounds, **given: object) -> Total:
            totals = [case.function(**_cut(case, given, slice(a, b))) for a, b in pairwise(bounds)]
            return sum(totals[1:], totals[0])

        # The gradients of parts in half precision are rounded before they are added: float64 says enough of them.
        case.agree(arguments, parts, only=() if case.dtype == torch.float64 else ("value", "weight"))


def _cut(case: Case, arguments: Arguments, part: slice) -> Arguments:
    return arguments | {name: x[part] for name, x in case.items(arguments).items()}


def gradcheck(case: Case) -> None:
    """Law 7. In float64, the gradients are those of finite differences (1e-6 + 1e-5 of the entry).

    An input that the formula takes as a constant (a teacher) has no gradient to check.
    """
    if case.dtype != torch.float64:
        return
    arguments = case.arguments()
    truth = case.truth(arguments)
    for name in [name for name in asking(arguments) if f"gradient of {name}" in truth]:

        def value(x: Tensor, name: str = name) -> Tensor:
            return case.function(**(arguments | {name: x})).value

        try:
            torch.autograd.gradcheck(value, (arguments[name],), atol=1e-6, rtol=1e-5)
        except RuntimeError as error:
            raise Broken(f"gradient of {name}", "that of finite differences", error) from error


def permutation(case: Case) -> None:
    """Law 7. In another order of the items, value and weight stay, and the gradients go with their items."""
    arguments = case.arguments()
    order = torch.randperm(case.count(arguments), generator=torch.Generator().manual_seed(case.seed)).to(case.device)
    case.agree(arguments, _of_views(case, lambda name, x: x[order] if name in case.items(arguments) else x))


def strides(case: Case) -> None:
    """Views give what contiguous tensors give: every other entry of a larger tensor, transposed, expanded weights."""
    arguments = case.arguments()
    case.agree(arguments, _of_views(case, lambda _, x: _spaced(x)))
    case.agree(
        arguments, _of_views(case, lambda _, x: x.transpose(0, -1).contiguous().transpose(0, -1) if x.ndim else x)
    )
    if isinstance(arguments.get("weights"), Tensor):
        arguments["weights"] = arguments["weights"][:1].expand_as(arguments["weights"])
        case.agree(arguments, _of_views(case, lambda name, x: x[:1].expand_as(x) if name == "weights" else x))


def _of_views(case: Case, view: Callable[[str, Tensor], Tensor]) -> Loss:
    """Return the loss of views of its tensors; gradients come back through the views."""
    return lambda **given: case.function(**(given | {name: view(name, x) for name, x in tensors(given).items()}))


def _spaced(x: Tensor) -> Tensor:
    """Put `x` into a tensor of twice the size whose other half is NaN (−100 for integers), and return that view."""
    if not x.ndim:
        return x
    return torch.stack([x, torch.full_like(x, math.nan if x.is_floating_point() else -100)], -1)[..., 0]


def untouched(case: Case) -> None:
    """Forward and backward leave every input as it was, the rows that weigh nothing too."""
    whole = case.arguments()
    for arguments in (whole, *case.muted(whole, case.every_third(whole, 1))):
        given = fresh_leaves(arguments)
        case.run(arguments, lambda given=given, **_: case.function(**given))
        for name, x in tensors(arguments).items():
            if not torch.equal(given[name], x):
                raise Broken(name, x, given[name])


def compiled(case: Case) -> None:
    """torch.compile(fullgraph=True, backend="aot_eager") gives the same (float32 and the default implementation)."""
    if case.dtype != torch.float32 or case.implementation is not None:
        return
    torch.compiler.reset()  # else the variants of one loss use up dynamo's budget of recompilations
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # dynamo's own, not the loss's
        case.agree(case.arguments(), torch.compile(case.function, fullgraph=True, backend="aot_eager"))


LAWS: dict[str, Callable[[Case], None]] = {
    law.__name__: law
    for law in (
        types,
        formula,
        precision,
        weights,
        upstream,
        repeated,
        frozen,
        poison,
        nothing,
        empty,
        split,
        gradcheck,
        permutation,
        strides,
        untouched,
        compiled,
    )
}
