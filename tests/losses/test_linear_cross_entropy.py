"""What the laws of check_loss do not say of the losses of a linear map: memory, dtypes, filters, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lossmith.errors import InputError, RunError
from lossmith.losses import LOSSES, linear_cross_entropy, linear_distillation, token_log_probs, token_statistics
from lossmith.losses.linear_cross_entropy import _stream
from lossmith.losses.linear_cross_entropy._reference import reference

Inputs = dict[str, Any]


def example(dtype: torch.dtype = torch.float64, rows: int = 23, width: int = 6, vocabulary: int = 11) -> Inputs:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    return {
        "hidden": normal(rows, width),
        "head": normal(vocabulary, width),
        "targets": torch.randint(vocabulary, (rows,), generator=generator),
    }


def gradients(value: Tensor, inputs: Inputs) -> list[Tensor]:
    return list(torch.autograd.grad(value, [inputs["hidden"], inputs["head"]]))


@given(
    rows=st.integers(0, 40),
    width=st.integers(1, 9),
    vocabulary=st.integers(1, 70),
    block=st.integers(1, 3000),
    ignored=st.integers(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_any_shape_in_any_blocks_is_the_formula(
    rows: int, width: int, vocabulary: int, block: int, ignored: int
) -> None:
    inputs = example(rows=rows, width=width, vocabulary=vocabulary)
    inputs["targets"][:ignored] = -100
    ours, plain = linear_cross_entropy(**inputs, max_memory=block), reference(**inputs)
    for a, b in zip(
        [ours.value, *gradients(ours.value, inputs)], [plain.value, *gradients(plain.value, inputs)], strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("dtype", "native"), [(torch.float32, True), (torch.bfloat16, True), (torch.bfloat16, False)])
@pytest.mark.parametrize("rows", [0, 1, 23])
def test_what_memory_held_before_is_nowhere_in_the_gradients(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, native: bool, rows: int
) -> None:
    """In its deterministic mode torch fills what it allocates with NaN: the first block must write, not add."""
    monkeypatch.setattr(_stream, "fast_on_cpu", lambda dtype: native)  # both ways, whatever this machine has
    inputs = example(dtype, rows=rows, width=8, vocabulary=40)
    expected = gradients(reference(**inputs).value, inputs)
    torch.use_deterministic_algorithms(True)
    try:
        ours = gradients(linear_cross_entropy(**inputs, max_memory=40 * 4 * 5).value, inputs)
    finally:
        torch.use_deterministic_algorithms(False)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-2)


def test_logits_of_one_block_only_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    product = _stream.Stream.product

    def spy(self: _stream.Stream, span: slice) -> tuple[Tensor, Tensor]:
        x, z = product(self, span)
        sizes.append(z.numel() * z.element_size())
        return x, z

    monkeypatch.setattr(_stream.Stream, "product", spy)
    linear_cross_entropy(**example(), max_memory=4 * 11 * 8)
    assert max(sizes) == 4 * 11 * 8
    assert len(sizes) == 6


def test_three_dimensions_views_and_tied_embeddings() -> None:
    torch.manual_seed(0)
    embedding = nn.Embedding(13, 4, dtype=torch.float64)
    ids = torch.randint(13, (3, 5))
    hidden = embedding(ids)[:, ::2].transpose(0, 1)
    targets = ids[:, ::2].T
    ours = linear_cross_entropy(hidden, embedding.weight, targets).mean()
    plain = nn.functional.cross_entropy((hidden @ embedding.weight.T).reshape(-1, 13), targets.reshape(-1))
    torch.testing.assert_close(ours, plain)
    (a,), (b,) = (
        torch.autograd.grad(ours, embedding.weight, retain_graph=True),
        torch.autograd.grad(plain, embedding.weight),
    )
    torch.testing.assert_close(a, b)


def test_a_functional_call_and_a_learned_scale_get_gradients() -> None:
    inputs = example()
    layer = nn.Linear(6, 11, bias=True, dtype=torch.float64)

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer
            self.scale = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

        def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:
            head = self.layer
            return linear_cross_entropy(hidden, head.weight, targets, bias=head.bias, logit_scale=self.scale).mean()

    module = Loss()
    other = {name: (x * 2).detach().requires_grad_() for name, x in module.named_parameters()}
    value = torch.func.functional_call(module, other, (inputs["hidden"], inputs["targets"]))
    logits = (inputs["hidden"] @ other["layer.weight"].T + other["layer.bias"]) * other["scale"]
    plain = nn.functional.cross_entropy(logits, inputs["targets"])
    torch.testing.assert_close(value, plain)
    leaves = list(other.values())
    for a, b in zip(torch.autograd.grad(value, leaves), torch.autograd.grad(plain, leaves), strict=True):
        torch.testing.assert_close(a, b)


def test_autocast_multiplies_in_bfloat16_and_accumulates_wide() -> None:
    inputs = example(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        total = linear_cross_entropy(**inputs, max_memory=100)
    narrow = {k: x.detach().bfloat16().requires_grad_() if k != "targets" else x for k, x in inputs.items()}
    assert total.value.dtype == torch.float32
    assert torch.equal(total.value, linear_cross_entropy(**narrow, max_memory=100).value)
    hidden, head = gradients(total.value, inputs)
    assert hidden.dtype == head.dtype == torch.float32
    assert not torch.equal(head, head.bfloat16().float()), "the head's gradient was rounded to bfloat16"
    if _stream.product_dtype(inputs["hidden"].bfloat16()) == torch.float32:
        assert not torch.equal(hidden, hidden.bfloat16().float()), "the products are float32, and so is the gradient"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("filter_below", [0.0, 1e-9, 1e-5])  # of nothing, of no column, of some
@pytest.mark.parametrize("native", [True, False])
def test_half_precision_is_multiplied_as_it_is_or_widened_tile_by_tile(
    monkeypatch: pytest.MonkeyPatch, native: bool, filter_below: float, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(_stream, "fast_on_cpu", lambda dtype: native)  # both ways, whatever this machine has
    monkeypatch.setattr(_stream, "WIDENED_BYTES", 7 * 6 * 4)  # 7 of 50 rows of the head, the last tile shorter
    inputs = example(dtype, vocabulary=50)
    with torch.no_grad():  # half of the vocabulary is out of the question, in every row
        inputs["hidden"][:, 0], inputs["head"][:25, 0], inputs["head"][25:, 0] = 4.0, 1.0, -3.0
    inputs["targets"] %= 25
    inputs["targets"][::5] = -100
    exact = {k: x.detach().double().requires_grad_() if k != "targets" else x for k, x in inputs.items()}
    left: list[bool] = []
    filtered = _stream.Stream._filtered
    monkeypatch.setattr(_stream.Stream, "_filtered", lambda *given: left.append(filtered(*given)) or left[-1])
    ours, plain = linear_cross_entropy(**inputs, filter_below=filter_below), reference(**exact)
    loss, wanted = float(ours.value.detach()), float(plain.value.detach())
    assert loss == pytest.approx(wanted, rel=1e-2 if native else 1e-6)
    rounding = torch.finfo(dtype).eps
    for a, b in zip(gradients(ours.value, inputs), gradients(plain.value, exact), strict=True):
        assert a.dtype == dtype
        assert float((a.double() - b).norm() / b.norm()) < (4 if native else 1) * rounding
    assert left == {0.0: [], 1e-9: [False], 1e-5: [True]}[filter_below]


def test_bfloat16_loss_is_within_1e_5_of_the_exact_one() -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(512, 64).bfloat16(), (torch.randn(2000, 64) / 8).bfloat16()
    targets = torch.randint(2000, (512,))
    exact = float(reference(hidden.double(), head.double(), targets).mean())
    assert abs(float(linear_cross_entropy(hidden, head, targets).mean()) - exact) < 1e-5 * exact


@pytest.mark.parametrize("frozen", ["hidden", "head"])
def test_a_frozen_side_gets_no_gradient_and_costs_no_product(frozen: str) -> None:
    inputs = example()
    inputs[frozen] = inputs[frozen].detach()
    other = "head" if frozen == "hidden" else "hidden"
    value = linear_cross_entropy(**inputs).value
    assert [x.numel() > 0 for x in value.grad_fn.saved_tensors[:2]] == [other == "hidden", other == "head"]
    plain = reference(**inputs).value
    torch.testing.assert_close(torch.autograd.grad(value, inputs[other]), torch.autograd.grad(plain, inputs[other]))


def test_the_filter_errs_within_its_bound_and_leaves_the_head_exact() -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(300, 16, requires_grad=True), torch.randn(500, 16, requires_grad=True)
    targets, epsilon = torch.randint(500, (300,)), 0.2
    inputs = {"hidden": hidden, "head": head}
    exact = gradients(linear_cross_entropy(hidden, head, targets).value, inputs)
    filtered = gradients(linear_cross_entropy(hidden, head, targets, filter_below=epsilon).value, inputs)
    assert torch.equal(exact[1], filtered[1])
    missed = (exact[0] - filtered[0]).norm(dim=1)
    assert missed.max() > 0, "nothing was left out: the test shows nothing"
    assert missed.max() <= epsilon * head.norm(dim=1).sum()


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extreme_logits_are_finite_where_the_mathematics_is(size: float) -> None:
    head = torch.tensor([[1.0], [-1.0], [0.0]], requires_grad=True)
    hidden = torch.tensor([[size]], requires_grad=True)
    assert linear_cross_entropy(hidden, head, torch.tensor([0])).value == 0
    wrong = linear_cross_entropy(hidden, head, torch.tensor([1])).value
    assert wrong == 2 * size
    assert all(x.isfinite().all() for x in torch.autograd.grad(wrong, [hidden, head]))


def test_a_class_that_is_excluded_by_its_bias_costs_nothing() -> None:
    inputs = example()
    bias = torch.zeros(11, dtype=torch.float64)
    bias[4] = -torch.inf  # a padded vocabulary
    inputs["targets"][inputs["targets"] == 4] = 5
    total = linear_cross_entropy(**inputs, bias=bias)
    assert total.value.isfinite()
    assert not gradients(total.value, inputs)[1][4].any()


def test_compiled_it_is_the_same() -> None:
    inputs = example(torch.float32)
    inputs["targets"][3] = -100

    def loss(**inputs: Any) -> Tensor:
        return linear_cross_entropy(**inputs, softcap=5.0).mean() + token_log_probs(**inputs).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(**inputs)
    for a, b in zip(gradients(compiled, inputs), gradients(loss(**inputs), inputs), strict=True):
        torch.testing.assert_close(a, b)


def test_there_is_no_second_derivative_and_it_says_so() -> None:
    inputs = example()
    (first,) = torch.autograd.grad(linear_cross_entropy(**inputs).value ** 2, inputs["hidden"], create_graph=True)
    with pytest.raises(RunError, match="no second derivative"):
        first.sum().backward()


def test_token_log_probs_are_those_of_the_logits() -> None:
    inputs = example()
    inputs["targets"][5] = -100
    upstream = torch.randn(23, dtype=torch.float64)
    ours = token_log_probs(**inputs, softcap=3.0, logit_scale=0.5, max_memory=500)
    logits = 3 * torch.tanh(inputs["hidden"] @ inputs["head"].T * 0.5 / 3)
    plain = torch.log_softmax(logits, -1).gather(1, inputs["targets"].clamp_min(0)[:, None])[:, 0]
    plain = torch.where(inputs["targets"] == -100, 0, plain)
    torch.testing.assert_close(ours, plain)
    for a, b in zip(
        gradients((ours * upstream).sum(), inputs), gradients((plain * upstream).sum(), inputs), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_token_statistics_are_those_of_the_logits() -> None:
    inputs = example()
    inputs["targets"][5] = -100
    seen = token_statistics(**inputs, max_memory=500)
    logits = inputs["hidden"] @ inputs["head"].T
    rows = inputs["targets"] != -100
    at = logits.gather(1, inputs["targets"].clamp_min(0)[:, None])
    torch.testing.assert_close(seen.logsumexp[rows], torch.logsumexp(logits, 1)[rows])
    torch.testing.assert_close(seen.entropy[rows], torch.distributions.Categorical(logits=logits).entropy()[rows])
    assert torch.equal(seen.rank[rows], (logits > at).sum(1)[rows])
    assert torch.equal(seen.correct[rows], (logits.argmax(1) == inputs["targets"])[rows])
    assert (seen.rank[5], seen.entropy[5], seen.log_probs[5]) == (-1, 0, 0)


def test_distilling_from_itself_costs_nothing_and_pulls_nowhere() -> None:
    one = example()
    x, w = one["hidden"], one["head"]
    for beta in (0.0, 0.5, 1.0):
        total = linear_distillation(x, w, x.detach(), w.detach(), beta=beta)
        assert abs(float(total.value.detach())) < 1e-12
        assert all(g.abs().max() < 1e-12 for g in gradients(total.value, one))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"targets": torch.full((23,), 11)}, r"targets must be in \[0, 11\) or −100; got 11"),
        ({"targets": torch.full((23,), -1)}, "got -1"),
        ({"targets": torch.zeros(22, dtype=torch.long)}, "targets must have the shape"),
        ({"targets": torch.zeros(23)}, "targets must be class ids"),
        ({"head": torch.zeros(11, 5)}, "must share D"),
        ({"head": torch.zeros(11, 6)}, "must share a dtype"),
        ({"weights": torch.ones(3)}, "weights must have the shape"),
        ({"bias": torch.ones(3)}, "bias must have the shape"),
        ({"label_smoothing": 2.0}, "label_smoothing must be in"),
        ({"softcap": 0.0}, "softcap must be greater than 0"),
        ({"z_loss": -1.0}, "z_loss must be at least 0"),
        ({"impl": "chunky"}, "Did you mean 'chunked'"),
    ],
)
def test_wrong_inputs_are_named(change: Inputs, words: str) -> None:
    with pytest.raises(InputError, match=words):
        linear_cross_entropy(**(example() | change))


def test_a_teacher_of_another_vocabulary_is_refused() -> None:
    x, w = torch.zeros(2, 3), torch.zeros(5, 3)
    with pytest.raises(InputError, match="teacher_head must have the shape"):
        linear_distillation(x, w, x, torch.zeros(6, 3))
    with pytest.raises(InputError, match="infinite"):
        linear_distillation(x, w, x, w, top_k=2, beta=1.0)


def test_every_loss_that_owns_no_tensor_is_in_the_table() -> None:
    assert {"linear_cross_entropy", "token_log_probs", "token_statistics", "linear_distillation"} <= set(LOSSES)
