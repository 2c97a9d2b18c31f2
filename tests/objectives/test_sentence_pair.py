"""Sentence pairs: what follows what, told apart half of the time, beside what is hidden."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from lossmith.data import Pairs, Split, Tokenizer
from lossmith.errors import InputError
from lossmith.models import build_model
from lossmith.objectives import Masking, SentencePairObjective
from lossmith.objectives.sentence_pair import check_sentence_head
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
    return build_model("nano", vocab_size=261, context=64, architecture="sentence_pair", pad_id=257)


def test_a_stranger_is_of_another_document(split: Split) -> None:
    for example in examples(split, 200):
        first, second, stranger = (example[name] for name in ("first", "second", "random"))
        assert np.array_equal(np.concatenate([first, second]), example["tokens"])
        assert len(stranger) == len(second) > 0 < len(first)
        assert len(set((stranger // 10).tolist())) == 1  # out of one document
        assert stranger[0] // 10 != first[0] // 10
        assert np.all(np.diff(stranger % 10) % 10 == 1)  # as it stands there
    one = Split(split.tokens[:LENGTH], np.array([0, LENGTH]), LENGTH)
    assert all(len(example["random"]) == len(example["second"]) for example in examples(one, 20))


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
def test_the_laws_hold(split: Split, model: Any, task: str) -> None:
    check_objective(objective(task), model, examples(split, 4))


class Telling(SentencePairObjective):
    def terms(self, model: Any, batch: dict[str, torch.Tensor]) -> Any:
        types = batch["token_type_ids"] * batch["sentence_labels"][:, None]
        return super().terms(model, batch | {"token_type_ids": types})


def test_a_label_that_is_told_is_found(split: Split, model: Any) -> None:
    with pytest.raises(ObjectiveError, match="leak"):
        check_objective(Telling(objective().masking, 258, 259), model, examples(split, 4), laws=["leak"])


def test_a_model_without_such_a_head_is_refused() -> None:
    masked = build_model("nano", vocab_size=261, context=64, architecture="masked", pad_id=257)
    with pytest.raises(InputError, match="needs a model with a head for pairs"):
        check_sentence_head(masked)
