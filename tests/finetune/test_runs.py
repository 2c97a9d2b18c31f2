"""A fine-tuning run does what it says: every task learns, the best is kept, resuming changes nothing, eval loads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import classified
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lossmith import cli
from lossmith.errors import InputError, RunError
from lossmith.train.config import TrainConfig
from lossmith.train.finetune import run_finetuning
from lossmith.train.finetune_config import FinetuneConfig
from lossmith.train.pretraining import run_training
from lossmith.train.reporter import Reporter
from lossmith.train.step import Trainer

Table = Callable[..., str]
FAST = {"learning_rate": 5e-3, "logging_steps": 5, "sample_tokens": 0, "bf16": False}


def tune(model: str, data: str, out: Path, **options: Any) -> dict[str, Any]:
    """Run, and return run.json."""
    run_finetuning(FinetuneConfig(model=model, train_data=data, output_dir=str(out), **FAST | options), [])
    return dict(json.loads((out / "run.json").read_text(encoding="utf-8")))


def log(out: Path) -> list[dict[str, Any]]:
    """The log without what is measured by the clock."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


def figures(record: dict[str, Any]) -> dict[str, float]:
    return {figure["name"]: figure["value"] for figure in record["outcome"]["figures"]}


def test_classes_are_learnt_and_loaded_by_eval(
    bert: str, table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    record = tune(bert, table(classified(200)), out, max_steps=60)
    baseline = record["outcome"]["baselines"][0]["figures"]["f1_macro"]
    assert figures(record)["f1_macro"] > 0.9 > baseline + 0.4
    assert record["classes"] == ["sport", "technik", "天气"]
    assert record["data"]["train"]["rows"] == 200
    best = max(row["eval_f1_macro"] for row in log(out) if "eval_f1_macro" in row)
    assert record["result"]["eval_f1_macro"] == pytest.approx(best, abs=1e-9)
    test = table(classified(50, seed=1), "test.jsonl")
    capsys.readouterr()
    assert cli.run(["eval", str(out), test, "--task", "classification", "--json", "--bootstrap-samples", "100"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert next(f["value"] for f in found["figures"] if f["name"] == "accuracy") > 0.9
    model = AutoModelForSequenceClassification.from_pretrained(out / "model")
    inputs = AutoTokenizer.from_pretrained(out / "model")(["goal match goal"], return_tensors="pt")
    assert model.config.id2label[int(model(**inputs).logits.argmax())] == "sport"


def test_a_preset_learns_from_scratch_with_its_own_tokenizer(table: Table, tmp_path: Path) -> None:
    options = {"tokenizer": "bpe:300", "max_length": 24, "max_steps": 20, "learning_rate": None}
    record = tune("nano", table(classified(150)), tmp_path / "run", **options)
    assert figures(record)["accuracy"] > 0.8
    assert record["model"]["trained_parameters"] == record["model"]["parameters"]


def tagged(n: int) -> list[dict[str, Any]]:
    people = ["Anna", "王伟", "Bob"]
    return [
        {
            "tokens": [people[i % 3], "went", "to", "Rome" if i % 2 else "北京", str(i)],
            "tags": ["B-PER", "O", "O", "B-LOC", "O"],
        }
        for i in range(n)
    ]


def swapped(n: int) -> list[dict[str, Any]]:
    return [{"source": f"{'ab'[i % 2]}{i}", "target": "ba"[i % 2]} for i in range(n)]


def graded(n: int) -> list[dict[str, Any]]:
    return [
        {"a": f"x{i} aa", "b": f"x{i} aa" if i % 2 else f"y{i * 7 % n} bb", "score": float(i % 2)} for i in range(n)
    ]


TASKS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str, float]] = {
    "tagging": (tagged(120), {}, "entity_f1", 0.9),
    "multi_label": (
        [
            {"text": f"{'red' * (i & 1)} {'蓝' * (i & 2)}{i}", "label": ["r"] * (i & 1) + ["b"] * (i >> 1 & 1)}
            for i in range(160)
        ],
        {}, "f1_micro", 0.9,
    ),
    "regression": (
        [{"text": "good " * (i % 4) + str(i), "label": 50 + i % 4} for i in range(160)], {"loss": "huber"}, "r2", 0.6,
    ),
    "similarity": (graded(120), {"text_column": ("a", "b"), "label_column": "score"}, "spearman", 0.8),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_every_task_of_an_encoder_beats_its_baseline(task: str, bert: str, table: Table, tmp_path: Path) -> None:
    rows, options, figure, least = TASKS[task]
    record = tune(bert, table(rows), tmp_path / "run", task=task, max_steps=80, **options)
    assert figures(record)[figure] > least
    unit = {"tagging": "nats per word", "multi_label": "nats per label", "regression": "loss per row"}
    assert record["loss_unit"] == unit.get(task, "nats per pair")
    assert record["loss_unit"] in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_positives_are_found_without_scores(bert: str, table: Table, tmp_path: Path) -> None:
    rows = [{"anchor": f"{i} a", "positive": f"b {i}"} for i in range(120)]
    record = tune(bert, table(rows), tmp_path / "run", task="similarity", max_steps=60)
    assert figures(record)["recall_at_1"] > 3 * record["outcome"]["baselines"][0]["figures"]["recall_at_1"]


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_text_is_written_by_both_kinds_of_models(
    kind: str, table: Table, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    out, data = tmp_path / "run", table(swapped(120))
    options = {"max_steps": 100, "generate_examples": 10, "max_new_tokens": 4, "learning_rate": 1e-2}
    record = tune(request.getfixturevalue(kind), data, out, task="seq2seq", **options)
    assert record["result"]["eval_loss"] < 0.4  # ln 2 / 2 a token is what a coin costs; the end is the other half
    assert figures(record)["chrf"] > 60
    capsys.readouterr()
    call = ["eval", str(out), data, "--task", "generation", "--max-examples", "20", "--max-new-tokens", "4", "--json"]
    assert cli.run(call) == 0
    found = {f["name"]: f["value"] for f in json.loads(capsys.readouterr().out)["figures"]}
    assert found["chrf"] > 60


def test_an_encoder_decoder_goes_on_with_the_optimizer_that_trained_it(
    table: Table, text_file: Path, tmp_path: Path
) -> None:
    body, data = tmp_path / "body", table(swapped(40))
    tiny = {"tokenizer": "byte", "block_size": 32, "max_steps": 2, "eval_max_tokens": 512, "sample_tokens": 0}
    run_training(TrainConfig(inputs=(str(text_file),), objective="span", output_dir=str(body), **tiny), [])
    # the decoder has 32 positions, and writes no more
    options = {"task": "seq2seq", "max_steps": 2, "generate_examples": 2, "max_new_tokens": 64, "learning_rate": None}
    used = ("optim", "learning_rate", "adamw_learning_rate", "weight_decay")
    pretrained = json.loads((body / "run.json").read_text(encoding="utf-8"))["config"]
    for name, model in (("run", body), ("folder", body / "model")):
        config = tune(str(model), data, tmp_path / name, **options)["config"]
        assert [config[key] for key in used] == [pretrained[key] for key in used]
    assert pretrained["optim"] == "muon"
    own = tune(str(body), data, tmp_path / "own", **options, optim="adamw")["config"]
    assert own["learning_rate"] == pytest.approx(5e-5 * 768 / 128)
    assert tune(str(body), data, tmp_path / "lora", **options, lora_rank=2)["config"]["optim"] == "adamw"


class _Told(Reporter):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)


@pytest.mark.parametrize(("best", "rows"), [(True, 60), (True, 600), (False, 60)])
def test_too_few_rows_to_choose_by_are_told(best: bool, rows: int, bert: str, table: Table, tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_steps": 1, "load_best_model_at_end": best, "output_dir": str(tmp_path / "run")}
    told = _Told()
    run_finetuning(FinetuneConfig(model=bert, train_data=table(classified(rows)), **FAST | options), [told])
    assert any("choose the weights" in text for text in told.texts) == (best and rows < 500)


def test_the_last_weights_are_kept_where_asked(bert: str, table: Table, tmp_path: Path) -> None:
    data, found = table(classified(60)), {}
    for best in (True, False):
        options = {"max_steps": 6, "eval_steps": 2, "learning_rate": 0.3, "load_best_model_at_end": best}
        record = tune(bert, data, tmp_path / str(best), **options)
        found[best] = (record["result"]["best_step"], record["result"]["chosen"])
        assert found[best][1].split()[-1] in (tmp_path / str(best) / "report.html").read_text(encoding="utf-8").lower()
    rows = [row for row in log(tmp_path / "True") if "eval_f1_macro" in row]
    best_step = max(rows[:3], key=lambda row: (row["eval_f1_macro"], -row["eval_loss"]))["step"]
    assert best_step != 6  # at this rate nothing gets better
    assert found == {True: (best_step, "the best by f1_macro"), False: (6, "the last")}
    with pytest.raises(InputError, match="no-load-best-model-at-end"):
        tune(bert, data, tmp_path / "patient", early_stopping_patience=2, load_best_model_at_end=False)
    assert not (tmp_path / "patient").exists()


def test_only_answers_weigh_in_instructions(llama: str, table: Table, tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"say {i}"}, {"role": "assistant", "content": "好"}]}
        for i in range(60)
    ]
    options = {"task": "instruction", "messages_column": "messages", "max_steps": 20}
    record = tune(llama, table(rows), tmp_path / "run", **options)
    assert figures(record)["token_accuracy"] > 0.9
    assert record["outcome"]["figures"][0]["name"] == "token_accuracy"


class _Killed(Reporter):
    def step(self, step: int, loss: float, smoothed: float) -> None:
        if step == 17:
            raise RunError("pulled out")


@pytest.mark.parametrize("more", [{}, {"lora_rank": 2}, {"freeze": "1-layers", "gradient_accumulation_steps": 2}])
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(
    more: dict[str, Any], bert: str, table: Table, tmp_path: Path
) -> None:
    options = {"max_steps": 30, "save_steps": 5, "eval_steps": 6, "per_device_train_batch_size": 8, **more}
    data = table(classified(100))
    tune(bert, data, tmp_path / "whole", **options)
    config = FinetuneConfig(model=bert, train_data=data, output_dir=str(tmp_path / "cut"), **FAST | options)
    with pytest.raises(RunError, match="pulled out"):
        run_finetuning(config, [_Killed()])
    run_finetuning(FinetuneConfig(output_dir=str(tmp_path / "cut"), resume_from_checkpoint="latest"), [])
    ours, theirs = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("cut", "whole"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert log(tmp_path / "cut") == log(tmp_path / "whole")


def test_a_run_is_continued_by_the_command_that_made_it(bert: str, table: Table, tmp_path: Path) -> None:
    tune(bert, table(classified(60)), tmp_path / "run", max_steps=2)
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(InputError, match="was made by lossmith finetune"):
        run_training(TrainConfig(output_dir=str(tmp_path / "run"), resume_from_checkpoint="latest"), [])
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_patience_ends_a_run_and_the_best_weights_are_kept(bert: str, table: Table, tmp_path: Path) -> None:
    options = {"max_steps": 200, "eval_steps": 5, "early_stopping_patience": 2, "metric": "loss", "learning_rate": 1e-2}
    noise = [row | {"label": str(i * 7919 % 101 % 2)} for i, row in enumerate(classified(80))]  # nothing to be learnt
    record = tune(bert, table(noise), tmp_path / "run", **options)
    evaluated = [row for row in log(tmp_path / "run") if "eval_loss" in row]
    best = min(evaluated, key=lambda row: row["eval_loss"])
    assert record["result"]["steps"] == evaluated[-1]["step"] < 200
    assert record["result"]["best_step"] == best["step"]
    assert evaluated[-1]["step"] == best["step"] + 2 * 5
    assert record["result"]["eval_loss"] == pytest.approx(best["eval_loss"], rel=1e-4)


def test_what_is_frozen_does_not_move_and_lora_is_merged(bert: str, table: Table, tmp_path: Path) -> None:
    before, data = load_file(Path(bert) / "model.safetensors"), table(classified(60))
    record = tune(bert, data, tmp_path / "frozen", freeze="body", max_steps=5)
    after = load_file(tmp_path / "frozen" / "model" / "model.safetensors")
    assert all(torch.equal(after[name], value) for name, value in before.items() if name in after)
    assert 0 < record["model"]["trained_parameters"] < 0.2 * record["model"]["parameters"]
    tune(bert, data, tmp_path / "lora", lora_rank=2, max_steps=5)
    merged = load_file(tmp_path / "lora" / "model" / "model.safetensors")
    assert not [name for name in merged if "lora" in name]
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.linalg.matrix_rank(merged[name] - before[name], rtol=1e-3) == 2
    word = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(merged[word], before[word])


def test_accumulated_steps_are_the_steps_of_the_whole_batch(
    bert: str, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Class weights make rows weigh unequally, where averaged averages would differ."""
    data, seen = table(classified(64)[:50] + [{"text": f"goal {i}", "label": "sport"} for i in range(40)]), {}
    monkeypatch.setattr(Trainer, "train", lambda self: self.model.eval())  # no dropout: both see the same
    for name, size, parts in (("one", 16, 1), ("four", 4, 4)):
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": parts, "max_steps": 6}
        tune(bert, data, tmp_path / name, loss_options=("class_weights=balanced",), logging_steps=1, **options)
        seen[name] = [row["loss"] for row in log(tmp_path / name) if "loss" in row]
    assert seen["one"] == pytest.approx(seen["four"], rel=1e-3)


def test_dropout_is_set_where_there_is_none(table: Table, tmp_path: Path) -> None:
    data = table(classified(60))
    rates = {}
    for name, options in {"labels": {}, "none": {"dropout": 0.0}, "more": {"dropout": 0.3}}.items():
        tune("nano", data, tmp_path / name, max_steps=1, tokenizer="byte", **options)
        rates[name] = json.loads((tmp_path / name / "model" / "config.json").read_text(encoding="utf-8"))["mlp_dropout"]
    assert rates == {"labels": 0.1, "none": 0.0, "more": 0.3}


def test_a_models_own_dropout_stays(bert: str, table: Table, tmp_path: Path) -> None:
    own = json.loads((Path(bert) / "config.json").read_text(encoding="utf-8"))["hidden_dropout_prob"]
    assert own > 0
    tune(bert, table(classified(60)), tmp_path / "run", max_steps=1)
    saved = json.loads((tmp_path / "run" / "model" / "config.json").read_text(encoding="utf-8"))
    assert saved["hidden_dropout_prob"] == own


def test_a_character_that_the_tokenizer_does_not_know_is_named(table: Table, tmp_path: Path) -> None:
    (tmp_path / "moon.txt").write_text("床前明月光，疑是地上霜。\n" * 80, encoding="utf-8")
    options = {"objective": "masked", "tokenizer": "char", "max_steps": 1, "block_size": 16, "sample_tokens": 0}
    run = run_training(
        TrainConfig(inputs=(str(tmp_path / "moon.txt"),), output_dir=str(tmp_path / "run"), **options), []
    )
    rows = [{"text": f"{i} 明月", "label": str(i % 2)} for i in range(40)]
    tagged = [{"tokens": [str(i), "明月"], "tags": ["O", "B-M"]} for i in range(40)]
    for task, data in (("classification", rows), ("tagging", tagged)):
        with pytest.raises(InputError, match="has no token for a character of it"):
            tune(str(run), table(data, f"{task}.jsonl"), tmp_path / task, task=task, max_steps=1)
