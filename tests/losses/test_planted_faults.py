"""check_loss is able to fail: faults planted into a correct streaming cross-entropy, each caught by the law it breaks.

The faults are those that were found in published kernels (shared/research/kernels.md) and those that the laws name.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses._items import IGNORED, blank, counted, wide
from lossmith.losses._spec import LossSpec
from lossmith.testing import LAWS, LawError, check_loss
from lossmith.total import Total

CLASSES, WIDTH = 7, 4


class Streaming(torch.autograd.Function):
    """Σ wᵢ·(lse − z_t) in chunks of rows, gradients made in the forward pass; `fault` names the line that is wrong."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, w: Tensor, rows: int, fault: str) -> Tensor:
        x, head_ = wide(hidden), wide(head)
        value = x.new_zeros(())
        grad_hidden, grad_head = torch.zeros_like(x), torch.zeros_like(head_)
        if fault == "the head's gradient is accumulated in the input's dtype":
            grad_head = torch.zeros_like(head)
        stop = len(x) - rows if fault == "the last chunk is dropped" else len(x)
        for start in range(0, stop, rows):
            span = slice(start, start + rows)
            z = x[span] @ head_.T
            if fault == "logits are rounded to half precision":
                z = z.to(torch.bfloat16).to(z.dtype) if z.dtype == torch.float32 else z
            onehot = torch.nn.functional.one_hot(targets[span], CLASSES).to(z.dtype)
            value = value + (w[span] * (torch.logsumexp(z, -1) - (z * onehot).sum(-1))).sum()
            gradient = w[span, None] * (torch.softmax(z, -1) - onehot)
            grad_hidden[span] = gradient @ head_
            grad_head += gradient.T @ x[span]
        ctx.frozen = fault == "the head's gradient is forgotten when hidden is frozen" and not ctx.needs_input_grad[0]
        ctx.fault, ctx.dtype, ctx.grads = fault, hidden.dtype, (grad_hidden, grad_head)
        return value * 1.01 if fault == "the value is 1 % too large" else value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.fault == "the upstream gradient is ignored":
            upstream = torch.ones_like(upstream)
        if ctx.fault == "the gradient is 1 % too large":
            upstream = upstream * 1.01
        if ctx.fault == "saved gradients are scaled in place":
            grads = [grad.mul_(upstream) for grad in ctx.grads]
        else:
            grads = [grad * upstream for grad in ctx.grads]
        hidden, head = (grad.to(ctx.dtype) for grad in grads)
        if ctx.fault == "gradients come with a graph":
            head.requires_grad_()
        return hidden, None if ctx.frozen else head, None, None, None, None


class Leaking(torch.autograd.Function):
    """Blank, but let a trace of gradient into what was blanked."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor) -> Tensor:
        return blank(x, keep)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return upstream + 1e-14, None


def streaming(fault: str = "", rows: int = 2) -> Any:
    """Return the loss with one fault in it, or none."""

    def loss(hidden: Tensor, head: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Total:
        keep = counted(targets, weights, targets)
        w = torch.ones_like(targets, dtype=wide(hidden).dtype) if weights is None else wide(weights)
        extra = w.sum() - w.detach().sum() if fault == "weights get a gradient" else 0
        w = w.detach()
        if fault == "weights left out are halves" and weights is None:
            w = w / 2
        if fault == "weights are scaled in place":
            w.mul_(1)
        if fault == "only −100 is removed":
            keep = targets != IGNORED
        if fault == "a frozen input gets a gradient" and not head.requires_grad:
            head.grad = torch.zeros_like(head)
        if fault == "nothing counted is 0 times what is there" and not bool(keep.any()):
            return Total((hidden * 0).sum() + (head * 0).sum(), wide(hidden.new_zeros(())))
        w = torch.ones_like(w) if fault == "weights are ignored" else w
        if fault == "−100 is read as a class":
            keep, targets = torch.ones_like(keep), targets % CLASSES
        if fault == "weights are read as if they were contiguous":
            w = w.as_strided(w.shape, (1,))
        if fault == "columns are read as rows" and hidden.stride(0) == 1:
            hidden = hidden.as_strided(hidden.shape, (hidden.shape[1], 1))
        if fault == "inputs are blanked in place":
            hidden.data.masked_fill_(~keep[:, None], 0)
        if fault == "the host waits for the device" and not bool(keep.any()):
            w = w * 0
        if fault == "zero rows are refused" and not len(hidden):
            raise ValueError("expected at least one row")
        if fault != "padding is multiplied by 0":
            hidden = (Leaking.apply if fault == "every row gets a gradient" else blank)(hidden, keep)
        w = torch.where(keep, w, 0)
        if fault == "rows count by their position":
            w = w * torch.arange(1, 1 + len(w))
        value = Streaming.apply(hidden, head, torch.where(keep, targets, 0), w, rows, fault)
        return result(value + extra, w.sum())

    def result(value: Tensor, weight: Tensor) -> Total:
        if fault == "the weight carries a gradient":
            return Total(value, weight + 0 * value)
        if fault == "the mean is taken too early":
            return Total(value / weight.where(weight != 0, 1), torch.ones_like(weight) * (weight != 0))
        if fault == "nothing is computed where nothing is recorded":
            value = value * float(torch.is_grad_enabled())
        if fault == "nothing counted is 0/0":
            return Total(value / weight * weight, weight)
        if fault == "the value is rounded to half precision":
            return Total(value.half(), weight)
        return Total(value, weight)

    return loss


def reference(hidden: Tensor, head: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Total:
    w = hidden.new_ones(targets.shape) if weights is None else weights
    keep = (targets != IGNORED) & (w != 0)
    losses = torch.nn.functional.cross_entropy(hidden[keep] @ head.T, targets[keep], reduction="none")
    return Total((w[keep] * losses).sum(), w[keep].sum())


def example(generator: torch.Generator, dtype: torch.dtype, n: int = 9) -> dict[str, Any]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return {
        "hidden": (normal(n, WIDTH) + 1).requires_grad_(),
        "head": normal(CLASSES, WIDTH).requires_grad_(),
        "targets": torch.randint(CLASSES, (n,), generator=generator),
        "weights": torch.rand(n, generator=generator, dtype=dtype) + 0.5,
    }


def row(loss: Any, reference: Any = reference, example: Any = example, **more: Any) -> LossSpec:
    return LossSpec("planted", "tests", loss, reference, example, ("hidden", "targets"), **more)


# fault: the law that must catch it (run alone), and the tensor it must name
FAULTS = {
    "the value is rounded to half precision": ("types", "value"),
    "the weight carries a gradient": ("types", "weight"),
    "weights get a gradient": ("types", "gradient of weights"),
    "the value is 1 % too large": ("formula", "value"),
    "the gradient is 1 % too large": ("formula", "gradient of hidden"),
    "the last chunk is dropped": ("formula", "value"),
    "logits are rounded to half precision": ("precision", "value"),
    "weights are ignored": ("weights", "value"),
    "weights left out are halves": ("weights", "value"),
    "−100 is read as a class": ("weights", "value"),
    "the upstream gradient is ignored": ("upstream", "gradient of hidden"),
    "saved gradients are scaled in place": ("repeated", "gradient of hidden"),
    "gradients come with a graph": ("repeated", "gradient of head"),
    "the head's gradient is forgotten when hidden is frozen": ("frozen", "gradient of head"),
    "a frozen input gets a gradient": ("frozen", "gradient of head"),
    "nothing is computed where nothing is recorded": ("frozen", "value"),
    "padding is multiplied by 0": ("poison", "value, with nan where nothing weighs"),
    "only −100 is removed": ("poison", "value, with nan where nothing weighs"),
    "every row gets a gradient": ("poison", "gradient of hidden"),
    "nothing counted is 0/0": ("nothing", "value"),
    "nothing counted is 0 times what is there": ("nothing", "value"),
    "zero rows are refused": ("empty", "the call"),
    "the mean is taken too early": ("split", "value"),
    "rows count by their position": ("permutation", "value"),
    "weights are read as if they were contiguous": ("strides", "value"),
    "columns are read as rows": ("strides", "value"),
    "weights are scaled in place": ("strides", "the call"),
    "inputs are blanked in place": ("untouched", "hidden"),
    "the host waits for the device": ("compiled", "the call"),
}


def test_the_loss_without_a_fault_keeps_every_law() -> None:
    check_loss(row(streaming()))


@pytest.mark.parametrize(("fault", "law", "tensor"), [(fault, *where) for fault, where in FAULTS.items()])
def test_a_planted_fault_is_caught_by_the_law_it_breaks(fault: str, law: str, tensor: str) -> None:
    with pytest.raises(LawError, match=tensor) as caught:
        check_loss(row(streaming(fault)), laws=[law])
    assert (caught.value.law, caught.value.tensor) == (law, tensor)


def test_every_law_has_a_planted_fault() -> None:
    assert {law for law, _ in FAULTS.values()} | {law for law, _ in SHARED} == set(LAWS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_accumulating_over_many_chunks_in_half_precision_is_caught(dtype: torch.dtype) -> None:
    laws, many_rows = ["formula", "precision"], functools.partial(example, n=200)
    check_loss(row(streaming(rows=1), example=many_rows), dtypes=[torch.float64, dtype], laws=laws)
    faulty = row(streaming("the head's gradient is accumulated in the input's dtype", rows=1), example=many_rows)
    check_loss(faulty, dtypes=[torch.float64, torch.float32], laws=laws)
    with pytest.raises(LawError, match="gradient of head") as caught:
        check_loss(faulty, dtypes=[dtype], laws=laws)
    assert (caught.value.law, caught.value.dtype) == ("precision", dtype)


def averaged(hidden: Tensor, head: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Total:
    """A mean of means, dressed up as a total."""
    whole = reference(hidden, head, targets, weights=weights)
    return Total(whole.mean(), (whole.weight != 0).to(whole.weight.dtype))


def ranked(hidden: Tensor, head: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Total:
    """Rows count by their position."""
    w = torch.ones_like(hidden[:, 0]) if weights is None else weights
    return reference(hidden, head, targets, weights=w * torch.arange(1, 1 + len(w)))


def detached(hidden: Tensor, head: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Total:
    """The gradient of a part of the formula is missing."""
    whole, part = reference(hidden, head, targets, weights=weights), reference(hidden.detach() / 2, head, targets)
    return Total(whole.value + part.value, whole.weight)


SHARED = [("split", averaged), ("permutation", ranked), ("gradcheck", detached)]


@pytest.mark.parametrize(("law", "loss"), SHARED, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_a_fault_that_the_reference_shares_is_caught_without_it(law: str, loss: Any) -> None:
    shared = row(loss, reference=loss)
    check_loss(shared, dtypes=[torch.float64], laws=["formula", "upstream", "repeated", "frozen"])
    with pytest.raises(LawError) as caught:
        check_loss(shared, laws=[law])
    assert caught.value.law == law


def squared(fault: str = "") -> Any:
    """A regression: no class ids; targets get no gradient, as a teacher's would not."""

    def loss(inputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Total:
        keep = counted(inputs, weights)
        targets = targets if fault == "the teacher learns" else targets.detach()
        difference = blank(inputs, keep) - blank(targets, keep)
        losses = wide(difference * difference) if fault == "squares overflow" else wide(difference) ** 2
        w = torch.ones_like(losses) if weights is None else wide(weights).detach()
        if fault == "a weight of 0 is read as 1":
            w = w.where(w != 0, 1)
        return Total((losses * w).sum(), w.sum())

    return loss


def squared_reference(inputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Total:
    w = torch.ones_like(inputs) if weights is None else weights
    return Total((w * (inputs - targets.detach()) ** 2)[w != 0].sum(), w.sum())


def large_residuals(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    """Squares beyond float16's 65,504; sums that float32 holds."""
    inputs, targets = (torch.randn(5, generator=generator, dtype=dtype) * 300 for _ in range(2))
    weights = torch.rand(5, generator=generator, dtype=dtype) + 0.5
    return {"inputs": inputs.requires_grad_(), "targets": targets.requires_grad_(), "weights": weights}


@pytest.mark.parametrize(
    ("fault", "law", "tensor"),
    [
        ("a weight of 0 is read as 1", "weights", "weight"),
        ("the teacher learns", "formula", "gradient of targets"),
        ("squares overflow", "precision", "value"),  # the plain formula overflows too: nothing is earned by that
    ],
)
def test_faults_of_a_regression_are_caught(fault: str, law: str, tensor: str) -> None:
    good = LossSpec("planted", "tests", squared(), squared_reference, large_residuals, ("inputs", "targets"))
    check_loss(good)
    with pytest.raises(LawError) as caught:
        check_loss(dataclasses.replace(good, fn=squared(fault)), laws=[law])
    assert (caught.value.law, caught.value.tensor) == (law, tensor)


def test_a_law_is_asserted_of_each_variant_and_each_implementation() -> None:
    def scaled(*tensors: Tensor, scale: float = 1.0, **options: Any) -> Total:
        whole = reference(*tensors, **options)
        return Total(whole.value * scale, whole.weight)

    def forgetful(hidden: Tensor, head: Tensor, targets: Tensor, *, scale: float = 1.0, **options: Any) -> Total:
        return reference(hidden, head, targets, **options)

    def named(**given: Any) -> Total:
        return scaled(given.pop("hidden"), given.pop("head"), given.pop("targets"), **given)

    spec = row(named, named, variants=({}, {"scale": 3.0}), implementations={"forgetful": forgetful})
    check_loss(spec, laws=["formula"])
    check_loss(spec, "reference", laws=["formula"])
    with pytest.raises(
        LawError, match=r"planted \(forgetful implementation, torch.float64 with {'scale': 3.0}\)"
    ) as caught:
        check_loss(spec, "forgetful", laws=["formula"])
    assert (caught.value.loss, caught.value.implementation) == ("planted", "forgetful")
    assert caught.value.variant == {"scale": 3.0}


def test_a_loss_that_is_not_additive_may_refuse_zero_items_in_our_words() -> None:
    def refusing(hidden: Tensor, head: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Total:
        if not len(hidden):
            raise InputError("hidden must have at least one row; got 0")
        return streaming()(hidden, head, targets, weights=weights)

    check_loss(row(refusing, additive=False), laws=["empty", "split"])
    with pytest.raises(LawError, match="InputError: hidden must have"):
        check_loss(row(refusing), laws=["empty"])
