"""Divergences: torch's values and gradients, numbers made by hand, and what must stay finite."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses.divergence import js, kl, total_variation
from lossmith.total import Total

INF = math.inf
ALL: list[Callable[..., Total]] = [
    kl,
    js,
    lambda p, q, **options: js(p, q, beta=0.1, **options),
    lambda p, q, **options: js(p, q, beta=0.0, **options),
    lambda p, q, **options: js(p, q, beta=1.0, **options),
    total_variation,
]
BOUNDED = [ALL[1], ALL[2], ALL[5]]
P, Q = (torch.tensor(x, dtype=torch.float64) for x in ([0.5, 0.3, 0.2], [0.1, 0.2, 0.7]))


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def agree(ours: Tensor, theirs: Tensor, *leaves: Tensor) -> None:
    """Value and gradients are the same to 1e-12."""
    close(ours.detach(), theirs.detach())
    gradients = (torch.autograd.grad(x, leaves, retain_graph=True) for x in (ours, theirs))
    for a, b in zip(*gradients, strict=True):
        close(a, b)


def both_slopes(loss: Callable[..., Total], p: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    p, q = (x.clone().requires_grad_() for x in (p, q))
    value = loss(p, q).value
    return value.detach(), *torch.autograd.grad(value, (p, q))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_kl_is_torchs(temperature: float) -> None:
    inputs, targets = normal(3, 4, 5), normal(3, 4, 5, seed=1)
    logs = [torch.log_softmax(x / temperature, -1) for x in (inputs, targets)]
    total = kl(inputs, targets, temperature=temperature)
    agree(total.value, F.kl_div(*logs, reduction="sum", log_target=True), inputs, targets)
    agree(total.mean(), F.kl_div(*(x.flatten(0, 1) for x in logs), reduction="batchmean", log_target=True), inputs)
    scaled = kl(inputs, targets, temperature=temperature, rescale=True)
    agree(scaled.value, temperature**2 * total.value, inputs, targets)


def test_log_probs_are_taken_as_they_are() -> None:
    log_p, log_q = (torch.log_softmax(normal(4, 5, seed=s), -1).detach().requires_grad_() for s in (0, 1))
    ours = kl(log_p, log_q, log_probs=True).value
    agree(ours, F.kl_div(log_p, log_q, reduction="sum", log_target=True), log_p, log_q)
    for loss in ALL:
        close(loss(log_p, log_q, log_probs=True).value, loss(log_p, log_q).value)  # log-probabilities are logits too


def test_by_hand() -> None:
    """The formulas on p = (0.5, 0.3, 0.2) and q = (0.1, 0.2, 0.7), in 40 digits."""
    for loss, expected in (
        (kl, 0.63489726508171468),  # Σ q·log(q/p)
        (lambda p, q, **options: kl(q, p, **options), 0.6758058949504259),
        (js, 0.15135811157179526),
        (ALL[2], 0.055890828777530107),  # 0.1·KL(q ‖ 0.1q + 0.9p) + 0.9·KL(p ‖ 0.1q + 0.9p)
        (ALL[3], 0.63489726508171468),
        (ALL[4], 0.6758058949504259),
        (total_variation, 0.5),
    ):
        for options in ({}, {"log_probs": True}):
            close(loss(P.log(), Q.log(), **options).value, torch.tensor(expected, dtype=torch.float64), 1e-14)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(1, 6), st.floats(0.2, 5), st.floats(0.01, 0.99))
def test_what_mathematics_says_of_them(seed: int, classes: int, temperature: float, beta: float) -> None:
    p, q = normal(3, classes, seed=seed).detach(), normal(3, classes, seed=seed + 1).detach()
    for loss in ALL:
        each = torch.stack([loss(*row, temperature=temperature).value for row in zip(p, q, strict=True)])
        assert (each > -1e-14).all()
        close(loss(p, p + 3.0, temperature=temperature).value, torch.zeros((), dtype=torch.float64))
        close(each.sum(), loss(p, q, temperature=temperature).value)
    close(js(p, q, beta=beta).value, js(q, p, beta=1 - beta).value)
    close(total_variation(p, q).value, total_variation(q, p).value)
    distance, divergence = total_variation(p[0], q[0]).value, kl(p[0], q[0]).value
    assert distance <= min(1, math.sqrt(divergence / 2) + 1e-12), "Pinsker"
    assert js(p[0], q[0]).value <= math.log(2) * distance + 1e-12


def test_beta_goes_from_one_kl_to_the_other() -> None:
    for beta, limit in ((1e-6, kl(P.log(), Q.log()).value), (1 - 1e-6, kl(Q.log(), P.log()).value)):
        close(js(P.log(), Q.log(), beta=beta).value / 1e-6, limit, 1e-4)


@pytest.mark.parametrize("loss", ALL)
def test_a_class_that_neither_side_allows_is_not_there(loss: Callable[..., Total]) -> None:
    p, q = torch.tensor([1.0, -INF, 0.5, 2.0]), torch.tensor([0.0, -INF, 1.5, -1.0])
    rest = [0, 2, 3]
    value, *slopes = both_slopes(loss, p, q)
    want, *expected = both_slopes(loss, p[rest], q[rest])
    torch.testing.assert_close(value, want)
    for a, b in zip(slopes, expected, strict=True):
        torch.testing.assert_close(a[rest], b)
        assert a[1] == 0


@pytest.mark.parametrize("loss", BOUNDED)
@pytest.mark.parametrize("log_probs", [False, True])
def test_what_one_side_excludes_is_finite_where_the_formula_is(loss: Callable[..., Total], log_probs: bool) -> None:
    p, q = torch.tensor([0.0, -INF]), torch.tensor([-INF, 0.0])
    value, *slopes = both_slopes(lambda *x: loss(*x, log_probs=log_probs), p, q)
    beta = {id(BOUNDED[0]): 0.5, id(BOUNDED[1]): 0.1}.get(id(loss))
    nothing_shared = 1.0 if beta is None else -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
    assert math.isclose(value, nothing_shared, rel_tol=1e-6)
    assert all(x.isfinite().all() for x in slopes)


def test_kl_is_infinite_only_where_the_target_asks_for_what_the_input_excludes() -> None:
    masked, whole = torch.tensor([0.0, -INF, 1.0]), torch.tensor([0.5, 1.0, 2.0])
    assert kl(masked, whole).value == INF
    value, *slopes = both_slopes(kl, whole, masked)
    assert value.isfinite()
    assert all(x.isfinite().all() for x in slopes)
    faint = torch.tensor([0.0, -1e4, 1.0])  # e⁻¹⁰⁰⁰⁰ is 0 in every dtype: asked for in name only
    assert kl(masked, faint).value == 0


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_saturated_logits_give_finite_values_and_gradients(loss: Callable[..., Total], dtype: torch.dtype) -> None:
    p = torch.tensor([[1e4, -1e4, 0.0], [0.0, 1e4, 1e4], [88.0, 0.0, -88.0]], dtype=dtype)
    value, *slopes = both_slopes(loss, p, p.flip(-1))
    assert value.isfinite()
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert all(x.isfinite().all() for x in slopes)


@pytest.mark.parametrize("loss", ALL)
def test_rows_that_weigh_nothing_may_hold_anything(loss: Callable[..., Total]) -> None:
    p, q, weights = normal(4, 3).detach(), normal(4, 3, seed=1).detach(), torch.tensor([1.0, 0.0, 2.0, 0.0])
    want, *expected = both_slopes(lambda *x: loss(*x, weights=weights), p, q)
    p[1], q[3] = math.nan, -INF
    value, *slopes = both_slopes(lambda *x: loss(*x, weights=weights), p, q)
    assert torch.equal(value, want)
    assert all(torch.equal(a, b) for a, b in zip(slopes, expected, strict=True))
    assert loss(p, q, weights=weights).weight == 3


def test_the_wider_side_decides_the_dtype() -> None:
    p, q = torch.zeros(2, 3, dtype=torch.bfloat16), torch.zeros(2, 3, dtype=torch.float64)
    assert kl(p, q).value.dtype == kl(q, p).value.dtype == torch.float64
    assert kl(p, p).value.dtype == torch.float32


Z = torch.zeros(2, 3)


@pytest.mark.parametrize("loss", [kl, js, total_variation])
@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((Z, Z[:1]), {}, r"targets must have the shape \(2, 3\) of inputs; got \(1, 3\)"),
        ((Z, Z.long()), {}, "targets must be floating"),
        ((Z.long(), Z), {}, "inputs must be floating"),
        ((Z[0, 0], Z[0, 0]), {}, "at least one class"),
        ((Z, Z), {"weights": torch.ones(3)}, r"weights must have the shape \(2,\)"),
        ((Z, Z), {"temperature": 0.0}, "temperature must be greater than 0; got 0.0"),
        ((Z, Z), {"temperature": 2.0, "log_probs": True}, "temperature must be 1 with log_probs=True"),
    ],
)
def test_wrong_calls_are_named(loss: Callable[..., Total], arguments: tuple[Tensor, ...], options: dict[str, object],
                               words: str) -> None:  # fmt: skip
    with pytest.raises(InputError, match=words):
        loss(*arguments, **options)


def test_a_wrong_beta_is_named() -> None:
    with pytest.raises(InputError, match=r"beta must be in \[0, 1\]; got 1.5"):
        js(Z, Z, beta=1.5)
