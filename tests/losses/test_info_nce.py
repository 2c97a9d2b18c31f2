"""What the laws do not reach of info_nce: the unweighted walk both ways, positives by index and by label, zero rows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from lossmith.errors import InputError
from lossmith.losses import info_nce
from lossmith.losses.contrastive.info_nce import _reference


def embeddings(keys: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries, others = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (9, keys))
    return queries.requires_grad_(), others.requires_grad_(), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)


def assert_same(ours: Tensor, plain: Tensor, leaves: list[Tensor]) -> None:
    torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-11)
    gradients = (torch.autograd.grad(x * -2.5, leaves) for x in (ours, plain))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("options", [{}, {"symmetric": True}, {"symmetric": True, "max_memory": 100}], ids=str)
def test_without_weights_it_is_the_formula_with_hard_negatives(options: dict[str, Any]) -> None:
    queries, keys, temperature = embeddings()
    ours = info_nce(queries, keys, temperature=temperature, **options)
    plain = _reference(queries, keys, temperature=temperature, **options)
    assert ours.weight == plain.weight == 9
    assert_same(ours.value, plain.value, [queries, keys, temperature])


def test_at_clips_largest_scale_nothing_overflows() -> None:
    queries = embeddings(9)[0]
    opposite = -queries.detach().float()
    total = info_nce(queries.float(), opposite.requires_grad_(), temperature=0.01, symmetric=True)
    assert total.value.isfinite()
    assert all(g.isfinite().all() for g in torch.autograd.grad(total.value, [queries, opposite]))


def test_positives_by_index() -> None:
    queries, keys, temperature = embeddings()
    positives = torch.tensor([3, 3, 0, 11, 5, -100, 7, 2, 1])
    ours = info_nce(queries, keys, temperature=temperature, positives=positives)
    logits = normalize(queries) @ normalize(keys).T / temperature
    assert ours.weight == 8
    assert_same(ours.value, cross_entropy(logits, positives, reduction="sum"), [queries, keys, temperature])


def test_positives_by_label() -> None:
    queries, keys, temperature = embeddings()
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 9, -100, 1])  # nobody has 9
    key_labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 0, 1, 2, 3])
    ours = info_nce(queries, keys, temperature=temperature, labels=labels, key_labels=key_labels)
    alike = (labels[:, None] == key_labels).double()
    some = alike.sum(1) > 0
    logits = normalize(queries) @ normalize(keys).T / temperature
    shares = alike[some] / alike[some].sum(1, keepdim=True)
    assert ours.weight == 7
    assert_same(ours.value, -(shares * logits[some].log_softmax(1)).sum(), [queries, keys, temperature])


@pytest.mark.parametrize("way", ["positives", "labels"])
def test_what_is_ignored_may_be_nan(way: str) -> None:
    queries, keys, _ = embeddings()
    marks = torch.tensor([3, 3, 0, 1, 2, -100, 1, 2, 1])
    options = {"positives": marks} if way == "positives" else {"labels": marks, "key_labels": torch.arange(12) % 4}
    poisoned = queries.detach().clone()
    poisoned[5] = torch.nan
    poisoned.requires_grad_()
    results = []
    for x in (queries, poisoned):
        total = info_nce(x, keys, **options)
        results.append([total.value, total.weight, *torch.autograd.grad(total.value, [x, keys])])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_zero_vectors_have_finite_gradients() -> None:
    queries, keys = torch.zeros(3, 4, requires_grad=True), torch.eye(3, 4, requires_grad=True)
    total = info_nce(queries, keys, symmetric=True)
    assert total.mean().item() == pytest.approx(math.log(3))
    assert all(g.abs().max() < 100 for g in torch.autograd.grad(total.value, [queries, keys]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"positives": torch.full((9,), 12)}, r"positives must be in \[0, 12\)"),
        ({"positives": torch.zeros(9, dtype=torch.long), "labels": torch.zeros(9)}, "not both"),
        ({"labels": torch.zeros(9)}, "belong together"),
        ({"key_labels": torch.zeros(12)}, "needs labels"),
        ({"positives": torch.zeros(9, dtype=torch.long), "symmetric": True}, "leave positives and labels out"),
        ({"temperature": 0.0}, "temperature must be"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], words: str) -> None:
    queries, keys, _ = embeddings()
    with pytest.raises(InputError, match=words):
        info_nce(queries, keys, **options)
