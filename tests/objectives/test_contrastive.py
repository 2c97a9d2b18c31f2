"""Contrastive learning: the loss by the formula, cached gradients, equal texts, pooling, and laws that catch faults."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

from lossmith.data import Tokenizer
from lossmith.errors import InputError
from lossmith.models.dropout import drops, set_dropout
from lossmith.objectives import ContrastiveObjective, own_tensors
from lossmith.objectives.embedding import key_groups
from lossmith.testing import ObjectiveError, check_objective

TOKENIZER = Tokenizer.byte().with_special(["pad", "cls", "sep"])
PAD, CLS, SEP = 257, 258, 259
TEXTS = ["Der Hund bellt.", "今天天气很好。", "a", "The dog barks at night.", "夜里狗叫。", "Yes?"]
SINGLE = ContrastiveObjective(CLS, SEP, PAD)
PAIRS = ContrastiveObjective(CLS, SEP, PAD, columns=2)
TRIPLES = ContrastiveObjective(CLS, SEP, PAD, columns=3)


def ids(text: str) -> np.ndarray:
    return TOKENIZER.encode(text).astype(np.int64)


def examples(texts: list[str] = TEXTS, columns: int = 1) -> list[dict[str, Any]]:
    names = ("tokens", "positive", "negative")[:columns]
    marks = ("", " (the same)", " (another)")
    return [{name: ids(text + mark) for name, mark in zip(names, marks, strict=False)} for text in texts]


def model(dropout: float = 0.1, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(
        vocab_size=260, max_position_embeddings=64, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        pad_token_id=PAD, **shape,
    )  # fmt: skip
    return BertModel(config)


def batch_of(objective: ContrastiveObjective, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    return objective.batch(rows, np.random.default_rng(0))


def test_a_batch_is_padded_to_the_longest_and_nothing_is_cut() -> None:
    batch = batch_of(TRIPLES, examples(columns=3))
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (18, max(map(len, map(ids, TEXTS))) + 13)
    for row, mask, text in zip(batch["input_ids"], batch["attention_mask"], TEXTS, strict=False):
        n = int(mask.sum())
        assert row[:n].tolist() == [CLS, *ids(text), SEP]
        assert (row[n:] == PAD).all()
        assert mask[:n].all()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("objective", [PAIRS, TRIPLES], ids=["pairs", "triples"])
def test_the_loss_is_the_formula_on_texts_encoded_alone(objective: ContrastiveObjective, pooling: str) -> None:
    objective, encoder = replace(objective, pooling=pooling, temperature=0.2), model().double().eval()
    rows = examples(columns=objective.columns)
    total = objective.terms(encoder, batch_of(objective, rows))["contrastive"]

    def vector(tokens: np.ndarray) -> Tensor:
        states = encoder(torch.tensor([[CLS, *tokens, SEP]])).last_hidden_state[0]
        return nn.functional.normalize(states.mean(0) if pooling == "mean" else states[0], dim=0)

    queries = torch.stack([vector(row["tokens"]) for row in rows])
    names = ("positive", "negative")[: objective.columns - 1]
    keys = torch.stack([vector(row[name]) for name in names for row in rows])
    expected = nn.functional.cross_entropy(queries @ keys.T / 0.2, torch.arange(len(rows)), reduction="sum")
    torch.testing.assert_close(total.value, expected)
    assert float(total.weight) == float(objective.counts(batch_of(objective, rows))["contrastive"]) == len(rows)


def test_two_views_of_a_text_differ_by_dropout_alone() -> None:
    encoder, batch = model().double(), batch_of(SINGLE, examples())
    torch.manual_seed(3)
    vectors = SINGLE.vectors(encoder.train(), batch)
    assert not torch.allclose(vectors[:6], vectors[6:])
    torch.testing.assert_close(*SINGLE.vectors(encoder.eval(), batch).split(6))
    # without dropout the partner stands at cosine 1: what is left is how far the others are
    same = SINGLE.terms(model(dropout=0.0).train(), batch)["contrastive"].mean()
    assert 0 < same.item() < math.log(6)


def test_equal_texts_are_no_negatives_of_each_other() -> None:
    encoder = model(dropout=0.0).double().train()
    rows = examples(["one", "two", "one"])
    loss = SINGLE.terms(encoder, batch_of(SINGLE, rows))["contrastive"].value
    pair = SINGLE.terms(encoder, batch_of(SINGLE, rows[:2]))["contrastive"].value
    other = SINGLE.terms(encoder, batch_of(SINGLE, rows[1:]))["contrastive"].value
    one, two = (x.item() for x in _each(encoder, rows[:2]))
    assert pair.item() == pytest.approx(one + two)
    assert other.item() == pytest.approx(one + two)
    doubled = math.log(2 * math.exp(two) - 1)  # the text that occurs once has the other one twice
    assert loss.item() == pytest.approx(2 * one + doubled)


def _each(encoder: Any, rows: list[dict[str, Any]]) -> list[Tensor]:
    unit = nn.functional.normalize(SINGLE.vectors(encoder, batch_of(SINGLE, rows))[: len(rows)], dim=-1)
    return list(nn.functional.cross_entropy(unit @ unit.T / 0.05, torch.arange(len(rows)), reduction="none"))


def test_false_negatives_are_found_through_pairs_and_hard_negatives() -> None:
    # anchors 1, 2, 3; partners 4, 5, 4; hard negatives 6, 1, 5: 1 and 3 share their partner
    groups = key_groups([[1, 2, 3, 4, 5, 4, 6, 1, 5]], 3)
    assert groups[0] == groups[2] == groups[4] != groups[1] == groups[5]
    assert groups[3] == 6
    # the same on another rank: keys are the own rank's first
    assert key_groups([[1, 2], [3, 2]], 1) == [2, 2]
    assert len(set(key_groups([[1, 2], [3, 4]], 1))) == 2


@pytest.mark.parametrize("size", [1, 5, 12])
def test_cached_gradients_are_those_of_the_whole_batch(size: int) -> None:
    rows = examples(columns=3)
    for dropout in (0.0, 0.3):
        whole = gradients(replace(TRIPLES, pooling="cls"), dropout, rows, size if dropout else None)
        cached = gradients(replace(TRIPLES, pooling="cls", mini_batch_size=size), dropout, rows, None)
        assert cached.keys() == whole.keys()
        for name in whole:
            torch.testing.assert_close(cached[name], whole[name], rtol=1e-12, atol=1e-14)


def gradients(
    objective: ContrastiveObjective, dropout: float, rows: list[dict[str, Any]], parts: int | None
) -> dict[str, Tensor]:
    """Gradients of the loss; parts: encode so many texts at a time (dropout is drawn as then), and keep everything."""
    encoder = model(dropout)
    objective = replace(objective, learn_temperature=True, mlp_head=True, dropout=dropout).adopt(encoder)
    encoder, own = encoder.double().train(), own_tensors(objective)
    assert own is not None
    own.double()
    batch = batch_of(objective, rows)
    torch.manual_seed(11)
    if parts:
        split = zip(batch["input_ids"].split(parts), batch["attention_mask"].split(parts), strict=True)
        vectors = torch.cat([objective._embed(encoder, *part) for part in split])
        total = objective._loss(vectors, batch["text_ids"], everyone=True)
    else:
        total = objective.terms(encoder, batch)["contrastive"]
    total.mean().backward()
    named = [*encoder.named_parameters(), *own.named_parameters()]
    found = {name: p.grad for name, p in named if p.grad is not None}
    assert {name for name, p in named if p.grad is None} == {"pooler.dense.weight", "pooler.dense.bias"}
    return found


def test_the_memory_of_cached_gradients_is_that_of_a_part() -> None:
    """Bytes that autograd keeps between the forward and the backward pass."""
    rows = examples([f"sentence number {i} of many, {i * i}" for i in range(48)])

    def kept(objective: ContrastiveObjective, count: int) -> int:
        encoder, seen = model().train(), {}

        def pack(tensor: Tensor) -> Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        owned = {p.untyped_storage().data_ptr() for p in encoder.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            batch = batch_of(objective, rows[:count])
            alive = objective.terms(encoder, batch)
        assert alive["contrastive"].value.requires_grad
        return sum(size for pointer, size in seen.items() if pointer not in owned)

    cached = replace(SINGLE, mini_batch_size=8)
    assert kept(cached, 48) < kept(SINGLE, 48) / 20
    # what grows with the batch are its embeddings (16 numbers a text) and the rows of the batch itself
    assert kept(cached, 48) - kept(cached, 24) < 24 * 2 * (64 + 2 * 8 * 64)


def test_bfloat16_takes_the_loss_in_float32() -> None:
    encoder, batch = model().train(), batch_of(PAIRS, examples(columns=2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = replace(PAIRS, mini_batch_size=5).terms(encoder.eval(), batch)["contrastive"]
    high = PAIRS.terms(encoder, batch)["contrastive"]
    assert low.value.dtype == torch.float32
    assert low.mean().item() == pytest.approx(high.mean().item(), abs=0.1)
    low.mean().backward()


def test_dropout_is_set_and_must_be_there() -> None:
    encoder = model(dropout=0.0)
    assert not drops(encoder)
    adopted = replace(SINGLE, dropout=0.2).adopt(encoder)
    assert drops(encoder)
    assert encoder.config.hidden_dropout_prob == encoder.config.attention_probs_dropout_prob == 0.2
    assert own_tensors(adopted) is None
    assert not any(p.requires_grad for p in encoder.pooler.parameters())
    with pytest.raises(InputError, match="--dropout 0 leaves none"):
        replace(SINGLE, dropout=0.0).adopt(encoder)
    replace(PAIRS, dropout=0.0).adopt(encoder)  # pairs need none
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    llama = LlamaModel(LlamaConfig(vocab_size=260, **shape))
    set_dropout(llama, 0.1)
    assert drops(llama)  # of attention alone


def test_a_learned_temperature_stays_in_its_range_and_gets_a_gradient() -> None:
    encoder = model()
    objective = replace(SINGLE, learn_temperature=True, temperature=0.07).adopt(encoder)
    own = own_tensors(objective)
    assert own is not None
    assert sum(p.numel() for p in own.parameters()) == 1
    with torch.no_grad():
        own["temperature"].log_scale.fill_(50.0)
    objective.terms(encoder.train(), batch_of(objective, examples()))["contrastive"].mean().backward()
    assert own["temperature"].log_scale.grad is not None
    assert own["temperature"]().item() == pytest.approx(0.01)


def test_alignment_and_uniformity_are_the_papers() -> None:
    encoder, rows = model().double().eval(), examples(columns=2)
    batch = batch_of(PAIRS, rows)
    terms, figures = PAIRS.scored(encoder, batch)
    unit = nn.functional.normalize(PAIRS.vectors(encoder, batch), dim=-1)
    a, b = unit[:6], unit[6:]
    assert figures["alignment"].mean().item() == pytest.approx((a - b).square().sum(1).mean().item())
    squared = [(a[i] - a[j]).square().sum().item() for i in range(6) for j in range(6) if i != j]
    expected = math.log(np.mean(np.exp(-2 * np.array(squared))))
    assert figures["uniformity"].mean().item() == pytest.approx(expected)
    torch.testing.assert_close(terms["contrastive"].value, PAIRS.terms(encoder, batch)["contrastive"].value)


def test_evaluation_draws_the_same_dropout_each_time_and_leaves_the_mode() -> None:
    encoder, batch = model().eval(), batch_of(SINGLE, examples())
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, two = (SINGLE.terms(encoder, batch)["contrastive"].value for _ in range(2))
    assert torch.equal(one, two)
    assert not encoder.training
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_the_laws_hold(columns: int) -> None:
    objective = ContrastiveObjective(CLS, SEP, PAD, columns=columns, mini_batch_size=4)
    check_objective(objective, model(), examples(columns=columns))


class Counting(ContrastiveObjective):
    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"contrastive": torch.tensor(float(len(batch["input_ids"])))}


class Unmasked(ContrastiveObjective):
    def _embed(self, encoder: Any, ids: Tensor, mask: Tensor) -> Tensor:
        return super()._embed(encoder, ids, torch.ones_like(mask))


class Mixing(ContrastiveObjective):
    def _embed(self, encoder: Any, ids: Tensor, mask: Tensor) -> Tensor:
        return super()._embed(encoder, ids.sort(0).values, mask)


class Moody(ContrastiveObjective):
    def batch(self, rows: Any, rng: np.random.Generator) -> dict[str, Tensor]:
        made = super().batch(rows, rng)
        made["input_ids"][:, 1] = int(np.random.default_rng().integers(250))
        return made


@pytest.mark.parametrize(
    ("kind", "law"), [(Counting, "counts"), (Unmasked, "rows"), (Mixing, "rows"), (Moody, "repeatable")]
)
def test_the_laws_catch_faults(kind: type[ContrastiveObjective], law: str) -> None:
    with pytest.raises(ObjectiveError, match=law):
        check_objective(kind(CLS, SEP, PAD, columns=2), model(), examples(columns=2))


def test_a_batch_in_words_and_who_stands_near() -> None:
    batch = batch_of(TRIPLES, [*examples(columns=3), *examples(columns=3)[:1]])
    rows = TRIPLES.described(batch, TOKENIZER)
    assert [row["sees"] for row in rows] == [*TEXTS, TEXTS[0]]
    assert rows[1]["positive"] == "今天天气很好。 (the same)"
    assert rows[1]["masked"] == []
    assert rows[0]["masked"] == [6]
    assert "not compared with example 7 of it: the same text" in rows[0]["says"]
    assert "made to mislead" in rows[0]["says"]
    prompt, near = TRIPLES.shown(model().eval(), batch, TOKENIZER, 60)
    assert prompt == TEXTS[0]
    assert near.splitlines()[0] == f"1.00  {TEXTS[0]}"
    assert len(near.splitlines()) == 5
