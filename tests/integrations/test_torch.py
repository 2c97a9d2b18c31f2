"""The drop-ins against torch: every option together, values, gradients, errors; and the differences that are meant."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from lossmith.integrations.torch import (
    CrossEntropyLoss,
    LinearCrossEntropyLoss,
    cross_entropy,
    linear_cross_entropy,
)

SHAPES: list[tuple[int, ...]] = [(5,), (1, 5), (7, 5), (3, 5, 4), (2, 5, 3, 2), (0, 5), (4, 1)]
TORCHS = getattr(F, "linear_cross_entropy", None)


def plain_linear(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    linear_bias: Tensor | None = None,
    ignore_index: int | None = None,
    **rest: Any,
) -> Tensor:
    """What torch's linear_cross_entropy is defined to be; older versions of torch do not have it."""
    bias = None if linear_bias is None else linear_bias.flatten()
    logits = F.linear(input, linear_weight.flatten(0, -2), bias)
    logits = logits.reshape(*input.shape[:-1], *linear_weight.shape[:-1])
    return F.cross_entropy(logits, target, ignore_index=-100 if ignore_index is None else ignore_index, **rest)


@st.composite
def options(draw: st.DrawFn, classes: int, soft: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"reduction": draw(st.sampled_from(["mean", "sum", "none"]))}
    if draw(st.booleans()):
        found["label_smoothing"] = draw(st.sampled_from([0.0, 0.1, 1.0]))
    if draw(st.booleans()):
        found["weight"] = torch.rand(classes, dtype=torch.float64) + 0.1
        if draw(st.booleans()) and classes > 1:
            found["weight"][0] = 0
    if not soft and draw(st.booleans()):
        found["ignore_index"] = draw(st.sampled_from([-100, -1, 0, classes - 1, 10**6]))
    return found


def draw_target(draw: st.DrawFn, shape: tuple[int, ...], soft: bool, ignored: int) -> Tensor:
    if soft:
        return torch.rand(shape, dtype=torch.float64)
    rows = shape[:1] + shape[2:] if len(shape) > 1 else ()
    ids = torch.randint(shape[min(1, len(shape) - 1)], rows)
    share = draw(st.sampled_from([0.0, 0.4, 1.0]))
    return torch.where(torch.rand(rows) < share, ignored, ids)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Tensor, Tensor, dict[str, Any]]:
    torch.manual_seed(draw(st.integers(0, 10**6)))
    shape, soft = draw(st.sampled_from(SHAPES)), draw(st.booleans())
    found = draw(options(shape[min(1, len(shape) - 1)], soft))
    logits = torch.randn(shape, dtype=torch.float64)
    return logits, draw_target(draw, shape, soft, found.get("ignore_index", -100)), found


@st.composite
def linear_calls(draw: st.DrawFn) -> tuple[list[Tensor], Tensor, dict[str, Any]]:
    torch.manual_seed(draw(st.integers(0, 10**6)))
    shape, soft = draw(st.sampled_from(SHAPES)), draw(st.booleans())
    rows, classes = (shape[:1], shape[1:]) if len(shape) > 1 else ((), shape)
    found = draw(options(classes[0], soft))
    leaves = [torch.randn(*rows, 3, dtype=torch.float64), torch.randn(*classes, 3, dtype=torch.float64)]
    if draw(st.booleans()):
        leaves.append(torch.randn(classes, dtype=torch.float64))
    return leaves, draw_target(draw, shape, soft, found.get("ignore_index", -100)), found


def value_and_gradients(fn: Callable[..., Tensor], leaves: list[Tensor], *rest: Any, **found: Any) -> list[Tensor]:
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    named = {"linear_bias": leaves[2]} if len(leaves) == 3 else {}
    loss = fn(*leaves[:2], *rest, **named, **found)
    upstream = torch.linspace(-1, 2, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
    return [loss.detach(), *torch.autograd.grad((loss * upstream).sum(), leaves)]


def assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Values as torch's, NaN included; gradients too, but zero where torch has NaN because nothing counts."""
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-9, atol=1e-12, equal_nan=True)
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b.nan_to_num(), rtol=1e-9, atol=1e-12)


@given(call=calls())
@settings(max_examples=200, deadline=None)
def test_cross_entropy_is_torchs(call: tuple[Tensor, Tensor, dict[str, Any]]) -> None:
    logits, target, found = call

    def both(fn: Callable[..., Tensor]) -> list[Tensor]:
        return value_and_gradients(lambda x: fn(x, target, **found), [logits])

    assert_same(both(cross_entropy), both(F.cross_entropy))
    module = CrossEntropyLoss(**found)
    torch.testing.assert_close(module(logits, target), cross_entropy(logits, target, **found), equal_nan=True)


@given(call=linear_calls())
@settings(max_examples=200, deadline=None)
def test_linear_cross_entropy_is_torchs(call: tuple[list[Tensor], Tensor, dict[str, Any]]) -> None:
    leaves, target, found = call
    ours = value_and_gradients(linear_cross_entropy, leaves, target, **found)
    assert_same(ours, value_and_gradients(plain_linear, leaves, target, **found))
    if TORCHS is not None:
        assert_same(ours, value_and_gradients(TORCHS, leaves, target, **found))


@given(call=calls())
@settings(max_examples=30, deadline=None)
def test_probabilities_get_their_gradient(call: tuple[Tensor, Tensor, dict[str, Any]]) -> None:
    logits, target, found = call
    if target.is_floating_point():

        def both(fn: Callable[..., Tensor]) -> list[Tensor]:
            return value_and_gradients(lambda x, q: fn(x, q, **found), [logits, target])

        assert_same(both(cross_entropy), both(F.cross_entropy))


WRONG: list[tuple[tuple[int, ...], Tensor, dict[str, Any]]] = [
    ((4, 5), torch.tensor([0, 1, 2, 5]), {}),
    ((4, 5), torch.tensor([0, 1, 2, -1]), {}),
    ((4, 5), torch.tensor([0, 1, 2, -100]), {"ignore_index": 7}),
    ((4, 5), torch.tensor([0, 1, 2]), {}),
    ((4, 5), torch.tensor([0, 1, 2, 3]), {"reduction": "average"}),
    ((4, 5), torch.tensor([0, 1, 2, 3]).int(), {}),
    ((4, 5), torch.tensor([0, 1, 2, 3]), {"label_smoothing": 1.5}),
    ((4, 5), torch.tensor([0, 1, 2, 3]), {"weight": torch.ones(4)}),
    ((4, 5), torch.tensor([0, 1, 2, 3]), {"weight": torch.ones(5).requires_grad_()}),
    ((4, 5), torch.rand(4, 4), {}),
    ((4, 5), torch.rand(4, 5), {"ignore_index": 3}),
    ((4, 5, 2), torch.zeros(4, 3, dtype=torch.long), {}),
    ((), torch.tensor(0), {}),
]


def refusal(fn: Callable[[], Tensor]) -> tuple[type, str]:
    with pytest.raises(Exception) as caught:  # noqa: PT011  whatever torch raises is the expectation
        fn()
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize(("shape", "target", "found"), WRONG)
def test_what_torch_refuses_is_refused_in_its_words(
    shape: tuple[int, ...], target: Tensor, found: dict[str, Any]
) -> None:
    logits = torch.zeros(shape)
    assert refusal(lambda: cross_entropy(logits, target, **found)) == refusal(
        lambda: F.cross_entropy(logits, target, **found)
    )


@pytest.mark.skipif(TORCHS is None, reason="torch older than 2.13 has no linear_cross_entropy")
@pytest.mark.parametrize(
    ("shape", "head", "target", "found"),
    [
        *(
            ((4, 3), (5, 3), target, found)
            for shape, target, found in WRONG
            if shape == (4, 5) and found.get("ignore_index") != 3
        ),
        ((4, 3), (5, 3), torch.rand(4, 5), {"ignore_index": -100}),
        ((2, 4, 3), (5, 3), torch.zeros(2, 4).long(), {}),
        ((4, 3), (3,), torch.zeros(4).long(), {}),
        ((4, 3), (5, 2), torch.zeros(4).long(), {}),
        ((4, 3), (5, 3), torch.zeros(4).long(), {"linear_bias": torch.zeros(4)}),
        ((3,), (5, 2, 3), torch.zeros(2).long(), {}),
    ],
)
def test_what_torchs_linear_refuses_is_refused_in_its_words(
    shape: tuple[int, ...], head: tuple[int, ...], target: Tensor, found: dict[str, Any]
) -> None:
    call = (torch.zeros(shape), torch.zeros(head), target)
    assert TORCHS is not None
    theirs = TORCHS
    assert refusal(lambda: linear_cross_entropy(*call, **found)) == refusal(lambda: theirs(*call, **found))


@pytest.mark.parametrize(("size_average", "reduce"), [(True, None), (False, None), (None, False), (False, True)])
def test_deprecated_arguments_mean_and_warn_as_in_torch(size_average: bool | None, reduce: bool | None) -> None:
    logits, target = torch.randn(4, 5), torch.tensor([0, 1, 2, 3])
    for fn in (cross_entropy, F.cross_entropy):
        with pytest.warns(UserWarning, match="size_average and reduce args will be deprecated"):
            fn(logits, target, None, size_average, -100, reduce)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = F.cross_entropy(logits, target, None, size_average, -100, reduce)
        torch.testing.assert_close(cross_entropy(logits, target, None, size_average, -100, reduce), theirs)
        torch.testing.assert_close(CrossEntropyLoss(None, size_average, -100, reduce)(logits, target), theirs)


def test_signatures_are_torchs() -> None:
    pairs: list[tuple[Any, Any]] = [(cross_entropy, F.cross_entropy), (CrossEntropyLoss, nn.CrossEntropyLoss)]
    if TORCHS is not None:
        pairs += [(linear_cross_entropy, TORCHS), (LinearCrossEntropyLoss, nn.LinearCrossEntropyLoss)]
    for ours, theirs in pairs:
        shown = [
            [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()] for f in (ours, theirs)
        ]
        assert shown[0] == shown[1]


def test_nothing_counted_is_nan_as_in_torch_but_trains_on() -> None:
    """torch gives NaN gradients where the class weights of all targets are zero; its chunked form always."""
    head, hidden = torch.randn(5, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    for target, weight in ((torch.full((4,), -100), None), (torch.tensor([0, 1, 2, 3]), torch.zeros(5))):
        for loss in (
            linear_cross_entropy(hidden, head, target, weight=weight),
            cross_entropy(hidden @ head.T, target, weight),
        ):
            assert loss.isnan()
            assert not any(g.any() for g in torch.autograd.grad(loss, [hidden, head]))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nan_in_an_ignored_row_stays_there(reduction: str) -> None:
    target = torch.tensor([1, -100, 2])
    hidden, head = torch.randn(3, 4), torch.randn(5, 4, requires_grad=True)
    hidden[1] = float("nan")
    hidden.requires_grad_()
    for loss in (
        linear_cross_entropy(hidden, head, target, reduction=reduction),
        cross_entropy(hidden @ head.detach().T, target, reduction=reduction),
    ):
        assert loss.isfinite().all()
        assert torch.autograd.grad(loss.sum(), hidden)[0][target != -100].isfinite().all()
    assert torch.autograd.grad(linear_cross_entropy(hidden, head, target), head)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_half_precision_gives_a_float32_loss_nearer_the_truth(dtype: torch.dtype, reduction: str) -> None:
    torch.manual_seed(0)
    hidden, head, target = torch.randn(64, 16).to(dtype), torch.randn(300, 16).to(dtype), torch.randint(300, (64,))
    truth = plain_linear(hidden.double(), head.double(), target, reduction=reduction)
    ours = linear_cross_entropy(hidden, head, target, reduction=reduction)
    logits = hidden @ head.T
    theirs = F.cross_entropy(logits, target, reduction=reduction)
    again = cross_entropy(logits, target, reduction=reduction)
    assert ours.dtype == again.dtype == torch.float32
    assert (ours - truth).abs().max() <= (theirs - truth).abs().max()
    exact = F.cross_entropy(logits.double(), target, reduction=reduction)
    torch.testing.assert_close(again.double(), exact, rtol=1e-5, atol=1e-5)


def test_state_dicts_are_interchangeable() -> None:
    weight = torch.rand(7)
    ours = LinearCrossEntropyLoss(3, 7, out_features=(2,), bias=True, weight=weight)
    assert sorted(ours.state_dict()) == ["linear.bias", "linear.weight", "weight"]
    assert list(CrossEntropyLoss(weight).state_dict()) == ["weight"]
    nn.CrossEntropyLoss(weight).load_state_dict(CrossEntropyLoss(weight).state_dict())
    if TORCHS is not None:
        theirs = nn.LinearCrossEntropyLoss(3, 7, out_features=(2,), bias=True, weight=weight)
        theirs.load_state_dict(ours.state_dict())
        hidden, target = torch.randn(4, 3), torch.randint(7, (4, 2))
        torch.testing.assert_close(ours(hidden, target), theirs(hidden, target))
    assert "num_classes=7" in repr(ours)
    with pytest.raises(RuntimeError, match=r"expected weight shape to be \(7,\)"):
        LinearCrossEntropyLoss(3, 7, weight=torch.ones(3))
    with pytest.raises(RuntimeError, match="label_smoothing to be in range"):
        LinearCrossEntropyLoss(3, 7, label_smoothing=-1)


def test_only_blocks_of_logits_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes all the logits goes through torch's linear, which is refused here."""
    hidden, head = torch.randn(4096, 4, requires_grad=True), torch.randn(30_000, 4, requires_grad=True)
    target = torch.randint(30_000, (4096,))

    def refuse(*args: Any) -> Tensor:
        raise AssertionError("the logits were made")

    monkeypatch.setattr(torch.nn.functional, "linear", refuse)
    for reduction in ("mean", "sum", "none"):
        linear_cross_entropy(hidden, head, target, reduction=reduction).sum().backward()
    with pytest.raises(AssertionError, match="the logits were made"):
        linear_cross_entropy(hidden, head, target, reduction="none", label_smoothing=0.1)


def test_compiles_whole() -> None:
    hidden, head = torch.randn(8, 4, requires_grad=True), torch.randn(10, 4, requires_grad=True)
    threes, ignored = torch.tensor([1, 2, 3, 3, 5, 6, 7, 8]), torch.tensor([1, 2, 3, -100, 5, 6, 7, 8])
    for fn in (
        lambda: linear_cross_entropy(hidden, head, threes, ignore_index=3),
        lambda: cross_entropy(hidden @ head.T, ignored, reduction="sum"),
    ):
        compiled = torch.compile(fn, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(), fn())
        torch.testing.assert_close(torch.autograd.grad(compiled(), head), torch.autograd.grad(fn(), head))
