"""Deferred logits: whatever is done to them gives the numbers and gradients of ordinary logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lossmith.errors import RunError
from lossmith.integrations._deferred import DeferredLogits, Ledger, defer
from lossmith.integrations._heads import recipe_of

V, D = 13, 5
Do = Callable[[Tensor], Tensor]


def bias() -> Tensor:
    return torch.linspace(-1, 1, V)


def in_place(function: Do, seen: Do = lambda z: z) -> Do:
    """Apply `function` for what it does to its argument, and look at that, or at what was derived from it before."""

    def run(z: Tensor) -> Tensor:
        before = seen(z)
        function(z)
        return torch.cat([before.reshape(-1, V), z.reshape(-1, V)])

    return run


def under_no_grad(z: Tensor) -> Tensor:
    with torch.no_grad():
        twice = z * 2
        z.argmax(-1)
    return torch.cat([z, twice])


def through_a_view(z: Tensor) -> Tensor:
    flat = z.view(-1, V)
    flat.mul_(3)
    return z


def set_item(z: Tensor) -> Tensor:
    z[..., 3] = -1e4
    return z


KEPT: dict[str, Do] = {  # these stay deferred
    "nothing": lambda z: z,
    "scale": lambda z: 0.25 * z * torch.tensor(3.0) / 2,
    "soft-cap": lambda z: torch.tanh(z / 5) * 5,
    "scale, soft-cap, scale": lambda z: torch.tanh(z * 2 / 5) * 5 * 0.5,
    "bias": lambda z: bias() + z + bias()[None],
    "bias, scale": lambda z: (z + bias()) * 2,
    "shift": lambda z: z[:, :-1].contiguous(),
    "ellipsis": lambda z: z[..., :-1, :],
    "rows by mask": lambda z: z[torch.tensor([[True, False, True, True], [False, True, True, True]])],
    "rows by index": lambda z: z[torch.tensor([1, 1, 0]), 1:3],
    "one row": lambda z: z[1, -1],
    "padding cut off": lambda z: z[:, :, :9],
    "padding cut off, bias": lambda z: (z + bias())[..., 2:9],
    "new dimension": lambda z: z[None].squeeze(0).unsqueeze(1),
    "shapes": lambda z: z.reshape(4, 2, V).flatten(0, 1).view(-1, V).clone(),
    "float": lambda z: z.float().to(torch.float32).to("cpu"),
}
MADE: dict[str, Do] = {  # these need the numbers
    "in place": in_place(lambda z: z.mul_(2)),
    "in place, a view taken before": in_place(lambda z: z.mul_(2), lambda z: z.view(-1, V)),
    "in place, a copy taken before": in_place(lambda z: z.add_(1), lambda z: z.clone()),
    "in place, a cast taken before": in_place(lambda z: z.add_(1), lambda z: z.to(torch.float32)),
    "in place through a view": through_a_view,
    "inplace=True": in_place(lambda z: F.relu(z, inplace=True), lambda z: z * 2),
    "/=": in_place(lambda z: z.__itruediv__(2)),
    "set an item": set_item,
    "no gradient": under_no_grad,
    "detached": lambda z: torch.cat([z, z.detach()]),
    "bias after scale": lambda z: z * 2 + bias(),
    "two caps": lambda z: torch.tanh(torch.tanh(z)),
    "negative cap": lambda z: torch.tanh(z) * -1,
    "vector": lambda z: z * bias(),
    "transposed twice": lambda z: z.transpose(0, 1).transpose(0, 1),
    "minus": lambda z: 1 - z,
    "classes by list": lambda z: z[..., list(range(9))],
    "one class": lambda z: torch.stack([z[..., 0], z[..., 4]], -1),
    "double": lambda z: z.double().float(),
    "add, alpha": lambda z: torch.add(z, bias(), alpha=2),
    "bool index": lambda z: z[True][0],
}


class Head:
    """A linear layer whose logits are ordinary, or deferred."""

    def __init__(self, deferred: bool) -> None:
        torch.manual_seed(0)
        self.hidden = torch.randn(2, 4, D, requires_grad=True)
        self.layer = nn.Linear(D, V)
        self.ledger = Ledger()
        recipe = recipe_of(self.layer, self.hidden * 2)
        assert recipe is not None
        self.logits = defer(recipe, self.ledger, recipe.product) if deferred else self.layer(self.hidden * 2)

    def loss(self, do: Do, **options: Any) -> list[Tensor]:
        """Loss of what `do` makes of the logits, and gradients."""
        z = do(self.logits)
        rows, classes = z.shape[:-1], z.shape[-1]
        targets = (torch.arange(rows.numel()) * 5 % classes).reshape(rows)
        targets = torch.where(torch.arange(rows.numel()).reshape(rows) % 4 == 2, -100, targets)
        flat = z if not rows else z.reshape(-1, classes)
        value = F.cross_entropy(flat, targets.reshape(flat.shape[:-1]), **options)
        return [value, *torch.autograd.grad(value.sum(), [self.hidden, *self.layer.parameters()])]


@pytest.mark.parametrize("options", [{}, {"reduction": "sum", "label_smoothing": 0.1}, {"reduction": "none"}], ids=str)
@pytest.mark.parametrize("name", [*KEPT, *MADE])
def test_numbers_and_gradients_are_those_of_ordinary_logits(name: str, options: dict[str, Any]) -> None:
    do = KEPT.get(name) or MADE[name]
    ours, theirs = Head(deferred=True), Head(deferred=False)
    torch.testing.assert_close(ours.loss(do, **options), theirs.loss(do, **options), rtol=2e-5, atol=1e-6)
    assert (ours.ledger.needed_by == []) == (name in KEPT)
    assert ours.ledger.fused == (name in KEPT)


@pytest.mark.parametrize("name", [*KEPT, *MADE])
def test_made_logits_are_ordinary_ones(name: str) -> None:
    do = KEPT.get(name) or MADE[name]
    ours, theirs = do(Head(deferred=True).logits), do(Head(deferred=False).logits)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    assert ours.requires_grad == theirs.requires_grad
    torch.testing.assert_close(ours + 0, theirs + 0, rtol=1e-5, atol=1e-6)


def test_a_learned_scale_gets_its_gradient() -> None:
    scale = torch.tensor(1.5, requires_grad=True)
    grads = []
    for deferred in (True, False):
        logits = Head(deferred).logits * scale
        loss = F.cross_entropy(logits.view(-1, V), torch.arange(8))
        grads += torch.autograd.grad(loss, scale)
    torch.testing.assert_close(*grads)


def test_logits_are_not_made_without_need() -> None:
    head = Head(deferred=True)
    head.loss(lambda z: z)
    assert isinstance(head.logits, DeferredLogits)
    assert head.logits.made is None
    assert "DeferredLogits((2, 4, 13)" in repr(head.logits)


def test_reading_under_no_grad_leaves_the_graph_whole() -> None:
    head = Head(deferred=True)
    with torch.no_grad():
        assert not (head.logits.argmax(-1)).requires_grad
    assert torch.autograd.grad(torch.logsumexp(head.logits, -1).sum(), head.hidden)[0].abs().sum() > 0


def test_logits_of_weights_that_have_changed_are_refused() -> None:
    head = Head(deferred=True)
    with torch.no_grad():
        head.layer.weight.add_(1)
    with pytest.raises(RunError, match=r"before optimizer.step"):
        head.logits.sum()
    with pytest.raises(RunError, match=r"before optimizer.step"):
        F.cross_entropy(head.logits.view(-1, V), torch.zeros(8, dtype=torch.long))


def test_targets_out_of_range_are_refused_in_torchs_words() -> None:
    with pytest.raises(IndexError, match="out of bounds"):
        F.cross_entropy(Head(deferred=True).logits.view(-1, V), torch.full((8,), V))


def test_division_by_zero_is_torchs() -> None:
    assert (Head(deferred=True).logits / 0).isinf().all()


@pytest.mark.parametrize("weighted", [True, False])
def test_class_weights_and_another_ignored_id(weighted: bool) -> None:
    def loss(deferred: bool) -> Tensor:
        ids = torch.arange(8) % 4
        weight = torch.linspace(1, 2, V) if weighted else None
        return nn.CrossEntropyLoss(weight, ignore_index=3)(Head(deferred).logits.view(-1, V), ids)

    torch.testing.assert_close(loss(True), loss(False))


def test_below_autograd_only_what_has_no_gradient_is_served() -> None:
    head = Head(deferred=True)
    with torch._C.DisableTorchFunctionSubclass(), pytest.raises(RunError, match="lose their gradient"):
        head.logits + 1
    with torch.no_grad():
        logits = Head(deferred=True).logits
    with torch._C.DisableTorchFunctionSubclass():
        torch.testing.assert_close(logits + 1, Head(deferred=False).logits.detach() + 1)
