"""Masked language modelling: what is hidden, how often, and that only hidden rows are paid for."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from lossmith.data import Tokenizer
from lossmith.models import build_model, head_on_rows, rows_path
from lossmith.objectives import CausalObjective, MaskedObjective, Masking
from lossmith.objectives.words import word_ids
from lossmith.testing import ObjectiveError, check_objective

TOKENIZER = Tokenizer.byte().with_special(["pad", "cls", "sep", "mask"])
MASK = 260
TEXT = "Whole words are hidden together, or not at all; 床前明月光 as well. "


def masking(**options: Any) -> Masking:
    return Masking(TOKENIZER.vocab_size, MASK, TOKENIZER.special_ids, pieces=TOKENIZER.pieces, **options)


def objective(**options: Any) -> MaskedObjective:
    return MaskedObjective(masking(**options), 258, 259, seed=3)


def examples(n: int = 4, size: int = 30) -> list[dict[str, Any]]:
    ids = TOKENIZER.encode(TEXT * 10).astype(np.int64)
    return [{"tokens": ids[i * size : (i + 1) * size], "index": np.int64(i)} for i in range(n)]


@pytest.fixture(scope="module")
def model() -> Any:
    made = build_model("nano", vocab_size=261, context=64, architecture="masked", pad_id=257)
    with torch.no_grad():
        made.get_output_embeddings().bias.normal_()
    return made


@pytest.mark.parametrize("unit", ["token", "word", "span"])
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_the_rate_and_80_10_10_are_met(unit: str, rate: float) -> None:
    hide, ids = masking(rate=rate, unit=unit), TOKENIZER.encode(TEXT * 4).astype(np.int64)
    rng = np.random.default_rng(0)
    drawn = [hide(ids, rng) for _ in range(300)]
    labels, seen = np.stack([label for _, label in drawn]), np.stack([see for see, _ in drawn])
    asked = labels != -100
    assert asked.mean() == pytest.approx(rate, rel=0.07)  # of 292 tokens; the last span may go beyond
    assert (seen[~asked] == np.broadcast_to(ids, seen.shape)[~asked]).all()
    assert (labels[asked] == np.broadcast_to(ids, seen.shape)[asked]).all()
    assert (seen[asked] == MASK).mean() == pytest.approx(0.8, abs=0.02)
    assert (seen[asked] == labels[asked]).mean() == pytest.approx(0.1, abs=0.02)
    every = asked.mean(0)
    if unit == "token":
        assert every.min() > rate / 2  # every place gets its turn
        assert every.max() < rate * 2


def test_special_tokens_are_never_hidden_nor_drawn() -> None:
    hide = masking(rate=0.9, mask_share=0.0, random_share=1.0)
    ids = np.array([258, 256, *range(97, 107), 256, 259])
    for seed in range(200):
        seen, labels = hide(ids, np.random.default_rng(seed))
        assert (labels[[0, 1, -2, -1]] == -100).all()
        assert seen[2:-2].max() < 256
    seen, labels = hide(np.array([258, 256, 259]), np.random.default_rng(0))
    assert seen.tolist() == [258, 256, 259]
    assert (labels == -100).all()


@pytest.mark.parametrize("unit", ["word", "span"])
def test_words_are_hidden_whole(unit: str) -> None:
    hide, ids = masking(unit=unit), TOKENIZER.encode(TEXT).astype(np.int64)
    words = word_ids(ids, TOKENIZER.pieces)
    for seed in range(100):
        asked = hide(ids, np.random.default_rng(seed))[1] != -100
        for word in range(words[-1] + 1):
            assert len(set(asked[words == word].tolist())) == 1


def test_spans_have_geometric_lengths() -> None:
    pieces = [b" a"] * 10  # every token a word
    hide = Masking(10, 9, frozenset({9}), rate=0.02, unit="span", pieces=pieces)
    ids, lengths = np.zeros(2000, np.int64), []
    for seed in range(40):
        asked = hide(ids, np.random.default_rng(seed))[1] != -100
        lengths += [len(list(run)) for hidden, run in itertools.groupby(asked.tolist()) if hidden]
    odds = 0.2 * 0.8 ** np.arange(10)
    mean = float((np.arange(1, 11) * odds).sum() / odds.sum())
    assert np.mean(lengths) == pytest.approx(mean, rel=0.1)  # 3.8, as SpanBERT says
    assert max(lengths) <= 20  # two spans may touch


def test_what_is_hidden_depends_on_seed_and_index_alone() -> None:
    four = examples()
    one = objective().batch(four, np.random.default_rng(0))
    two = objective().batch(four[::-1], np.random.default_rng(99))
    assert torch.equal(one["input_ids"], two["input_ids"].flip(0))
    next_epoch = [example | {"index": example["index"] + 1000} for example in four]
    assert not torch.equal(one["input_ids"], objective().batch(next_epoch, np.random.default_rng(0))["input_ids"])
    other = MaskedObjective(masking(), 258, 259, seed=4).batch(four, np.random.default_rng(0))
    assert not torch.equal(one["input_ids"], other["input_ids"])


def test_the_loss_is_that_of_the_hidden_tokens(model: Any) -> None:
    batch = objective().batch(examples(), np.random.default_rng(0))
    total = objective().terms(model.eval(), batch)["masked"]
    theirs = model(input_ids=batch["input_ids"], labels=batch["labels"]).loss
    torch.testing.assert_close(total.mean(), theirs)
    assert rows_path(model) == "masked hidden states"
    total.mean().backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    theirs.backward()
    for name, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(ours[name], p.grad, rtol=1e-4, atol=1e-6)
    model.zero_grad()


def test_only_hidden_rows_reach_the_head(model: Any) -> None:
    batch, sizes = objective().batch(examples(), np.random.default_rng(0)), []
    objective().terms(model, batch)
    handle = model.head.register_forward_hook(lambda _, i, __: sizes.append(i[0].numel()))
    objective().terms(model, batch)
    handle.remove()
    assert sizes == [len(batch["rows"]) * model.config.hidden_size]
    out = head_on_rows(model, {"input_ids": batch["input_ids"]}, batch["rows"])
    assert out.head is not None
    assert out.states.shape == (len(batch["rows"]), model.config.hidden_size)


def test_documents_do_not_see_each_other(model: Any) -> None:
    rows = [example | {"documents": np.repeat([3, 4], 15).astype(np.int32)} for example in examples()]
    check_objective(objective(), model, rows)
    batch = objective().batch(rows, np.random.default_rng(0))
    assert batch["attention_mask"].shape == (4, 1, 32, 32)
    assert batch["attention_mask"][0, 0, :16, :16].all()  # [CLS] belongs to the first, [SEP] to the last
    assert not batch["attention_mask"][0, 0, :16, 16:].any()


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_masked_keeps_the_laws(model: Any, unit: str) -> None:
    check_objective(objective(unit=unit), model, examples())


class Miscounted(MaskedObjective):
    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"masked": torch.tensor(float(batch["labels"].numel()))}


class Unhidden(MaskedObjective):
    def batch(self, examples: Any, rng: Any) -> dict[str, torch.Tensor]:
        batch = super().batch(examples, rng)
        asked = batch["labels"] != -100
        return batch | {"input_ids": torch.where(asked, batch["labels"], batch["input_ids"])}


class Whispering(MaskedObjective):
    def terms(self, model: Any, batch: dict[str, torch.Tensor]) -> Any:
        told = batch["input_ids"].clone()
        told[:, 0] = batch["labels"].max(1).values
        return super().terms(model, batch | {"input_ids": told})


class Careless(MaskedObjective):
    def batch(self, examples: Any, rng: Any) -> dict[str, torch.Tensor]:
        forgotten = [{key: value for key, value in each.items() if key != "index"} for each in examples]
        return super().batch(forgotten, np.random.default_rng())


class Averaged(MaskedObjective):
    def terms(self, model: Any, batch: dict[str, torch.Tensor]) -> Any:
        from lossmith.total import Total

        total = super().terms(model, batch)["masked"]
        return {"masked": Total(total.mean(), total.weight)}


class Together(MaskedObjective):
    def batch(self, examples: Any, rng: Any) -> dict[str, torch.Tensor]:
        return {key: value for key, value in super().batch(examples, rng).items() if key != "attention_mask"}


class Unshifted(CausalObjective):
    def batch(self, examples: Any, rng: Any) -> dict[str, torch.Tensor]:
        batch = super().batch(examples, rng)
        return batch | {"labels": batch["input_ids"]}


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (Miscounted, "counts"), (Unhidden, "leak"), (Whispering, "leak"), (Careless, "repeatable"),
        (Averaged, "split"), (Together, "documents"),
    ],
)  # fmt: skip
def test_planted_faults_are_found(model: Any, kind: type[MaskedObjective], law: str) -> None:
    rows = [example | {"documents": np.repeat([3, 4], 15).astype(np.int32)} for example in examples()]
    with pytest.raises(ObjectiveError, match=law):
        check_objective(kind(masking(), 258, 259), model, rows, laws=[law])


def test_causal_keeps_the_laws_and_its_faults_are_found() -> None:
    causal = build_model("nano", vocab_size=261, context=32)
    with torch.no_grad():
        for p in causal.parameters():
            if not p.any():
                p.normal_(std=0.1)
    rows = [example | {"documents": np.repeat([0, 1], 15).astype(np.int32)} for example in examples()]
    check_objective(CausalObjective(), causal, rows)
    with pytest.raises(ObjectiveError, match="leak"):
        check_objective(Unshifted(), causal, rows, laws=["leak"])


def test_a_model_that_sees_the_future_is_found(model: Any) -> None:
    with pytest.raises(ObjectiveError, match="future"):
        check_objective(CausalObjective(), model, examples(), laws=["future"])
