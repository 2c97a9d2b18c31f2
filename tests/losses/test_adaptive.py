"""The losses that own tensors: closed forms, bounds, and learning that arrives where the formula says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses import (
    AdaptiveRobust,
    GradNorm,
    ScheduledFocal,
    Temperature,
    UncertaintyWeighting,
    focal,
    general_robust,
)
from lossmith.losses.adaptive._robust import log_partition
from lossmith.total import Total


@pytest.mark.parametrize(
    ("alpha", "closed"),
    [
        (0.0, math.log(math.pi * math.sqrt(2))),
        (1.0, math.log(2 * math.e * 0.6019072301972346)),  # K₁(1)
        (2.0, math.log(math.sqrt(2 * math.pi))),
    ],
)
def test_the_partition_function_has_its_closed_forms(alpha: float, closed: float) -> None:
    assert float(log_partition(torch.tensor(alpha))) == pytest.approx(closed, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 1.5, 1.9])
def test_the_partition_function_is_the_integral_and_its_slope_is_that_of_the_integral(alpha: float) -> None:
    def integral(a: float) -> float:
        x = np.sinh(np.linspace(-60, 60, 200_001))  # from −e⁶⁰/2 to e⁶⁰/2: tails and peak
        rho = abs(a - 2) / a * ((x * x / abs(a - 2) + 1) ** (a / 2) - 1)
        return float(np.log(np.trapezoid(np.exp(-rho) * np.sqrt(1 + x * x), dx=120 / 200_000)))

    at = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
    value = log_partition(at)
    assert float(value.detach()) == pytest.approx(integral(alpha), abs=1e-9)
    slope = float(torch.autograd.grad(value, at)[0])
    assert slope == pytest.approx((integral(alpha + 1e-4) - integral(alpha - 1e-4)) / 2e-4, rel=1e-5)


def test_gaussian_noise_is_found_to_be_gaussian() -> None:
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 3
    loss = AdaptiveRobust(alpha=1.0)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        loss(x, torch.zeros(4000)).mean().backward()
        optimizer.step()
    assert float(loss.alpha.detach()) > 1.7, "Gaussian noise asks for an alpha near 2"
    best = 0.5 * math.log(2 * math.pi * math.e * float(x.square().mean()))  # nats of the Gaussian that fits
    assert best < float(loss(x, torch.zeros(4000)).mean().detach()) < best + 0.02


@pytest.mark.parametrize("special", [2.0, 0.0])
def test_general_robust_is_continuous_where_its_formula_is_not_defined(special: float) -> None:
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)

    def at(alpha: float) -> tuple[float, float]:
        a = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
        value = general_robust(x, torch.zeros_like(x), alpha=a).value
        return float(value.detach()), float(torch.autograd.grad(value, a)[0])

    (value, slope), (near, near_slope) = at(special), at(special - 1e-9)
    assert value == pytest.approx(near, abs=1e-5)
    assert math.isfinite(slope)
    assert math.isfinite(near_slope)


def test_uncertainty_weighting_is_the_formula_and_finds_its_optimum() -> None:
    weigh = UncertaintyWeighting({"depth": "regression"})
    optimizer = torch.optim.Adam(weigh.parameters(), lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        weigh({"depth": torch.tensor(0.2)}).backward()
        optimizer.step()
    assert float(weigh.log_variances.detach().exp()) == pytest.approx(0.2, rel=1e-2)
    assert float(weigh({"depth": torch.tensor(0.2)}).detach()) == pytest.approx(0.5 * (1 + math.log(0.2)), abs=1e-4)


def test_a_term_that_counted_nothing_adds_nothing() -> None:
    weigh = UncertaintyWeighting({"a": "classification", "b": "classification"})
    nothing = Total(torch.tensor(0.0), torch.tensor(0.0))
    value = weigh({"a": torch.tensor(2.0), "b": nothing})
    value.backward()
    assert value == 2.0
    assert weigh.log_variances.grad is not None
    assert weigh.log_variances.grad[1] == 0


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_grad_norm_descends_the_imbalance_of_the_gradients(alpha: float) -> None:
    shared = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    weigh = GradNorm(["a", "b"], alpha=alpha).double()

    def terms() -> dict[str, Tensor]:
        return {"a": (shared * torch.tensor([3.0, 0.0])).square().sum(), "b": shared.square().sum()}

    loss = weigh(terms(), shared=[shared])
    made = terms()
    assert float(loss.detach()) == pytest.approx(float((made["a"] + made["b"]).detach()))
    loss.backward()
    norms = [float(torch.autograd.grad(term, shared)[0].norm()) for term in terms().values()]
    mean = sum(norms) / 2  # first step: both have the same pace
    expected = [n * (1 if n > mean else -1) for n in norms]
    assert weigh.weights.grad is not None
    assert weigh.weights.grad.tolist() == pytest.approx(expected)


def test_grad_norm_keeps_its_weights_summing_to_their_number() -> None:
    weigh = GradNorm(["a", "b", "c"])
    with torch.no_grad():
        weigh.weights.copy_(torch.tensor([5.0, 1.0, -2.0]))
    assert sum(weigh.coefficients.values()) == pytest.approx(3.0)
    assert min(weigh.coefficients.values()) > 0


def test_scheduled_focal_is_focal_at_its_gamma_and_is_saved() -> None:
    loss = ScheduledFocal(0.0, 2.0, 4, schedule="cosine")
    logits, targets = torch.tensor([[2.0, 1.0, 0.5]]), torch.tensor([0])
    for step in range(6):
        gamma = 2 * (1 - math.cos(math.pi * min(step / 4, 1))) / 2
        assert float(loss(logits, targets).value) == pytest.approx(float(focal(logits, targets, gamma=gamma).value))
        loss.step()
    again = ScheduledFocal(0.0, 2.0, 4, schedule="cosine")
    again.load_state_dict(loss.state_dict())
    assert again.gamma() == loss.gamma() == 2.0


@pytest.mark.parametrize(("log_scale", "uphill"), [(9.0, 1.0), (-9.0, -1.0)])
def test_a_temperature_beyond_its_bound_is_clamped_and_only_finds_back(log_scale: float, uphill: float) -> None:
    temperature = Temperature()
    with torch.no_grad():
        temperature.log_scale.fill_(log_scale)
    assert float(temperature().detach()) == pytest.approx(0.01 if log_scale > 0 else 1.0)
    # A loss that grows with the scale asks for a smaller one; one that falls with it, for a larger one.
    (inwards,) = torch.autograd.grad(uphill * -temperature().log(), temperature.log_scale)
    (outwards,) = torch.autograd.grad(-uphill * -temperature().log(), temperature.log_scale)
    assert inwards == uphill
    assert outwards == 0


def test_wrong_options_are_named() -> None:
    with pytest.raises(InputError, match="alpha must be in"):
        AdaptiveRobust(alpha=2.0)
    with pytest.raises(InputError, match="Did you mean 'regression'"):
        UncertaintyWeighting({"a": "regresion"})
    with pytest.raises(InputError, match="terms must be named a"):
        UncertaintyWeighting({"a": "regression"})({"b": torch.tensor(1.0)})
    with pytest.raises(InputError, match="none or frozen"):
        GradNorm(["a"])({"a": torch.tensor(1.0, requires_grad=True)})
    with pytest.raises(InputError, match="Did you mean 'cosine'"):
        ScheduledFocal(0.0, 1.0, 5, schedule="cosin")
    with pytest.raises(InputError, match="lowest ≤ initial ≤ highest"):
        Temperature(2.0)
