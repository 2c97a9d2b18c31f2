"""Fill-in-the-middle, prefix-LM, multi-token prediction, distillation and mixtures: their batches, losses and laws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from lossmith.data import Tokenizer
from lossmith.errors import InputError
from lossmith.models.causality import check_prefix
from lossmith.objectives import (
    CausalObjective,
    DistillObjective,
    FimObjective,
    MixtureObjective,
    MultiTokenObjective,
    PrefixObjective,
    spec_named,
    weighted,
)
from lossmith.testing import ObjectiveError, check_objective

SIZE, PAD, END = 24, 23, 0
RNG = np.random.default_rng(0)


def llama(width: int = 32, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    shape = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "hidden_size": width}
    return LlamaForCausalLM(LlamaConfig(vocab_size=SIZE, **shape, max_position_embeddings=64)).eval()


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return llama()


def examples(n: int = 4, length: int = 17, *, documents: bool = False) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for i in range(n):
        tokens = np.random.default_rng(i).integers(1, 20, length)
        tokens[7] = END
        own = {"documents": (np.arange(length) >= 7).astype(np.int32)} if documents else {}
        made.append({"tokens": tokens, "index": np.int64(i), **own})
    return made


def fim(**options: Any) -> FimObjective:
    fields: dict[str, Any] = {"rate": 1.0, "spm_rate": 0.5, "cuts": 2} | options
    return FimObjective((20, 21, 22), PAD, END, **fields)


def multi_token(model: Any, base: CausalObjective | None = None) -> MultiTokenObjective:
    made = MultiTokenObjective(base or CausalObjective(), 2, 0.5).adopt(model)
    assert made.own is not None
    for block in made.own:  # at the start a head is the identity
        torch.nn.init.normal_(block.out.weight, std=0.3)
    return made


def distilled(model: Any, **options: Any) -> DistillObjective:
    return DistillObjective(CausalObjective(), lambda: llama(48, 1), **options).adopt(model)


def family(model: Any) -> dict[str, Any]:
    mixed = {"causal": CausalObjective(), "prefix": PrefixObjective(), "fim": fim()}
    return {
        "fim": fim(),
        "prefix": PrefixObjective(),
        "multi_token": multi_token(model),
        "multi_token fim": multi_token(model, fim()),
        "distill": distilled(model),
        "mixture": MixtureObjective(mixed, dict.fromkeys(mixed, 0.5)),
    }


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("name", ["fim", "prefix", "multi_token", "multi_token fim", "distill", "mixture"])
def test_the_laws_hold(model: Any, name: str, documents: bool) -> None:
    check_objective(family(model)[name], model, examples(documents=documents))


class Forgetful(FimObjective):
    def _cut(self, piece: Any, rng: Any) -> Any:
        return [(part, True) for part, _ in super()._cut(piece, rng)]  # text that is never asked

    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"fim": torch.tensor(float(batch["labels"].numel()))}


class Together(FimObjective):
    def batch(self, examples: Any, rng: Any) -> dict[str, torch.Tensor]:
        batch = super().batch(examples, rng)
        return {key: batch[key] for key in batch if key not in ("attention_mask", "position_ids")}


class Asking(PrefixObjective):
    def batch(self, examples: Any, rng: Any) -> dict[str, torch.Tensor]:
        batch = super().batch(examples, rng)
        labels = torch.from_numpy(np.stack([example["tokens"] for example in examples]))[:, 1:]
        return batch | {"labels": labels, "attention_mask": torch.ones_like(batch["attention_mask"])}


class Telling(MultiTokenObjective):
    def terms(self, model: Any, batch: dict[str, torch.Tensor]) -> Any:
        told = torch.where(batch["labels_2"] != -100, batch["labels_2"], batch["input_ids"])
        return super().terms(model, batch | {"input_ids": told})


class Lopsided(DistillObjective):
    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return super().counts(batch) | {"distill": torch.tensor(1.0)}


def faults(model: Any) -> dict[str, tuple[Any, str]]:
    numbers = (20, 21, 22), PAD, END, 1.0, 0.5, 2
    telling = Telling(CausalObjective(), 2, 0.5).adopt(model)
    return {
        "fim counts": (Forgetful(*numbers), "counts"),
        "fim documents": (Together(*numbers), "documents"),
        "prefix future": (Asking(), "future"),
        "multi-token leak": (telling, "leak"),
        "distill counts": (Lopsided(CausalObjective(), lambda: llama(48, 1)).adopt(model), "counts"),
        "mixture future": (
            MixtureObjective({"causal": CausalObjective(), "b": Asking()}, {"causal": 1, "b": 1}),
            "future",
        ),
    }


@pytest.mark.parametrize(
    "name", ["fim counts", "fim documents", "prefix future", "multi-token leak", "distill counts", "mixture future"]
)
def test_planted_faults_are_found(model: Any, name: str) -> None:
    objective, law = faults(model)[name]
    with pytest.raises(ObjectiveError, match=law):
        check_objective(objective, model, examples(documents="documents" in name), laws=[law])


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.lists(st.sampled_from([END, *range(1, 20)]), min_size=2, max_size=40),
    rate=st.sampled_from([0.0, 0.5, 1.0]), spm_rate=st.sampled_from([0.0, 0.5, 1.0]), cuts=st.integers(1, 4),
    index=st.integers(0, 10**6),
)  # fmt: skip
def test_no_token_is_lost(tokens: list[int], rate: float, spm_rate: float, cuts: int, index: int) -> None:
    objective = fim(rate=rate, spm_rate=spm_rate, cuts=cuts)
    example = {"tokens": np.array(tokens), "index": np.int64(index)}
    batch = objective.batch([example], RNG)
    row = np.append(batch["input_ids"][0].numpy(), batch["labels"][0, -1].numpy())
    assert len(row) == len(tokens) + 3 * cuts + 1
    text = row[(row >= 0) & (row < 20)].tolist()
    ended = len(text) - len(tokens)  # an end mark behind a document that ends the window
    assert ended in (0, 1)
    assert sorted(text) == sorted(tokens + [END] * ended)
    cut = int((row == 21).sum())
    assert cut <= cuts
    assert (row == 20).sum() == (row == 22).sum() == cut
    asked = batch["labels"][0][batch["labels"][0] != -100].tolist()
    assert sorted(asked) == sorted(text[1:] if row[0] < 20 else text)  # all but what stands first; no sentinel
    assert torch.equal(objective.batch([example], np.random.default_rng(9))["input_ids"], batch["input_ids"])


def rebuilt(row: list[int]) -> list[int]:
    """Put one cut document back in order: PSM and SPM are told apart by where the prefix stands."""
    if row[1] == 22:  # SPM: suffix, then prefix and middle
        at = row.index(21)
        return row[at + 1 :] + row[2:at]
    at, gap = row.index(22), row.index(21)
    return row[1:at] + row[gap + 1 :] + row[at + 1 : gap]


@pytest.mark.parametrize("spm_rate", [0.0, 1.0])
def test_a_cut_document_can_be_put_together_again(spm_rate: float) -> None:
    tokens, orders = np.arange(1, 12), set()
    for index in range(20):
        batch = fim(spm_rate=spm_rate, cuts=1).batch([{"tokens": tokens, "index": np.int64(index)}], RNG)
        row = batch["input_ids"][0].tolist()
        assert rebuilt(row) == tokens.tolist()
        assert batch["labels"][0, -1] == END
        orders.add(tuple(row))
    assert len(orders) > (5 if spm_rate else 10)  # of SPM the row tells where the suffix begins alone


def test_rate_is_the_part_of_documents_that_is_cut() -> None:
    tokens = np.tile([END, *range(1, 10)], 30)
    rows = [{"tokens": tokens, "index": np.int64(i)} for i in range(40)]
    many = fim(rate=0.3, cuts=30).batch(rows, RNG)["input_ids"]
    assert float((many == 21).sum()) / 1200 == pytest.approx(0.3, abs=0.04)
    few = fim(rate=0.3, cuts=2).batch(rows, RNG)["input_ids"]
    assert ((few == 21).sum(1) <= 2).all()


def test_a_prefix_is_seen_from_both_sides_and_not_asked(model: Any) -> None:
    example = examples(1)[0]
    batch = PrefixObjective(seed=3).batch([example], RNG)
    n = int(batch["prefix"].sum())
    assert 2 <= n < 16
    assert (batch["labels"][0] != -100).sum() == 16 - n + 1
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}

    def states(place: int) -> torch.Tensor:
        ids = batch["input_ids"].clone()
        ids[0, place] = (ids[0, place] + 1) % 20
        with torch.no_grad():
            out: torch.Tensor = model.model(**inputs | {"input_ids": ids}).last_hidden_state[0]
        return out

    with torch.no_grad():
        plain = model.model(**inputs).last_hidden_state[0]
    assert (states(n - 1) - plain)[0].abs().max() > 1e-4
    assert (states(n) - plain)[:n].abs().max() < 1e-6


def test_each_document_has_a_prefix_of_its_own() -> None:
    batch = PrefixObjective().batch(examples(documents=True), RNG)
    assert batch["prefix"][:, 0].all()
    assert batch["prefix"][:, 7].all()
    assert not batch["attention_mask"][:, 0, 7:, :7].any()


def test_models_are_asked_whether_they_obey_a_prefix() -> None:
    shape = {"vocab_size": SIZE, "n_layer": 2, "n_head": 2}
    check_prefix(llama(), "llama")
    check_prefix(GPT2LMHeadModel(GPT2Config(**shape, n_embd=16, n_positions=32)), "gpt2")
    with pytest.raises(InputError, match="obeys a mask: --model bloom"):
        check_prefix(BloomForCausalLM(BloomConfig(**shape, hidden_size=16)), "bloom")


def test_heads_predict_the_tokens_after_the_next(model: Any) -> None:
    objective, rows = multi_token(model), examples()
    batch = objective.batch(rows, RNG)
    terms = objective.terms(model, batch)
    assert list(terms) == ["causal", "mtp_2", "mtp_3"] == list(objective.names)
    tokens = torch.from_numpy(np.stack([row["tokens"] for row in rows]))
    assert objective.own is not None
    with torch.no_grad():
        hidden = model.model(input_ids=tokens[:, :-1]).last_hidden_state
        for i, block in zip((2, 3), objective.own, strict=True):
            p = model.lm_head(block(hidden))[:, : 17 - i].double().log_softmax(-1)
            by_hand = -p.gather(-1, tokens[:, i:, None]).sum()
            assert float(terms[f"mtp_{i}"].value) == pytest.approx(float(by_hand), rel=1e-5)
            assert terms[f"mtp_{i}"].weight == 4 * (17 - i)
    assert weighted(objective, {"causal": 1.0, "mtp_2": 1.0, "mtp_3": 1.0}) == {
        "causal": 1.0, "mtp_2": 0.25, "mtp_3": 0.25
    }  # fmt: skip


def test_heads_do_not_look_into_the_next_document(model: Any) -> None:
    batch = multi_token(model).batch(examples(documents=True), RNG)
    # place 6 ends the first document: it may be asked for the mark that follows (7), and for nothing behind it
    assert (batch["labels"][:, 6] == END).all()
    assert (batch["labels_2"][:, 6] == -100).all()
    assert (batch["labels_2"][:, 5] == END).all()
    assert (batch["labels_3"][:, 5:7] == -100).all()


def test_the_heads_train_the_trunk_and_share_the_output_head(model: Any) -> None:
    objective = multi_token(model)
    batch = objective.batch(examples(), RNG)
    model.zero_grad()
    objective.terms(model, batch)["mtp_2"].value.backward()
    assert model.model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0
    assert model.lm_head.weight.grad.abs().sum() > 0
    model.zero_grad()


@pytest.mark.parametrize("direction", ["forward", "reverse", "js"])
def test_distillation_is_the_divergence_of_the_logits(model: Any, direction: str) -> None:
    objective = distilled(model, temperature=2.0, direction=direction, weight=0.25)
    batch = objective.batch(examples(), RNG)
    terms = objective.terms(model, batch)
    with torch.no_grad():
        log_p = (model(input_ids=batch["input_ids"]).logits.double() / 2).log_softmax(-1)
        log_q = (objective.teacher(input_ids=batch["input_ids"]).logits.double() / 2).log_softmax(-1)
    p, q = log_p.exp(), log_q.exp()
    m = ((p + q) / 2).log()
    by_hand = {
        "forward": (q * (log_q - log_p)).sum(),
        "reverse": (p * (log_p - log_q)).sum(),
        "js": (q * (log_q - m)).sum() / 2 + (p * (log_p - m)).sum() / 2,
    }[direction]
    assert float(terms["distill"].value.detach()) == pytest.approx(4 * float(by_hand), rel=1e-4)
    plain = CausalObjective().terms(model, batch)["causal"].value
    assert float(terms["causal"].value.detach()) == pytest.approx(float(plain.detach()))
    assert objective.coefficients == {"distill": 0.25, "causal": 0.75}
    assert list(replace(objective, weight=1.0).terms(model, batch)) == ["distill"]


def test_a_teacher_takes_no_gradient_and_a_student_that_is_its_teacher_pays_nothing(model: Any) -> None:
    objective = distilled(model)
    batch = objective.batch(examples(), RNG)
    objective.terms(model, batch)["distill"].value.backward()
    assert all(p.grad is None and not p.requires_grad for p in objective.teacher.parameters())
    assert not objective.teacher.training
    model.zero_grad()
    same = DistillObjective(CausalObjective(), llama).adopt(model)
    assert float(same.terms(model, batch)["distill"].value.detach()) == pytest.approx(0, abs=1e-4)


def test_a_sum_is_the_weighted_sum_of_its_parts(model: Any) -> None:
    parts = {"causal": CausalObjective(), "prefix": PrefixObjective()}
    mixed = MixtureObjective(parts, {"causal": 0.7, "prefix": 0.3})
    terms = mixed.terms(model, mixed.batch(examples(), RNG))
    alone = {name: part.terms(model, part.batch(examples(), RNG))[name] for name, part in parts.items()}
    for name, total in alone.items():
        torch.testing.assert_close(terms[name].value, total.value)
    assert weighted(mixed, {"causal": 2.0, "prefix": 1.0}) == {"causal": 1.4, "prefix": 0.3}


def test_parts_take_turns_by_seed_and_step(model: Any) -> None:
    parts = {"causal": CausalObjective(), "prefix": PrefixObjective()}
    mixed = MixtureObjective(parts, {"causal": 3, "prefix": 1}, "alternate", seed=5)
    turns = []
    for step in range(200):
        batch = mixed.batch([row | {"step": np.int64(step)} for row in examples()], RNG)
        (turn,) = mixed.counts(batch)
        turns.append(turn)
    assert turns.count("causal") == pytest.approx(150, abs=20)
    assert weighted(mixed, {"prefix": 1.0}) == {"prefix": 1.0}
    assert weighted(mixed, {"causal": 2.0, "prefix": 1.0}) == {"causal": 1.5, "prefix": 0.25}
    batch = mixed.batch([row | {"step": np.int64(turns.index("prefix"))} for row in examples()], RNG)
    assert list(mixed.terms(model, batch)) == ["prefix"]
    assert list(mixed.counts(mixed.batch(examples(), RNG))) == ["causal", "prefix"]  # an evaluation sees all


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("causal+masked", "share one model. These go together: causal, prefix, distill"),
        ("causal+prefx", "Did you mean 'prefix'"),
        ("causal:x+prefix", "must be a number above 0"),
        ("causal:0.5", "needs another part"),
        ("causal+causal", "names causal twice"),
    ],
)
def test_mixtures_that_cannot_be_are_explained(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        spec_named(name)


@pytest.mark.parametrize("options", [{}, {"fim_rate": 0.5}, {"mtp_heads": 2}, {"distill_weight": 1.0}])
@pytest.mark.parametrize("name", ["causal", "prefix", "distill", "masked", "distill_masked"])
def test_the_terms_that_options_promise_are_those_of_the_objective(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    spec = spec_named(name)
    given = {"block_size": 16, **spec.options, **options, "teacher": str(tmp_path)}
    (tmp_path / "model.safetensors").touch()
    tokenizer = Tokenizer.byte().with_special(spec.fitted(Tokenizer.byte(), given, 16)[1])
    assert spec.make(tokenizer, given, 0).names == (spec.terms(given) if spec.terms else (name,))


def test_terms_of_one_name_cannot_be_mixed(model: Any) -> None:
    with pytest.raises(InputError, match="both have the term 'causal'"):
        MixtureObjective({"causal": CausalObjective(), "distill": distilled(model)}, {"causal": 1, "distill": 1})
