"""Classification: torch's values and gradients, published numbers, and what the laws do not reach: the extremes."""

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
from lossmith.losses.classification import (
    SPECS,
    binary_cross_entropy,
    binary_focal,
    cross_entropy,
    focal,
    generalized_cross_entropy,
    logit_adjusted,
    poly,
)
from lossmith.losses.linear_cross_entropy._reference import reference as linear_reference
from lossmith.total import Total

INF = math.inf
ON_IDS: list[Callable[..., Total]] = [
    cross_entropy,
    lambda *args, **options: logit_adjusted(*args, priors=torch.tensor([3, 2, 1]), **options),
    lambda *args, **options: focal(*args, gamma=0.5, **options),
    lambda *args, **options: focal(*args, gamma=0.0, **options),
    lambda *args, **options: poly(*args, **options),
    lambda *args, **options: generalized_cross_entropy(*args, **options),
    lambda *args, **options: generalized_cross_entropy(*args, q=0.0, **options),
]
ON_ELEMENTS: list[Callable[..., Total]] = [
    binary_cross_entropy,
    lambda *args, **options: binary_focal(*args, gamma=0.5, **options),
    lambda *args, **options: binary_focal(*args, gamma=0.0, alpha=0.25, **options),
]


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def ids(*shape: int, classes: int = 5) -> Tensor:
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(1))


def exact(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def agree(ours: Tensor, theirs: Tensor, *leaves: Tensor) -> None:
    """Value and gradients are the same to 1e-12."""
    close(ours.detach(), theirs.detach())
    gradients = (torch.autograd.grad(x, leaves, retain_graph=True) for x in (ours, theirs))
    for a, b in zip(*gradients, strict=True):
        close(a, b)


def slope(fn: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    value = fn(x)
    return value.detach(), torch.autograd.grad(value, x)[0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("class_weights", [None, exact(0.5, 2, 0, 1, 3)])
@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_is_torchs(soft: bool, class_weights: Tensor | None, smoothing: float) -> None:
    logits = normal(3, 4, 5)
    targets = torch.softmax(normal(3, 4, 5, seed=2) * 2, -1).detach().requires_grad_() if soft else ids(3, 4)
    if not soft:
        targets[1] = -100
    leaves = (logits, targets) if soft else (logits,)
    theirs = (logits.movedim(-1, 1), targets.movedim(-1, 1) if soft else targets)
    total = cross_entropy(logits, targets, class_weights=class_weights, label_smoothing=smoothing)
    for got, reduction in ((total.value, "sum"), (total.mean(), "mean")):
        want = F.cross_entropy(*theirs, weight=class_weights, label_smoothing=smoothing, reduction=reduction)
        agree(got, want, *leaves)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_weights_are_torchs_losses_weighed(data: st.DataObject) -> None:
    lead = data.draw(st.lists(st.integers(0, 3), max_size=3).map(tuple))
    classes, transposed = data.draw(st.integers(1, 4)), data.draw(st.booleans())
    logits = normal(*lead, classes, seed=data.draw(st.integers(0, 9)))
    if transposed and lead:
        logits = logits.detach().transpose(0, -1).contiguous().transpose(0, -1).requires_grad_()
    targets = ids(*lead, classes=classes)
    weights = data.draw(st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=targets.numel(), max_size=targets.numel()))
    w = torch.tensor(weights, dtype=torch.float64).reshape(lead)
    each = F.cross_entropy(logits.reshape(-1, classes), targets.reshape(-1), reduction="none")
    total = cross_entropy(logits, targets, weights=w)
    agree(total.value, (each * w.reshape(-1)).sum(), logits)
    close(total.weight, w.sum())


@pytest.mark.parametrize("options", [{"z_loss": 0.1}, {"softcap": 2.0}, {"z_loss": 0.1, "softcap": 2.0}], ids=str)
def test_options_mean_what_they_mean_in_linear_cross_entropy(options: dict[str, Any]) -> None:
    logits, targets, weights = normal(6, 5), ids(6), torch.linspace(0, 1, 6, dtype=torch.float64)
    options |= {"class_weights": exact(0.5, 2, 0, 1, 3), "label_smoothing": 0.1}
    identity = torch.eye(5, dtype=torch.float64)
    ours = cross_entropy(logits, targets, weights=weights, **options)
    theirs = linear_reference(logits, identity, targets, weights=weights, **options)
    agree(ours.value, theirs.value, logits)
    close(ours.weight, theirs.weight)


def test_z_loss_of_probabilities_knows_no_class_weights() -> None:
    logits, q = normal(4, 5), torch.softmax(normal(4, 5, seed=3), -1).detach()
    options = {"class_weights": torch.linspace(0.5, 2, 5, dtype=torch.float64)}
    both = cross_entropy(logits, q, z_loss=0.5, **options).value - cross_entropy(logits, q, **options).value
    agree(both, 0.5 * torch.logsumexp(logits, -1).square().sum(), logits)


def test_one_hot_probabilities_are_class_ids() -> None:
    logits, targets = normal(4, 5), ids(4)
    one_hot = F.one_hot(targets, 5).double()
    agree(cross_entropy(logits, one_hot).value, cross_entropy(logits, targets).value, logits)


def test_published_values_of_cross_entropy() -> None:
    """optax, losses/_classification_test.py: SafeSoftmaxCrossEntropyTest (−log softmax of what is asked for)."""
    logits = torch.tensor([[10.0, 1, -2], [1, 4, 0.2], [-INF, 0, 0], [-INF, 0, 0], [-INF, 0, -INF]])
    q = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0.5, 0.5], [0.4, 0.3, 0.3], [0, 1, 0]])
    got = torch.stack([cross_entropy(*row).value for row in zip(logits, q, strict=True)])
    torch.testing.assert_close(got, torch.tensor([9.00013, 3.0696733, 0.693147, INF, 0.0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("epsilon", "expected"), [(2, 0.4823), (1, 0.3261), (0, 0.1698), (-0.5, 0.0917), (1.15, 0.3495), (5.45, 1.0211)]
)
def test_published_values_of_poly(epsilon: float, expected: float) -> None:
    """optax, losses/_classification_test.py: PolyLossTest (−log p + ε·(1 − p)), from the paper's own code."""
    assert abs(poly(torch.tensor([4.0, 2, 1]), torch.tensor(0), epsilon=epsilon).value - expected) < 1e-4


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [(0, 0.46436878410794484), (0.5, 0.28302440478582905), (2, 0.064077637238740393), (5, 0.0032845183830425436)],
)
def test_focal_by_hand(gamma: float, expected: float) -> None:
    """(1 − p)^γ·−log p with p = e²/(e² + e + √e), in 40 digits."""
    logits = torch.tensor([[2.0, 1, 0.5]], dtype=torch.float64)
    close(focal(logits, torch.tensor([0]), gamma=gamma).value, exact(expected)[0], 1e-15)
    alpha = torch.tensor([0.25, 1, 1])
    weighed = focal(logits, torch.tensor([0]), gamma=gamma, alpha=alpha)
    close(weighed.value, exact(expected / 4)[0], 1e-15)
    assert weighed.weight == 1


@pytest.mark.parametrize(
    ("gamma", "alpha", "expected"),
    [
        (2, None, [1.6500781794, 0.7018683034, 1.6500781794, 0.1003932755, 1.6500781794, 0.8642590254]),
        (2, 0.25, [1.2375586346, 0.5264012276, 0.4125195449, 0.0250983189, 1.2375586346, 0.6481942690]),
        (0.5, None, [1.9961387407, 1.1228645306, 1.9961387407, 0.3616323524, 1.9961387407, 1.2827945545]),
    ],
)
def test_binary_focal_by_hand(gamma: float, alpha: float | None, expected: list[float]) -> None:
    """torchvision's and optax's formula in 40 digits, on the logits of optax, losses/segmentation_test.py."""
    logits, targets = exact(2, 1, -2, 0.3, 2, 1.2), torch.tensor([0.0, 0, 1, 1, 0, 0])
    for t in (targets, targets.long(), targets.bool()):
        got = [binary_focal(x, y, gamma=gamma, alpha=alpha).value for x, y in zip(logits, t, strict=True)]
        close(torch.stack(got), exact(*expected), 1e-9)


def test_binary_focal_of_probabilities_by_hand() -> None:
    """(0.25·t + 0.75·(1 − t))·(1 − p·t − (1 − p)·(1 − t))²·BCE in 40 digits."""
    logits, targets = exact(2, -1, 0.5), exact(0.9, 0.3, 0.5)
    got = [binary_focal(*row, alpha=0.25).value for row in zip(logits, targets, strict=True)]
    close(torch.stack(got), exact(0.0037433037855954, 0.0611245255723575, 0.0905096230225133), 1e-14)


def test_logit_adjusted_by_hand() -> None:
    """−log(π₂·p₂/Σ πⱼ·pⱼ), p = softmax(1, 0, −1), π = (0.6, 0.3, 0.1), in 40 digits; counts are priors."""
    logits, target = exact(1, 0, -1), torch.tensor(2)
    for priors in (exact(0.6, 0.3, 0.1), torch.tensor([6, 3, 1]), exact(6e8, 3e8, 1e8)):
        close(logit_adjusted(logits, target, priors=priors).value, exact(3.9794794293243798)[0])
    without = logit_adjusted(logits, target, priors=torch.tensor([6, 3, 0]), tau=0.0).value
    close(without, cross_entropy(logits, target).value)


@pytest.mark.parametrize("positive_weights", [None, exact(0.5, 2, 3), torch.tensor(2.0)])
@pytest.mark.parametrize("soft", [False, True])
def test_binary_cross_entropy_is_torchs(soft: bool, positive_weights: Tensor | None) -> None:
    logits = normal(4, 3)
    targets = torch.rand(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    if not soft:
        targets = targets.round()
    weights = torch.linspace(0, 2, 12, dtype=torch.float64).reshape(4, 3)
    call = {"pos_weight": positive_weights, "reduction": "none"}
    each = F.binary_cross_entropy_with_logits(logits, targets, **call)
    for t in (targets,) if soft else (targets, targets.long()):
        total = binary_cross_entropy(logits, t, positive_weights=positive_weights)
        agree(total.mean(), each.mean(), logits)
        weighed = binary_cross_entropy(logits, t, weights=weights, positive_weights=positive_weights)
        agree(weighed.value, (each * weights).sum(), logits)
        close(weighed.weight, weights.sum())


def test_a_weight_a_row_is_that_weight_on_each_of_its_elements() -> None:
    logits, targets, rows = normal(3, 3), ids(3, 3, classes=2), torch.tensor([1.0, 0.0, 3.0])
    targets[0, 1] = -100
    for loss in ON_ELEMENTS:
        a = loss(logits, targets, weights=rows)
        b = loss(logits, targets, weights=rows[:, None].expand(3, 3))
        agree(a.value, b.value, logits)
        assert a.weight == b.weight == 11  # two elements of weight 1, three of weight 3


@pytest.mark.parametrize("loss", ON_IDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_saturated_logits_give_finite_values_and_gradients(loss: Callable[..., Total], dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0], [0, 1e4, 1e4], [-1e4, -1e4, -1e4], [88, 0, -88]], dtype=dtype)
    for target in range(3):
        value, grad = slope(lambda x, t=target: loss(x, torch.full((4,), t)).value, logits)
        assert value.isfinite()
        assert grad.isfinite().all()
        assert value >= 0


@pytest.mark.parametrize("loss", ON_ELEMENTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_saturated_elements_give_finite_values_and_gradients(loss: Callable[..., Total], dtype: torch.dtype) -> None:
    logits = torch.tensor([1e4, -1e4, 88, -88, 0], dtype=dtype)
    for target in (0.0, 1.0, 0.5, 0, 1):
        value, grad = slope(lambda x, t=target: loss(x, torch.full((5,), t)).value, logits)
        assert value.isfinite()
        assert grad.isfinite().all()
    right = torch.tensor([INF, -INF])
    value, grad = slope(lambda x: loss(x, torch.tensor([1, 0])).value, right)
    assert value == 0
    assert not grad.any()
    assert loss(-right, torch.tensor([1, 0])).value == INF


@pytest.mark.parametrize("loss", ON_IDS)
def test_a_masked_class_is_not_there(loss: Callable[..., Total]) -> None:
    """−∞ in a class that is not asked for: the loss of the logits without it, where its share is taken out."""
    masked = torch.tensor([[1.0, 2.0, -INF], [0.5, -INF, -INF]])
    value, grad = slope(lambda x: loss(x, torch.tensor([1, 0])).value, masked)
    assert value.isfinite()
    assert grad.isfinite().all()
    assert not grad[masked == -INF].any()
    assert not grad[1].any(), "the only class left is certain"
    low = torch.where(masked == -INF, -1e4, masked)
    torch.testing.assert_close((value, grad), slope(lambda x: loss(x, torch.tensor([1, 0])).value, low))


def test_what_is_asked_of_a_masked_class_costs_infinitely_and_only_that() -> None:
    logits = torch.tensor([1.0, 2.0, -INF])
    assert cross_entropy(logits, torch.tensor(2)).value == INF
    assert cross_entropy(logits, torch.tensor(1), label_smoothing=0.1).value == INF
    without = torch.tensor([1.0, 1.0, 0.0])  # class weight 0: nothing is asked of it
    value, grad = slope(
        lambda x: cross_entropy(x, torch.tensor(1), label_smoothing=0.1, class_weights=without).value, logits
    )
    assert value.isfinite()
    assert grad.isfinite().all()
    value, grad = slope(lambda x: cross_entropy(x, torch.tensor(1), softcap=5.0, z_loss=0.1).value, logits)
    assert value.isfinite()
    assert grad.isfinite().all()


def test_zero_probability_against_a_masked_class_is_zero() -> None:
    logits = torch.tensor([1.0, 2.0, -INF], requires_grad=True)
    q = torch.tensor([0.25, 0.75, 0.0], requires_grad=True)
    value = cross_entropy(logits, q, z_loss=0.1).value
    grads = torch.autograd.grad(value, (logits, q))
    two = logits.detach()[:2].requires_grad_()
    expected = cross_entropy(two, q.detach()[:2], z_loss=0.1).value
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(grads[0], torch.cat([torch.autograd.grad(expected, two)[0], torch.zeros(1)]))
    assert grads[1].isfinite().all()


def test_a_nearly_certain_item_keeps_its_digits() -> None:
    """Logits (30, 0, 0) in float32, where 1 − p rounds to 0; derivatives of the formulas in 40 digits."""
    logits, target = torch.tensor([30.0, 0, 0]), torch.tensor(0)
    for loss, value, first in (
        (lambda x: focal(x, target, gamma=0.5), 8.0964251983143516e-20, -1.2144637797470012e-19),
        (lambda x: focal(x, target, gamma=0.0), 1.8715245937678598e-13, -1.8715245937676847e-13),
        (lambda x: poly(x, target), 3.7430491875355445e-13, -3.7430491875350191e-13),
        (lambda x: generalized_cross_entropy(x, target), 1.8715245937677372e-13, -1.8715245937674395e-13),
    ):
        got, grad = slope(lambda x, loss=loss: loss(x).value, logits)
        assert abs(got / value - 1) < 1e-5
        assert abs(grad[0] / first - 1) < 1e-5
        assert abs(grad[1] / (-first / 2) - 1) < 1e-5
    got, grad = slope(lambda x: binary_focal(x, torch.tensor(1), gamma=0.5).value, torch.tensor(40.0))
    assert abs(got / 8.7565107626965203e-27 - 1) < 1e-5
    assert abs(grad / -1.313476614404478e-26 - 1) < 1e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_hopeless_item_still_pulls(dtype: torch.dtype, tolerance: float) -> None:
    """Logits (−30, 0, 0): (1 − p^0.7)/0.7 and its slope −p^0.7·(1 − p), in 40 digits."""
    logits = torch.tensor([-30.0, 0, 0], dtype=dtype)
    value, grad = slope(lambda x: generalized_cross_entropy(x, torch.tensor(0)).value, logits)
    assert abs(value / 1.4285714279046266 - 1) < tolerance
    assert abs(grad[0] / -4.6676134548366196e-10 - 1) < tolerance


@pytest.mark.parametrize("loss", ON_IDS)
def test_ids_of_any_integer_type_and_a_mask_for_weights(loss: Callable[..., Total]) -> None:
    logits, targets = normal(6, 3), ids(6, classes=3)
    mask = torch.tensor([True, False, True, True, False, True])
    want = loss(logits[mask], targets[mask])
    for dtype in (torch.uint8, torch.int16, torch.int32, torch.int64):
        got = loss(logits, targets.to(dtype), weights=mask)
        close(got.value, want.value)
        assert got.weight == 4


def test_weights_and_class_weights_are_constants() -> None:
    w, c, a = (torch.ones(n, requires_grad=True) for n in (4, 5, 5))
    total = cross_entropy(normal(4, 5), ids(4), weights=w, class_weights=c)
    total += focal(normal(4, 5), ids(4), weights=w, alpha=a)
    assert torch.autograd.grad(total.value, (w, c, a), allow_unused=True) == (None, None, None)
    assert not total.weight.requires_grad


def test_a_class_that_weighs_nothing_may_hold_anything() -> None:
    logits = torch.tensor([[math.nan, 0.0], [1.0, 2.0]])
    call = {"targets": torch.tensor([0, 1]), "class_weights": torch.tensor([0.0, 3.0])}
    value, grad = slope(lambda x: cross_entropy(x, **call).value, logits)
    assert value.isfinite()
    assert grad.isfinite().all()
    assert cross_entropy(logits, **call).weight == 3
    assert cross_entropy(logits[:1], torch.tensor([0]), class_weights=torch.tensor([0.0, 3.0])).mean() == 0


def test_a_scheduled_gamma_is_the_number_it_holds() -> None:
    logits = normal(4, 5)
    agree(focal(logits, ids(4), gamma=torch.tensor(1.5)).value, focal(logits, ids(4), gamma=1.5).value, logits)
    gamma = torch.tensor(0.0, requires_grad=True)
    value = focal(torch.tensor([1.0, -INF]), torch.tensor(0), gamma=gamma).value
    assert value == 0
    assert torch.autograd.grad(value, gamma, allow_unused=True)[0] in (None, torch.tensor(0.0))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_curves_fall_to_nothing_as_the_right_answer_becomes_certain(spec: Any) -> None:
    p = torch.linspace(0.05, 1, 20, dtype=torch.float64)
    curve = spec.curve(p)
    assert curve.shape == p.shape
    assert (curve.diff() < 0).all()
    assert curve[-1] == 0
    if spec.name in ("cross_entropy", "binary_cross_entropy"):
        close(curve, -p.log())


Z, T, P = torch.zeros(2, 3), torch.tensor([0, 2]), torch.ones(3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cross_entropy(Z, torch.tensor([0, 3])), r"targets must be in \[0, 3\) or −100; got 3"),
        (lambda: cross_entropy(Z, torch.tensor([0])), r"targets must have the shape \(2,\)"),
        (lambda: cross_entropy(Z, torch.zeros(2)), r"the shape \(2, 3\) of logits, being probabilities"),
        (lambda: cross_entropy(Z, T > 0), "class ids .*; got torch.bool"),
        (lambda: cross_entropy(Z.long(), T), "logits must be floating"),
        (lambda: cross_entropy(torch.tensor(1.0), torch.tensor(0)), "at least one class"),
        (lambda: cross_entropy(Z, T, weights=torch.ones(3)), "weights must have"),
        (lambda: cross_entropy(Z, Z, weights=Z), "weights must have"),
        (lambda: cross_entropy(Z, T, class_weights=torch.ones(2)), "class_weights must have"),
        (lambda: cross_entropy(Z, T, label_smoothing=1.5), r"label_smoothing must be in \[0, 1\]; got 1.5"),
        (lambda: cross_entropy(Z, T, z_loss=-1.0), "z_loss must be at least 0"),
        (lambda: cross_entropy(Z, T, softcap=0.0), "softcap must be greater than 0"),
        (lambda: focal(Z, T, gamma=-1.0), "gamma must be at least 0"),
        (lambda: focal(Z, T, gamma=torch.ones(2)), "gamma must be a number"),
        (lambda: focal(Z, T, alpha=torch.ones(2)), "alpha must have the shape"),
        (lambda: focal(Z, Z), "targets must be class ids"),
        (lambda: poly(Z, T, epsilon=-2.0), "epsilon must be at least −1; got -2.0"),
        (lambda: generalized_cross_entropy(Z, T, q=2.0), r"q must be in \[0, 1\]"),
        (lambda: logit_adjusted(Z, T, priors=torch.ones(2)), "priors must have the shape"),
        (lambda: logit_adjusted(Z, T, priors=-P), "priors must be at least 0"),
        (lambda: logit_adjusted(Z, T, priors=0 * P), "and some greater"),
        (lambda: logit_adjusted(Z, T, priors=P, tau=-1.0), "tau must be at least 0"),
        (lambda: logit_adjusted(Z, Z, priors=P), "targets must be class ids"),
        (lambda: binary_cross_entropy(Z, torch.zeros(2)), r"targets must have the shape \(2, 3\)"),
        (lambda: binary_cross_entropy(torch.zeros(2), T), r"\[0, 2\) or −100; got 2"),
        (lambda: binary_cross_entropy(Z, Z, weights=P), "or of its leading dimensions"),
        (lambda: binary_cross_entropy(Z, Z, positive_weights=torch.ones(2)), "positive_weights must broadcast"),
        (lambda: binary_focal(Z, Z, alpha=2.0), r"alpha must be in \[0, 1\]"),
        (lambda: binary_focal(Z, Z, gamma=-1.0), "gamma must be at least 0"),
    ],
)
def test_wrong_calls_are_named(call: Callable[[], Total], words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()
