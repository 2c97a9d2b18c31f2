"""Where a loss is at the edge of what has a meaning: impossible classes, scores without an order, odd options."""

from __future__ import annotations

import pytest
import torch

from lossmith.errors import InputError
from lossmith.losses import (
    ScheduledFocal,
    cosent,
    cross_entropy,
    focal,
    general_robust,
    info_nce,
    linear_cross_entropy,
    linear_distillation,
)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_pulls_at_an_impossible_target_as_cross_entropy_does(gamma: float) -> None:
    slopes = []
    for loss in (lambda z, t: focal(z, t, gamma=gamma), cross_entropy):
        logits = torch.tensor([[-torch.inf, 0.0, 1.0]], dtype=torch.float64, requires_grad=True)
        value = loss(logits, torch.tensor([0])).value
        assert value == torch.inf
        slopes.append(torch.autograd.grad(value, logits)[0])
    assert torch.allclose(*slopes)


def test_a_learned_gamma_is_not_lost_to_an_impossible_target() -> None:
    gamma = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    some = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    (alone,) = torch.autograd.grad(focal(some, torch.tensor([1]), gamma=gamma).value, gamma)
    both = torch.cat([some, torch.tensor([[-torch.inf, 0.0, 1.0]], dtype=torch.float64)])
    (beside,) = torch.autograd.grad(focal(both, torch.tensor([1, 0]), gamma=gamma).value, gamma)
    assert torch.allclose(alone, beside)


def test_what_has_no_meaning_is_refused() -> None:
    x = torch.ones(3, 2)
    with pytest.raises(InputError, match=r"scores must not be NaN; it is at \[1\]"):
        cosent(x, x, torch.tensor([0.0, torch.nan, 1.0]))
    cosent(x, x, torch.tensor([0.0, torch.nan, 1.0]), weights=torch.tensor([1.0, 0.0, 1.0]))  # weighs nothing
    with pytest.raises(InputError, match="alpha must be a number; got nan"):
        general_robust(x, x, alpha=float("nan"))
    head, ids = torch.ones(5, 2), torch.tensor([0, 1, 1])
    for call in (
        lambda: linear_cross_entropy(x, head, ids, max_memory=-5),
        lambda: linear_distillation(x, head, x, head, max_memory=0),
        lambda: info_nce(x, x, max_memory=0),
    ):
        with pytest.raises(InputError, match="max_memory must be a number of bytes above 0"):
            call()


def test_alpha_of_scheduled_focal_moves_and_is_saved() -> None:
    loss = ScheduledFocal(0.0, 2.0, 10, alpha=torch.tensor([1.0, 3.0]))
    assert loss.state_dict()["focal_alpha"].tolist() == [1.0, 3.0]
    assert loss.double().focal_alpha.dtype == torch.float64
    assert "focal_alpha" not in ScheduledFocal(0.0, 2.0, 10, alpha=0.25).state_dict()


def test_a_class_that_does_not_count_may_be_impossible() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 1.0], [1.0, 2.0, 3.0]], requires_grad=True)
    alpha = torch.tensor([0.0, 1.0, 1.0])
    value = focal(logits, torch.tensor([0, 1]), alpha=alpha).value
    assert torch.allclose(value, focal(logits[1:], torch.tensor([1]), alpha=alpha).value)
    assert torch.autograd.grad(value, logits)[0].isfinite().all()
