"""Distillation of hidden tokens: the divergence at their places, both seeing the same; laws and faults."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, ModernBertConfig, ModernBertForMaskedLM

from lossmith.objectives import DistillObjective, MaskedObjective, weighted
from lossmith.objectives.masking import Masking
from lossmith.testing import ObjectiveError, check_objective

SIZE, CLS, SEP, MASK, PAD = 40, 36, 37, 38, 39
TASK = MaskedObjective(Masking(SIZE, MASK, frozenset({CLS, SEP, MASK, PAD}), rate=0.3), CLS, SEP)
SHAPE: dict[str, Any] = {
    "vocab_size": SIZE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 64, "pad_token_id": PAD,
}  # fmt: skip


def bert(width: int = 32, seed: int = 0) -> BertForMaskedLM:
    torch.manual_seed(seed)
    return BertForMaskedLM(BertConfig(**SHAPE | {"hidden_size": width}, initializer_range=0.3)).eval()


def modern() -> ModernBertForMaskedLM:
    torch.manual_seed(1)
    special = {"bos_token_id": CLS, "eos_token_id": SEP, "cls_token_id": CLS, "sep_token_id": SEP}
    return ModernBertForMaskedLM(ModernBertConfig(**SHAPE, **special, initializer_range=0.3)).eval()


def examples(n: int = 4, length: int = 17, *, documents: bool = False) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for i in range(n):
        own = {"documents": (np.arange(length) >= 7).astype(np.int32)} if documents else {}
        made.append({"tokens": np.random.default_rng(i).integers(1, 35, length), "index": np.int64(i), **own})
    return made


def distilled(model: Any, teacher: Any | None = None, **options: Any) -> DistillObjective:
    return DistillObjective(TASK, lambda: teacher or bert(48, seed=5), **options).adopt(model)


@pytest.mark.parametrize("student", [bert, modern])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_it_is_the_divergence_of_the_logits_at_the_hidden_tokens(student: Any, direction: str) -> None:
    model = student()
    objective = distilled(model, temperature=2.0, direction=direction, weight=0.25)
    batch = objective.batch(examples(documents=student is bert), np.random.default_rng(0))
    terms = objective.terms(model, batch)
    hidden = batch["labels"] != -100
    assert 0 < hidden.sum() == len(batch["rows"]) == float(terms["distill"].weight) == float(terms["masked"].weight)
    seen: dict[str, Any] = {"input_ids": batch["input_ids"], "attention_mask": batch.get("attention_mask")}
    if seen["attention_mask"] is not None:  # of a model alone: what it must not see is −∞
        seen["attention_mask"] = torch.zeros(seen["attention_mask"].shape).masked_fill(~batch["attention_mask"], -1e30)
    with torch.no_grad():
        log_p, log_q = ((m(**seen).logits[hidden].double() / 2).log_softmax(-1) for m in (model, objective.teacher))
    one, other = (log_q, log_p) if direction == "forward" else (log_p, log_q)
    by_hand = (one.exp() * (one - other)).sum()
    assert float(terms["distill"].value.detach()) == pytest.approx(4 * float(by_hand), rel=1e-4)
    plain = TASK.terms(model, batch)["masked"].value
    assert float(terms["masked"].value.detach()) == pytest.approx(float(plain.detach()))
    assert weighted(objective, {"distill": 1.0, "masked": 1.0}) == {"distill": 0.25, "masked": 0.75}


def test_the_teacher_takes_no_gradient_and_its_own_student_pays_nothing() -> None:
    model = bert()
    objective = distilled(model)
    batch = objective.batch(examples(), np.random.default_rng(0))
    objective.terms(model, batch)["distill"].value.backward()
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())
    assert model.bert.embeddings.word_embeddings.weight.grad.abs().sum() > 0
    same = replace(objective, teacher=model).terms(model, batch)["distill"].value
    assert float(same.detach()) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("options", [{}, {"weight": 1.0}, {"direction": "js", "temperature": 3.0}])
@pytest.mark.parametrize("documents", [False, True])
def test_the_laws_hold(options: dict[str, Any], documents: bool) -> None:
    model = bert()
    check_objective(distilled(model, **options), model, examples(documents=documents))


class Unhidden(DistillObjective):
    """Planted fault: student and teacher see the text itself."""

    def batch(self, examples: Any, rng: Any) -> dict[str, Tensor]:
        batch = super().batch(examples, rng)
        return batch | {"input_ids": torch.where(batch["labels"] != -100, batch["labels"], batch["input_ids"])}


class Everywhere(DistillObjective):
    """Planted fault: the teacher is learnt from at every place."""

    def terms(self, model: Any, batch: dict[str, Tensor]) -> Any:
        whole = torch.arange(batch["labels"].numel())
        labels = torch.where(batch["labels"] == -100, 0, batch["labels"])
        return super().terms(model, batch) | {
            "distill": super().terms(model, batch | {"rows": whole, "labels": labels})["distill"]
        }


@pytest.mark.parametrize(("fault", "law"), [(Unhidden, "leak"), (Everywhere, "counts")])
def test_planted_faults_are_found(fault: Any, law: str) -> None:
    model = bert()
    with pytest.raises(ObjectiveError) as found:
        check_objective(fault(TASK, lambda: bert(48, seed=5)).adopt(model), model, examples())
    assert found.value.law == law


def test_a_masked_teacher_is_none_for_next_tokens(tmp_path: Path) -> None:
    """A BERT loads as a causal model, and would see what the student must guess."""
    from lossmith.data import Tokenizer
    from lossmith.errors import InputError
    from lossmith.objectives import spec_named

    teacher = BertForMaskedLM(BertConfig(**SHAPE | {"vocab_size": 257, "pad_token_id": 0}, is_decoder=False))
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.normal_(std=0.3)
    teacher.save_pretrained(tmp_path)
    spec = spec_named("distill")
    options = {"block_size": 16, **spec.options, "teacher": str(tmp_path)}
    with pytest.raises(InputError, match=r"--teacher must be a causal language model; .* holds BertForMaskedLM"):
        spec.make(Tokenizer.byte(), options, 0)
    nameless = json.loads((tmp_path / "config.json").read_text(encoding="utf-8")) | {"architectures": None}
    (tmp_path / "config.json").write_text(json.dumps(nameless), encoding="utf-8")
    objective = spec.make(Tokenizer.byte(), options, 0)
    with pytest.raises(InputError, match=r"--teacher .* is not causal"):
        objective.adopt(bert())
