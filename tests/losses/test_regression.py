"""Regression: torch's values and gradients, numbers made by hand, and residuals from 1e-30 to 1e30."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses.regression import SPECS, gaussian_nll, huber, log_cosh, mae, mse
from lossmith.total import Total

ALL: list[Callable[..., Total]] = [
    mse,
    mae,
    huber,
    log_cosh,
    lambda *args, **options: gaussian_nll(*args, variance=2.0, **options),
]


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


def at(loss: Callable[..., Total], x: float, dtype: torch.dtype, **options: Any) -> tuple[float, float]:
    """Value and slope of one residual."""
    inputs = torch.tensor(x, dtype=dtype, requires_grad=True)
    value = loss(inputs, torch.zeros((), dtype=dtype), **options).value
    return float(value.detach()), float(torch.autograd.grad(value, inputs)[0])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (mse, F.mse_loss),
        (mae, F.l1_loss),
        (huber, F.huber_loss),
        (lambda *x: huber(*x, delta=0.3), lambda *x, **r: F.huber_loss(*x, delta=0.3, **r)),
    ],
)
def test_values_are_torchs(ours: Callable[..., Total], theirs: Callable[..., Tensor]) -> None:
    x, y = normal(4, 5), normal(4, 5, seed=1)
    agree(ours(x, y).mean(), theirs(x, y), x, y)
    agree(ours(x, y).value, theirs(x, y, reduction="sum"), x, y)


@pytest.mark.parametrize("full", [False, True])
def test_gaussian_nll_is_torchs(full: bool) -> None:
    x, y, log_v = normal(4, 5), normal(4, 5, seed=1), normal(4, 5, seed=2)
    theirs = F.gaussian_nll_loss(x, y, log_v.exp(), full=full)
    agree(gaussian_nll(x, y, log_variance=log_v, full=full).mean(), theirs, x, y, log_v)
    agree(gaussian_nll(x, y, variance=log_v.exp(), full=full).mean(), theirs, x, y, log_v)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 1), (1, 5)])
def test_a_variance_broadcasts_and_gets_its_gradient(shape: tuple[int, ...]) -> None:
    x, y, log_v = normal(4, 5), normal(4, 5, seed=1), normal(*shape, seed=2)
    whole = gaussian_nll(x, y, log_variance=log_v.expand(4, 5)).value
    agree(gaussian_nll(x, y, log_variance=log_v).value, whole, x, y, log_v)
    agree(gaussian_nll(x, y, variance=log_v.exp()).value, whole, x, y, log_v)


def test_gaussian_nll_by_hand() -> None:
    """−log of the density of N(0, 0.3) at 1.5, in 40 digits; torch's distribution agrees."""
    x, y = torch.zeros((), dtype=torch.float64), torch.tensor(1.5, dtype=torch.float64)
    got = gaussian_nll(x, y, variance=0.3, full=True).value
    close(got, torch.tensor(4.0669521310417047, dtype=torch.float64), 1e-15)
    close(got, -torch.distributions.Normal(x, math.sqrt(0.3)).log_prob(y))


@pytest.mark.parametrize(
    ("x", "value", "slope"),
    [
        (1e-10, 5.0e-21, 1.0e-10),
        (1e-4, 4.9999999916666667e-9, 9.9999999666666668e-5),
        (0.5, 0.12011450695827752, 0.46211715726000976),
        (0.999, 0.43301944642088479, 0.76117386166056995),
        (1.0, 0.43378083048302719, 0.76159415595576489),
        (3.0, 2.3093285045777851, 0.99505475368673045),
        (20.0, 19.306852819440055, 1.0),
        (1e30, 1e30, 1.0),
        (0.0, 0.0, 0.0),
    ],
)
def test_log_cosh_keeps_its_digits(x: float, value: float, slope: float) -> None:
    """log cosh x and tanh x in 40 digits."""
    for dtype, tolerance in ((torch.float64, 1e-15), (torch.float32, 3e-7)):
        for sign in (1, -1):
            got = at(log_cosh, sign * x, dtype)
            assert math.isclose(got[0], value, rel_tol=2 * tolerance)
            assert math.isclose(got[1], sign * slope, rel_tol=2 * tolerance)


@pytest.mark.parametrize("x", [1e-30, 1e-8, 1.0, 1e8, 1e18, 1e30, 3e38])
def test_large_and_small_residuals(x: float) -> None:
    for sign in (1, -1):
        value, slope = at(huber, sign * x, torch.float32, delta=0.5)
        assert math.isclose(value, x**2 / 2 if x < 0.5 else 0.5 * (x - 0.25), rel_tol=1e-6, abs_tol=1e-44)
        assert math.isclose(slope, sign * min(x, 0.5), rel_tol=1e-6)
        assert at(mae, sign * x, torch.float32) == (pytest.approx(x), sign)
    value, slope = at(gaussian_nll, x, torch.float32, variance=x)
    assert math.isclose(value, (math.log(x) + x) / 2, rel_tol=1e-5, abs_tol=1e-6)
    assert math.isclose(slope, 1, rel_tol=1e-5)


def test_half_precision_is_widened_before_the_difference() -> None:
    x, y = torch.full((3,), 300.0, dtype=torch.float16), torch.full((3,), -300.0, dtype=torch.float16)
    assert mse(x, y).value == 3 * 600.0**2  # beyond float16
    assert mse(x, y).value.dtype == torch.float32
    assert mse(x, y.double()).value.dtype == torch.float64


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_weights_of_leading_dimensions(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 3), max_size=3).map(tuple))
    lead = shape[: data.draw(st.integers(0, len(shape)))]
    x, y = normal(*shape), normal(*shape, seed=1)
    choices = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    weights = choices[torch.randint(3, lead, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))]
    w = weights.reshape(lead + (1,) * (len(shape) - len(lead))).expand(shape)
    total = mse(x, y, weights=weights)
    agree(total.value, (w * (x - y) ** 2).sum(), x, y)
    close(total.weight, w.sum())


@pytest.mark.parametrize("loss", ALL)
def test_elements_that_weigh_nothing_may_hold_anything(loss: Callable[..., Total]) -> None:
    x, y, mask = normal(3, 2), normal(3, 2, seed=1), torch.tensor([[True, False], [False, False], [True, True]])
    want = loss(x[mask], y[mask])
    bad_x, bad_y = (z.detach().masked_fill(~mask, bad).requires_grad_() for z, bad in ((x, math.nan), (y, math.inf)))
    got = loss(bad_x, bad_y, weights=mask)
    close(got.value, want.value)
    assert got.weight == 3
    for bad, good in ((bad_x, x), (bad_y, y)):
        grad = torch.autograd.grad(got.value, bad, retain_graph=True)[0]
        assert not grad[~mask].any()
        close(grad, torch.autograd.grad(want.value, good, retain_graph=True)[0])


def test_a_variance_that_weighs_nothing_may_hold_anything() -> None:
    x, y, w = normal(4), normal(4, seed=1), torch.tensor([1.0, 0.0, 1.0, 0.0])
    v = torch.tensor([1.0, -3.0, 2.0, math.nan], dtype=torch.float64, requires_grad=True)
    grad = torch.autograd.grad(gaussian_nll(x, y, variance=v, weights=w).value, v)[0]
    assert grad.isfinite().all()
    assert not grad[w == 0].any()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_curves_have_their_minimum_at_no_residual(spec: Any) -> None:
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)
    curve = spec.curve(x)
    assert curve[6] == 0
    assert (curve.diff()[6:] > 0).all()
    close(curve, curve.flip(0))


Z = torch.zeros(2, 3)


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((Z, Z[:, :1]), {}, r"targets must have the shape \(2, 3\) of inputs; got \(2, 1\)"),
        ((Z, Z.long()), {}, "is −100 a number there"),
        ((Z.long(), Z), {}, "inputs must be floating"),
        ((Z, Z), {"weights": torch.ones(3)}, r"\(2, 3\) of inputs, or of its leading dimensions; got \(3,\)"),
    ],
)
def test_wrong_calls_are_named(loss: Callable[..., Total], arguments: tuple[Tensor, ...], options: dict[str, Any],
                               words: str) -> None:  # fmt: skip
    with pytest.raises(InputError, match=words):
        loss(*arguments, **options)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: huber(Z, Z, delta=0.0), "delta must be greater than 0; got 0.0"),
        (lambda: gaussian_nll(Z, Z), "one of variance and log_variance must be given; got neither"),
        (lambda: gaussian_nll(Z, Z, variance=1.0, log_variance=Z), "got both"),
        (lambda: gaussian_nll(Z, Z, variance=Z), "variance must be greater than 0; got 0.0. Or give log_variance"),
        (lambda: gaussian_nll(Z, Z, variance=-1.0), "variance must be greater than 0; got -1.0"),
        (lambda: gaussian_nll(Z, Z, log_variance=torch.zeros(2)), r"log_variance must broadcast .*; got \(2,\)"),
    ],
)
def test_wrong_options_are_named(call: Callable[[], Total], words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()
