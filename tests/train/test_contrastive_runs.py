"""lossmith train --objective contrastive, from raw text and from pairs, to an encoder that others load."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, ModernBertModel

import lossmith
from lossmith import cli
from lossmith.cli import preview
from lossmith.errors import InputError

Options = dict[str, Any]
SMALL: Options = {
    "objective": "contrastive", "block_size": 32, "per_device_train_batch_size": 8, "logging_steps": 1,
    "tokenizer": "char", "sample_tokens": 0, "eval_max_tokens": 2000, "bf16": False,
}  # fmt: skip
SUBJECTS, VERBS, PLACES = "猫狗马鸟鱼王", "坐走看睡叫吃", "山河城家林海"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """216 sentences of four characters and their stop."""
    path = tmp_path_factory.mktemp("contrastive") / "文.txt"
    path.write_text("".join(f"{s}在{p}{v}。" for s in SUBJECTS for v in VERBS for p in PLACES), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Who does what: the positive says it in another order, the hard negative has another subject."""
    path, draw = tmp_path_factory.mktemp("pairs") / "pairs.jsonl", random.Random(0)
    rows = [
        {"one": f"{s}在{p}{v}", "two": f"{v}{p}者{s}", "not": f"{draw.choice(SUBJECTS.replace(s, ''))}在{p}{v}"}
        for s in SUBJECTS for v in VERBS for p in PLACES
    ]  # fmt: skip
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def train(given: Path | str, path: Path, **options: Any) -> lossmith.TrainedRun:
    return lossmith.train(given, output_dir=str(path), **SMALL | options)


def rows(run: Path, key: str = "loss") -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line[key] for line in lines if key in line]


def test_from_raw_text_to_an_encoder_that_eval_and_transformers_load(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(text, tmp_path / "run", max_steps=30, eval_steps=10, sample_tokens=20, learn_temperature=True)
    assert rows(run.path)[-1] < rows(run.path)[0]
    assert all(0 <= value <= 4 for value in rows(run.path, "eval_alignment"))
    assert rows(run.path, "eval_uniformity")[-1] < 0
    result = run.result or {}
    assert result["eval_bpb"] is None
    assert result["eval_tokens"] == 16  # pairs in batches as large as in training: of 21 held out
    model, tokenizer = (kind.from_pretrained(run.path / "model") for kind in (AutoModel, AutoTokenizer))
    assert type(model) is ModernBertModel
    ids = tokenizer(["猫在山坐。", "狗在"], padding=True, return_tensors="pt")
    assert ids["input_ids"][0].tolist()[1:-1] == run.tokenizer.encode("猫在山坐。").tolist()
    assert ids["attention_mask"].sum(1).tolist() == [7, 4]
    assert model(**ids).last_hidden_state.isfinite().all()
    report = (run.path / "report.md").read_text(encoding="utf-8")
    assert "nats per pair" in report
    assert "ln 8: any of them" in report
    assert "--task similarity" in report
    assert "per token" not in report.split("## Settings")[0]
    sample = json.loads((run.path / "samples.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert sample["prompt"][1] == "在"
    assert -1 <= float(sample["text"].split()[0]) <= 1.005
    table = tmp_path / "pairs.csv"
    table.write_text(
        "a,b,score\n猫在山坐。,猫在山走。,3\n狗在河看。,王在海吃。,1\n鱼在家睡。,鱼在家睡。,5\n", encoding="utf-8"
    )
    capsys.readouterr()
    call = [str(run.path), str(table), "--task", "similarity", "--text-column", "a", "b", "--label-column", "score"]
    assert cli.run(["eval", *call, "--pooling", "mean", "--json"]) == 0
    assert "spearman" in capsys.readouterr().out


@pytest.mark.parametrize("columns", [("one", "two"), ("one", "two", "not")])
def test_pairs_are_learnt(pairs: Path, tmp_path: Path, columns: tuple[str, ...]) -> None:
    options: Options = {"max_steps": 60, "pair_columns": columns, "per_device_train_batch_size": 16, "dropout": 0.0}
    run = train(pairs, tmp_path / "run", eval_steps=20, **options)
    assert rows(run.path, "eval_loss")[-1] < 0.5 * rows(run.path)[0]
    assert rows(run.path, "eval_alignment")[-1] < 1.5
    known = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    assert known["baselines"][0]["label"] == f"ln {16 * (len(columns) - 1)}: any of them"


def test_a_resumed_run_is_the_uninterrupted_one(text: Path, tmp_path: Path) -> None:
    options: Options = {"max_steps": 8, "learn_temperature": True, "mlp_head": True, "mini_batch_size": 5}
    whole = train(text, tmp_path / "a", **options)
    train(text, tmp_path / "b", save_steps=4, **options)
    rest = lossmith.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoints" / "step-000004"))
    assert rows(rest.path) == rows(whole.path)
    assert rows(rest.path, "eval_loss") == rows(whole.path, "eval_loss")
    ours, theirs = (load_file(run.path / "model" / "model.safetensors") for run in (rest, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    last = sorted((whole.path / "checkpoints").iterdir())[-1]
    own = load_file(last / "own.safetensors")
    assert set(own) == {"temperature.log_scale", "head.0.weight", "head.0.bias"}
    assert own["temperature.log_scale"] != -np.log(0.05)
    assert not any("head" in name or "log_scale" in name for name in theirs)


def test_parts_of_a_batch_change_nothing_but_memory(pairs: Path, tmp_path: Path) -> None:
    options: Options = {"max_steps": 4, "pair_columns": ("one", "two", "not"), "dropout": 0.0, "optim": "sgd"}
    whole, parts = (
        train(pairs, tmp_path / name, mini_batch_size=size, **options) for name, size in (("a", None), ("b", 3))
    )
    assert rows(parts.path) == pytest.approx(rows(whole.path), rel=1e-4)
    assert rows(parts.path, "grad_norm") == pytest.approx(rows(whole.path, "grad_norm"), rel=1e-3)


def test_two_ranks_take_the_loss_over_the_whole_batch(
    pairs: Path, tmp_path: Path, on_ranks: Callable[..., None]
) -> None:
    options: Options = SMALL | {
        "max_steps": 4, "dropout": 0.0, "optim": "sgd", "learning_rate": 0.1, "learn_temperature": True,
        "mini_batch_size": 3, "eval_max_tokens": 10**6,
    }  # fmt: skip
    alone = lossmith.train(pairs, pair_columns=("one", "two", "not"), output_dir=str(tmp_path / "a"), **options)
    half = options | {"per_device_train_batch_size": 4, "output_dir": str(tmp_path / "b")}
    given = [x for key, value in half.items() for x in (f"--{key}", str(value))]
    on_ranks(2, "-m", "lossmith", "train", str(pairs), *given, "--pair-columns", "one", "two", "not")
    assert rows(tmp_path / "b") == pytest.approx(rows(alone.path), rel=1e-4)
    assert rows(tmp_path / "b", "grad_norm") == pytest.approx(rows(alone.path, "grad_norm"), rel=1e-3)
    one, two = (sorted((tmp_path / name / "checkpoints").iterdir())[-1] / "own.safetensors" for name in "ab")
    torch.testing.assert_close(load_file(two), load_file(one), rtol=1e-5, atol=1e-6)


def test_continue_from_a_masked_model(text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    masked = train(text, tmp_path / "a", objective="masked", max_steps=20)
    options: Options = {"max_steps": 3, "tokenizer": None, "model": str(masked.path), "learning_rate": 1e-4}
    run = train(text, tmp_path / "b", optim="adamw", **options)
    assert "UNEXPECTED" not in "".join(capfd.readouterr())  # of the head that stays behind, nobody is warned
    assert json.loads((run.path / "model" / "config.json").read_text())["mlp_dropout"] == 0.1
    before, after = (load_file(path / "model" / "model.safetensors") for path in (masked.path, run.path))
    moved = (after["embeddings.tok_embeddings.weight"] - before["model.embeddings.tok_embeddings.weight"]).abs().max()
    assert 0 < moved < 0.01
    assert run.tokenizer.vocab_size == masked.tokenizer.vocab_size


def test_what_cannot_work_is_explained(text: Path, pairs: Path, tmp_path: Path) -> None:
    def refused(match: str, given: Path = text, **options: Any) -> None:
        with pytest.raises(InputError, match=match):
            train(given, tmp_path / "x", max_steps=1, **options)

    refused("--gradient-accumulation-steps 2 would train another loss", gradient_accumulation_steps=2)
    refused("--dropout 0 leaves none", dropout=0.0)
    refused("--per-device-train-batch-size must be between 2 and", per_device_train_batch_size=1)
    refused("--per-device-train-batch-size must be between 2 and", per_device_train_batch_size=1000)
    refused("--document-mask keeps documents apart", document_mask=True)
    refused("--pooling must be one of mean, cls", pooling="max")
    refused("--temperature must be more than 0", temperature=0.0)
    refused("--dropout must be in", dropout=1.0)
    refused("--mini-batch-size must be at least 1", mini_batch_size=0)
    refused("--pair-columns names columns of", pair_columns=("one", "two"))
    refused("--pooling belongs to --objective contrastive", objective="masked", pooling="cls")


def test_what_is_cut_is_counted_and_said(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["train", str(text), "--objective", "contrastive", "--tokenizer", "char", "--max-steps", "2"]
    small = ["--per-device-train-batch-size", "4", "--sample-tokens", "0", "--output-dir", str(tmp_path / "run")]
    assert cli.run([*call, *small, "--block-size", "6", "--learn-temperature"]) == 0
    said = capsys.readouterr().out
    assert "195 are longer than the context of 6 tokens and are cut to it" in said
    assert "nats/pair" in said
    assert "nats/token" not in said


def test_preview_shows_pairs_and_what_is_not_compared(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = tmp_path / "twice.jsonl"
    line = pairs.read_text(encoding="utf-8").splitlines()[0]
    twice.write_text("\n".join([line] * 6), encoding="utf-8")
    options: Options = {"objective": "contrastive", "tokenizer": "byte", "per_device_train_batch_size": 4}
    options |= {"inputs": (str(twice),), "pair_columns": ("one", "two", "not"), "num_examples": 3}
    preview.run(preview.Args(**options, json_lines=True))
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    row = json.loads(line)
    assert [x["sees"] for x in found] == [row["one"]] * 3
    assert found[0]["positive"] == row["two"]
    assert found[0]["negative"] == row["not"]
    assert found[0]["masked"] == [1, 2, 3]  # the fourth of the batch is not shown
    preview.run(preview.Args(**options))
    said = capsys.readouterr().out
    assert "must find its pair" in said
    assert "not compared with example 2, 3, 4 of it: the same text" in said


@pytest.mark.parametrize(("shown", "size"), [(1, 2), (1, 16), (5, 3)])
def test_preview_tells_texts_apart_from_as_many_as_training(
    text: Path, capsys: pytest.CaptureFixture[str], shown: int, size: int
) -> None:
    options: Options = {"objective": "contrastive", "tokenizer": "char", "inputs": (str(text),)}
    preview.run(preview.Args(**options, per_device_train_batch_size=size, num_examples=shown))
    said = capsys.readouterr().out
    others = f"beside {size - 1} other{'s' if size > 2 else ''} of its batch"
    assert said.count("must find itself under other dropout") == said.count(others) == shown
