"""The chunked form against the plain formula: the laws of DESIGN.md, each able to fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses import linear_cross_entropy
from lossmith.losses.linear_cross_entropy import _chunked
from lossmith.losses.linear_cross_entropy._reference import reference
from lossmith.total import Total

OPTIONS: list[dict[str, Any]] = [{}, {"softcap": 3.0}, {"logit_scale": 0.5}, {"softcap": 5.0, "logit_scale": 2.0}]


def example(
    dtype: torch.dtype = torch.float64, rows: int = 23, width: int = 6, vocabulary: int = 11
) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "hidden": torch.randn(rows, width, dtype=dtype, requires_grad=True),
        "weight": torch.randn(vocabulary, width, dtype=dtype, requires_grad=True),
        "target": torch.randint(vocabulary, (rows,)),
        "bias": torch.randn(vocabulary, dtype=dtype, requires_grad=True),
        "weights": torch.rand(rows, dtype=dtype) * (torch.arange(rows) % 4 > 0),
    }


def results(total: Total, inputs: dict[str, Tensor], upstream: float = 1.0) -> list[Tensor]:
    leaves = [x for x in inputs.values() if x.requires_grad]
    return [total.value.detach(), total.weight, *torch.autograd.grad(total.value * upstream, leaves)]


@pytest.fixture(params=[1, 5, 10**6], ids=lambda n: f"chunk={n}")
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_chunked, "CHUNK_BYTES", 4 * 11 * request.param)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_value_and_gradients_are_those_of_the_formula(options: dict[str, Any]) -> None:
    inputs = example()
    ours = results(linear_cross_entropy(**inputs, **options), inputs, upstream=-2.5)
    plain = results(reference(**inputs, **options), inputs, upstream=-2.5)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=1e-12, atol=1e-12)


def test_the_softcap_is_in_the_formula() -> None:
    inputs = example()
    assert linear_cross_entropy(**inputs, softcap=3.0).value != linear_cross_entropy(**inputs).value


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_low_precision_is_as_good_as_the_plain_formula(dtype: torch.dtype) -> None:
    exact = example()
    low = {
        k: v.detach().to(dtype).requires_grad_(v.requires_grad) if v.is_floating_point() else v
        for k, v in exact.items()
    }
    same = {
        k: v.detach().double().requires_grad_(v.requires_grad) if v.is_floating_point() else v for k, v in low.items()
    }
    truth = results(reference(**same), same)
    ours = results(linear_cross_entropy(**low), low)
    plain = results(reference(**low), low)
    for a, b, t in zip(ours, plain, truth, strict=True):
        ulp = torch.finfo(a.dtype).eps * float(t.abs().max())
        assert float((a.double() - t).abs().max()) <= 2 * float((b.double() - t).abs().max()) + ulp


def test_what_weighs_nothing_changes_no_bit() -> None:
    clean, poisoned = example(), example()
    with torch.no_grad():
        poisoned["hidden"][poisoned["weights"] == 0] = float("nan")
    poisoned["target"][poisoned["weights"] == 0] = -100
    for a, b in zip(
        results(linear_cross_entropy(**clean), clean), results(linear_cross_entropy(**poisoned), poisoned), strict=True
    ):
        assert torch.equal(a, b)


def test_nothing_counted_is_zero_with_zero_gradients() -> None:
    inputs = example() | {"target": torch.full((23,), -100)}
    total = linear_cross_entropy(**inputs)
    assert total.weight == 0
    assert total.mean() == 0
    assert all(
        not g.any() for g in torch.autograd.grad(total.mean(), [inputs["hidden"], inputs["weight"], inputs["bias"]])
    )


@given(cut=st.integers(0, 23))
@settings(max_examples=10, deadline=None)
def test_the_totals_of_a_split_add_up(cut: int) -> None:
    inputs = example()
    rows = ("hidden", "target", "weights")
    parts = [
        linear_cross_entropy(**{k: v[piece] if k in rows else v for k, v in inputs.items()})
        for piece in (slice(None, cut), slice(cut, None))
    ]
    whole, split = linear_cross_entropy(**inputs), parts[0] + parts[1]
    torch.testing.assert_close(split.value, whole.value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(split.weight, whole.weight, rtol=1e-12, atol=1e-12)


def test_gradcheck() -> None:
    inputs = example(rows=5)
    fixed = {k: v for k, v in inputs.items() if not v.requires_grad}

    def value(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear_cross_entropy(hidden, weight, bias=bias, softcap=4.0, **fixed).value

    assert torch.autograd.gradcheck(value, (inputs["hidden"], inputs["weight"], inputs["bias"]))


def test_only_what_asks_for_a_gradient_gets_one() -> None:
    inputs = example()
    inputs["weight"] = inputs["weight"].detach()
    linear_cross_entropy(**inputs).value.backward()
    assert inputs["weight"].grad is None
    assert inputs["hidden"].grad is not None


def test_logits_of_one_chunk_only_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = _chunked._logits

    def spy(rows: Tensor, *rest: Any) -> Tensor:
        sizes.append(len(rows))
        return plain(rows, *rest)

    monkeypatch.setattr(_chunked, "_logits", spy)
    monkeypatch.setattr(_chunked, "CHUNK_BYTES", 4 * 11 * 4)
    inputs = example()
    del inputs["weights"]
    linear_cross_entropy(**inputs)
    assert max(sizes) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": torch.full((23,), 11)}, r"target must be in \[0, 11\) or −100; got 11"),
        ({"target": torch.full((23,), -1)}, "got -1"),
        ({"target": torch.zeros(22, dtype=torch.long)}, "target must have the shape"),
        ({"weight": torch.zeros(11, 5)}, "must share D"),
        ({"weights": torch.ones(3)}, "weights must have the shape"),
    ],
)
def test_wrong_inputs_are_named(change: dict[str, Tensor], words: str) -> None:
    with pytest.raises(InputError, match=words):
        linear_cross_entropy(**(example() | change))
