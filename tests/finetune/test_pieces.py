"""The pieces of fine-tuning: chat templates, tags, labels in cells, losses and their options, figures, objectives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from lossmith.data import Tokenizer
from lossmith.data.labelled import Labelled
from lossmith.evaluate.bootstrap import Resampling
from lossmith.evaluate.multi_label import multi_label_outcome
from lossmith.evaluate.tagging import entities, tagging_outcome
from lossmith.objectives.tasks import HeadObjective
from lossmith.objectives.tasks_losses import FITTING, task_loss
from lossmith.objectives.tasks_text import AnswerObjective
from lossmith.train.finetune_config import FinetuneConfig
from lossmith.train.finetune_encode import Coder
from lossmith.train.finetune_kinds_text import Instruction

HOW = Resampling(samples=100)
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.role == 'assistant' %}!{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_a_chat_template_weighs_the_answers_alone(tmp_path: Path) -> None:
    Tokenizer.byte().save(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.chat_template = TEMPLATE
    told = (("system", "s"), ("user", "你好"), ("assistant", "ab"), ("user", "q"), ("assistant", "c"))
    kind = Instruction(FinetuneConfig(), [])
    example = kind.example(Labelled((), told), Coder(tokenizer, 100, "cut"))
    weighs = example["labels"] != -100
    assert tokenizer.decode(example["tokens"]) == "<system>s<user>你好<assistant>ab!<user>q<assistant>c!"
    assert tokenizer.decode(example["tokens"][weighs]) == "ab!c!"
    assert (example["labels"][weighs] == example["tokens"][weighs]).all()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_the_cost_of_answers_is_the_models_own_loss(kind: str, tied: bool) -> None:
    torch.manual_seed(0)
    size = {
        "vocab_size": 50,
        "d_model": 16,
        "tie_word_embeddings": tied,
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
    }
    if kind == "t5":
        model: Any = T5ForConditionalGeneration(T5Config(d_kv=8, num_heads=2, d_ff=32, num_layers=1, **size))
    else:
        half = {
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
        }
        model = BartForConditionalGeneration(
            BartConfig(encoder_layers=1, decoder_layers=1, max_position_embeddings=20, **half, **size)
        )
        model.final_logits_bias.normal_()
    model.eval()
    objective = AnswerObjective(task_loss("seq2seq", None, ()), 0, True)
    rows = [(5, [7, 8, 9, 1]), (3, [4, 1])]
    examples = [{"tokens": np.arange(2, 2 + n), "labels": np.array(labels)} for n, labels in rows]
    batch = objective.batch(examples, np.random.default_rng(0))
    total = objective.terms(model, batch)["answer"]
    assert objective.states(model, batch)[1] is not None  # the way that stores no logits
    theirs = model(**{key: batch[key] for key in ("input_ids", "attention_mask", "labels")}).loss
    assert total.mean().item() == pytest.approx(theirs.item(), rel=1e-5)
    assert float(objective.counts(batch)["answer"]) == float(total.weight) == 6


LOSSES = [(task, name) for task in ("classification", "multi_label", "regression", "tagging") for name in FITTING[task]]


@pytest.mark.parametrize(("task", "name"), LOSSES)
def test_counts_are_known_before_the_forward_pass(task: str, name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    options = ["class_weights=balanced"] if name == "cross_entropy" else []
    objective = HeadObjective(task, task_loss(task, name, options, [3, 1, 2], 6), 3, 0)
    n = 5
    targets: dict[str, Any] = {
        "classification": torch.randint(0, 3, (n,), generator=generator),
        "multi_label": torch.randint(0, 2, (n, 3), generator=generator).float(),
        "regression": torch.randn(n, generator=generator),
        "tagging": torch.tensor([[0, -100, 2], [1, 1, -100]]),
    }
    shape = {"multi_label": (n, 3), "regression": (n,), "tagging": (2, 3, 3), "classification": (n, 3)}[task]
    batch = {"targets": targets[task]}
    total = objective.total(torch.randn(shape, generator=generator), batch)
    assert float(objective.counts(batch)[task]) == pytest.approx(float(total.weight))
    assert float(total.weight) > 0


def test_figures_of_several_labels_are_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    true, given = (draw.random((60, 4)) < 0.3 for _ in range(2))
    outcome = multi_label_outcome(true, given, list("abcd"), HOW)
    for average in ("micro", "macro"):
        assert outcome[f"f1_{average}"] == pytest.approx(f1_score(true, given, average=average, zero_division=0))
    assert outcome["exact_match"] == pytest.approx((true == given).all(1).mean())


def test_an_entity_is_right_as_a_whole() -> None:
    true = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC"]]
    given = [["B-PER", "O", "O", "B-LOC"], ["O", ""]]
    outcome = tagging_outcome(true, given, HOW)
    assert (outcome["entity_precision"], outcome["entity_recall"]) == (0.5, pytest.approx(1 / 3))
    assert outcome["accuracy"] == pytest.approx(4 / 6)
    assert entities(["I-A", "I-A", "S-B", "B-A", "E-A"]) == [("A", 0, 1), ("B", 2, 2), ("A", 3, 4)]
