"""Sentence pairs: what follows what, told apart half of the time, beside what is hidden."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig

from lossmith.data import Pairs, Split, Tokenizer
from lossmith.models import build_model
from lossmith.models.build import instantiate
from lossmith.objectives import Masking, SentencePairObjective
from lossmith.testing import ObjectiveError, check_objective

TOKENIZER = Tokenizer.byte().with_special(["pad", "cls", "sep", "mask"])
DOCUMENTS, LENGTH = 6, 400


@pytest.fixture(scope="module")
def split() -> Split:
    """Six documents: every token says which one it is of (its tens) and counts within it (its ones)."""
    tokens = np.concatenate([10 * d + np.arange(LENGTH) % 10 for d in range(DOCUMENTS)]).astype(np.uint16)
    return Split(tokens, np.arange(0, DOCUMENTS * LENGTH + 1, LENGTH), len(tokens))


def objective(task: str = "next") -> SentencePairObjective:
    return SentencePairObjective(Masking(261, 260, TOKENIZER.special_ids), 258, 259, 3, task)


def examples(split: Split, n: int, size: int = 28) -> list[dict[str, Any]]:
    pairs = Pairs(split, size, seed=5)
    return [pairs.example(i) | {"index": np.int64(i)} for i in range(n)]


@pytest.fixture(scope="module")
def model() -> Any:
    """BERT, which has a head for pairs of its own."""
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    config = BertConfig(vocab_size=261, max_position_embeddings=64, pad_token_id=257, hidden_dropout_prob=0.0, **shape)
    config.attention_probs_dropout_prob = 0.0
    return instantiate(config, "sentence_pair")


@pytest.fixture(scope="module")
def nano() -> Any:
    """ModernBERT, which has none."""
    return build_model("nano", vocab_size=261, context=64, architecture="sentence_pair", pad_id=257)


def test_a_stranger_is_of_another_document(split: Split) -> None:
    for example in examples(split, 200):
        first, second, stranger = (example[name] for name in ("first", "second", "random"))
        assert np.array_equal(np.concatenate([first, second]), example["tokens"])
        assert len(stranger) == len(second) > 0 < len(first)
        assert stranger[0] // 10 != second[0] // 10
        assert first[-1] // 10 == second[0] // 10  # what follows is of the same document
        assert np.all(np.diff(stranger % 10) % 10 == 1)  # as it stands there
    one = Split(split.tokens[:LENGTH], np.array([0, LENGTH]), LENGTH)
    assert all(len(example["random"]) == len(example["second"]) for example in examples(one, 20))


def test_nothing_but_its_subject_tells_a_stranger_from_what_follows() -> None:
    """Short documents: both parts begin inside one, and run on into the next as often; a long one: from anywhere."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 40, 3000)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    tokens = rng.integers(1, 1000, bounds[-1]).astype(np.uint16)
    tokens[bounds[:-1]] = 0  # what every document begins with
    found = [(e["second"], e["random"]) for e in examples(Split(tokens, bounds, len(tokens)), 2000)]
    begins, crosses = ([np.mean([f(part) for part in parts]) for parts in zip(*found, strict=True)] for f in (
        lambda part: part[0] == 0, lambda part: (part == 0).any()))  # fmt: skip
    assert begins == [0, 0]
    assert crosses[1] == pytest.approx(crosses[0], abs=0.05)
    assert 0.4 < crosses[0] < 0.9
    text = np.arange(60_000).astype(np.uint16)
    for bounds in ([0, len(text)], [0, len(text) - 4, len(text)]):  # alone, and beside a document hardly ever met
        one = Split(text, np.array(bounds), len(text))
        places = np.array([e["random"][0] for e in examples(one, 2000)]) / len(text)
        assert np.std(places) == pytest.approx(12**-0.5, abs=0.01)  # uniform; the ends alone would give 0.5
    away = [abs(int(e["random"][0]) - int(e["second"][0])) / len(e["second"]) for e in examples(one, 200)]
    assert min(away) >= 16


def test_half_of_the_pairs_are_strangers_and_labelled_so(split: Split) -> None:
    rows = examples(split, 600)
    batch = objective().batch(rows, np.random.default_rng(0))
    assert batch["sentence_labels"].float().mean() == pytest.approx(0.5, abs=0.07)
    ids = torch.where(batch["labels"] != -100, batch["labels"], batch["input_ids"])
    for row, types, example, label in zip(ids, batch["token_type_ids"], rows, batch["sentence_labels"], strict=True):
        second = example["random" if label else "second"].tolist()
        assert row[types == 0].tolist() == [258, *example["first"].tolist(), 259]
        assert row[types == 1].tolist() == [*second, 259]


def test_order_swaps_the_two(split: Split) -> None:
    rows = examples(split, 40)
    batch = objective("order").batch(rows, np.random.default_rng(0))
    ids = torch.where(batch["labels"] != -100, batch["labels"], batch["input_ids"])
    assert 0 < int(batch["sentence_labels"].sum()) < 40
    for row, example, label in zip(ids, rows, batch["sentence_labels"], strict=True):
        parts = [example["first"], example["second"]]
        a, b = parts[::-1] if label else parts
        assert row.tolist() == [258, *a.tolist(), 259, *b.tolist(), 259]


def test_both_losses_are_those_of_the_model_itself(split: Split, model: Any) -> None:
    batch = objective().batch(examples(split, 6), np.random.default_rng(0))
    terms = objective().terms(model.eval(), batch)
    assert {name: float(total.weight) for name, total in terms.items()} == {
        "masked": len(batch["rows"]),
        "next_sentence": 6,
    }
    inputs = {key: batch[key] for key in ("input_ids", "token_type_ids", "labels")}
    theirs = model(**inputs, next_sentence_label=batch["sentence_labels"]).loss
    torch.testing.assert_close(terms["masked"].mean() + terms["next_sentence"].mean(), theirs)
    assert terms["next_sentence"].mean().item() == pytest.approx(math.log(2), abs=0.3)


@pytest.mark.parametrize("task", ["next", "order"])
@pytest.mark.parametrize("kind", ["model", "nano"])
def test_the_laws_hold(split: Split, task: str, kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    check_objective(objective(task).adopt(model), model, examples(split, 4))


def test_a_model_without_such_a_head_is_given_one(split: Split, model: Any, nano: Any) -> None:
    assert objective().adopt(model).own is None
    given = objective().adopt(nano)
    assert isinstance(given.own, torch.nn.Linear)
    assert torch.equal(given.own.weight, objective().adopt(nano).own.weight)  # drawn by the seed
    batch = given.batch(examples(split, 6), np.random.default_rng(0))
    first = nano.eval().base_model(input_ids=batch["input_ids"]).last_hidden_state[:, 0]
    expected = torch.nn.functional.cross_entropy(given.own(first), batch["sentence_labels"])
    torch.testing.assert_close(given.terms(nano, batch)["next_sentence"].mean(), expected)
    given.terms(nano, batch)["next_sentence"].value.backward()
    assert given.own.weight.grad is not None
    assert float(given.own.weight.grad.abs().sum()) > 0


class Telling(SentencePairObjective):
    def terms(self, model: Any, batch: dict[str, torch.Tensor]) -> Any:
        types = batch["token_type_ids"] * batch["sentence_labels"][:, None]
        return super().terms(model, batch | {"token_type_ids": types})


def test_a_label_that_is_told_is_found(split: Split, model: Any) -> None:
    with pytest.raises(ObjectiveError, match="leak"):
        check_objective(Telling(objective().masking, 258, 259), model, examples(split, 4), laws=["leak"])
