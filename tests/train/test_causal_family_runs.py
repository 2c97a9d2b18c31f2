"""The causal family trains from text to a folder, resumes bit for bit, and does the same on two ranks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

import lossmith
from lossmith.errors import DataError, InputError
from lossmith.train.config import TrainConfig, resolve

Options = dict[str, Any]
CHINESE = "床前明月光，疑是地上霜。举头望明月，低头思故乡。白日依山尽，黄河入海流。欲穷千里目，更上一层楼。\n"
SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Chinese text, the shape of a small model, and a teacher trained on the text."""
    folder = tmp_path_factory.mktemp("family")
    (folder / "诗.txt").write_text(CHINESE * 60, encoding="utf-8")
    (folder / "shape").mkdir()
    shape = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 64, **SHAPE}
    (folder / "shape" / "config.json").write_text(json.dumps(shape))
    lossmith.train(folder / "诗.txt", output_dir=str(folder / "teacher"), **small(folder) | {"max_steps": 30})
    return folder


def small(folder: Path) -> Options:
    return {
        "model": str(folder / "shape"), "tokenizer": "char", "block_size": 32, "per_device_train_batch_size": 4,
        "logging_steps": 1, "eval_max_tokens": 512, "validation_fraction": 0.05, "sample_tokens": 0, "max_steps": 4,
        "optim": "adamw", "learning_rate": 0.01, "bf16": False,
    }  # fmt: skip


def kinds(folder: Path) -> dict[str, Options]:
    return {
        "fim": {"fim_rate": 0.7},
        "prefix": {"objective": "prefix"},
        "multi_token": {"mtp_heads": 2, "fim_rate": 0.5},
        "distill": {"objective": "distill", "teacher": str(folder / "teacher"), "tokenizer": None, "temperature": 2.0},
        "sum": {"objective": "causal:0.7+prefix:0.3", "mtp_heads": 1},
        "alternate": {"objective": "causal+prefix", "mixture_mode": "alternate", "fim_rate": 0.5},
    }


KINDS = ("fim", "prefix", "multi_token", "distill", "sum", "alternate")


def rows(run: lossmith.TrainedRun | Path) -> list[dict[str, Any]]:
    path = run if isinstance(run, Path) else run.path
    lines = (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    untimed = [json.loads(line) for line in lines]
    return [{k: v for k, v in row.items() if k not in ("seconds", "tokens_per_second")} for row in untimed]


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_uninterrupted_one(place: Path, tmp_path: Path, kind: str) -> None:
    options = small(place) | kinds(place)[kind] | {"save_steps": 2}
    whole = lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "a"), **options)
    lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "b"), **options)
    rest = lossmith.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoints" / "step-000002"))
    assert rows(rest) == rows(whole)
    one, two = (load_file(run.path / "model" / "model.safetensors") for run in (whole, rest))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_train_what_one_trains(place: Path, tmp_path: Path, kind: str, on_ranks: Callable[..., None]) -> None:
    options = small(place) | kinds(place)[kind] | {"max_steps": 3, "optim": "sgd", "learning_rate": 0.1}
    alone = lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "a"), **options)
    half = options | {"per_device_train_batch_size": 2, "output_dir": str(tmp_path / "b")}
    given = [x for key, value in half.items() if value is not None for x in (f"--{key}", str(value))]
    on_ranks(2, "-m", "lossmith", "train", str(place / "诗.txt"), *given)
    for one, two in zip(rows(alone), rows(tmp_path / "b"), strict=True):
        assert one.keys() == two.keys()
        for key in one:
            if "loss" in key:
                assert two[key] == pytest.approx(one[key], rel=1e-5), key


@pytest.mark.parametrize("kind", ["fim", "prefix", "multi_token"])
def test_micro_batches_change_nothing(place: Path, tmp_path: Path, kind: str) -> None:
    options = small(place) | kinds(place)[kind] | {"max_steps": 2, "optim": "sgd", "document_mask": True}
    split = options | {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    whole = lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "a"), **options)
    parts = lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "b"), **split)
    told = [[row["loss"] for row in rows(run) if "loss" in row] for run in (whole, parts)]
    assert told[1] == pytest.approx(told[0], rel=1e-5)


def test_causal_without_options_is_what_it_was(place: Path, tmp_path: Path) -> None:
    """Options at their defaults change no bit, no term is logged, and no token is added."""
    plain = lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "a"), **small(place))
    told = lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "b"), fim_rate=0.0, mtp_heads=0, **small(place))
    assert rows(plain) == rows(told)
    assert not any("/" in key for row in rows(plain) for key in row)
    assert plain.tokenizer.special("fim_prefix") is None


def test_a_gap_is_shown_and_the_sentinels_are_saved(place: Path, tmp_path: Path) -> None:
    options = small(place) | {"sample_tokens": 9, "fim_rate": 0.9}
    run = lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "run"), **options)
    theirs = AutoTokenizer.from_pretrained(run.path / "model")
    for part in ("prefix", "middle", "suffix"):
        number = theirs.convert_tokens_to_ids(f"<|fim_{part}|>")
        assert number == run.tokenizer.special(f"fim_{part}")
        assert number < AutoModelForCausalLM.from_pretrained(run.path / "model").config.vocab_size
    lines = (run.path / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    gap = [json.loads(line) for line in lines][-1]
    before, after = gap["prompt"].replace("<|fim_middle|>", "").split("<|fim_suffix|>")
    before = before.split("<|fim_prefix|>")[1]
    assert 8 <= len(before) <= len(after) <= 9
    begins = (CHINESE * 2).index(before) + len(before)
    assert (CHINESE * 2)[begins + 9 :].startswith(after)  # the gap is the nine characters between them
    assert len(gap["text"]) <= 9 or "<|" in gap["text"]


def test_a_trained_model_learns_to_fill_in(place: Path, tmp_path: Path) -> None:
    """Its vocabulary grows by the sentinels, and what it knew it still knows; resumed, it is the same."""
    options = {k: v for k, v in small(place).items() if k != "tokenizer"} | {"model": str(place / "teacher")}
    options |= {"fim_rate": 0.5, "save_steps": 2}
    run = lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "a"), **options)
    before = lossmith.load_run(place / "teacher")
    assert run.tokenizer.vocab_size == before.tokenizer.vocab_size + 4 == run.model.config.vocab_size
    first = next(row["eval_loss"] for row in rows(run) if "eval_loss" in row)
    last = [row["eval_loss"] for row in rows(before) if "eval_loss" in row][-1]
    assert first < last + 0.5
    lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "b"), **options)
    rest = lossmith.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoints" / "step-000002"))
    assert rows(rest) == rows(run)


def test_the_heads_are_no_part_of_the_saved_model(place: Path, tmp_path: Path) -> None:
    run = lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "run"), mtp_heads=2, **small(place))
    saved = load_file(run.path / "model" / "model.safetensors")
    plain = lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "plain"), **small(place))
    assert saved.keys() == load_file(plain.path / "model" / "model.safetensors").keys()
    (last,) = [row for row in rows(run) if row["step"] == 4 and "eval_loss" in row]
    assert last["eval_loss/causal"] == pytest.approx(last["eval_loss"], rel=1e-5)
    assert {"eval_loss/mtp_2", "eval_loss/mtp_3"} < last.keys()
    report = (run.path / "report.html").read_text(encoding="utf-8")
    assert "nats: causal + 0.15 × mtp_2 + 0.15 × mtp_3; validation: per token" in report
    own = load_file(run.path / "checkpoints" / "step-000004" / "own.safetensors")
    assert any(tensor.abs().sum() > 0 for key, tensor in own.items() if key.endswith("out.weight"))


def test_a_student_comes_closer_to_its_teacher(place: Path, tmp_path: Path) -> None:
    options = small(place) | kinds(place)["distill"] | {"max_steps": 25, "distill_weight": 1.0}
    run = lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "run"), **options)
    told = [row["loss"] for row in rows(run) if "loss" in row]
    assert told[-1] < told[0] / 2
    assert run.tokenizer.vocab_size == lossmith.load_run(place / "teacher").tokenizer.vocab_size
    assert not (run.path / "checkpoints" / "step-000025" / "own.safetensors").exists()


def test_terms_of_absent_parts_count_nothing(place: Path, tmp_path: Path) -> None:
    options = small(place) | kinds(place)["alternate"] | {"max_steps": 12, "eval_steps": 12}
    single = rows(lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "a"), **options))
    grouped = rows(lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "b"), **options | {"logging_steps": 12}))
    steps = [row for row in single if "loss" in row]
    assert all(len([key for key in row if key.startswith("loss/")]) == 1 for row in steps)
    assert all(row["loss"] == row.get("loss/fim", row.get("loss/prefix")) for row in steps)
    window = [row for row in grouped if "loss" in row][-1]
    turns = [row["loss/fim"] for row in steps[1:] if "loss/fim" in row]
    assert 0 < len(turns) < 11
    low, high = min(turns), max(turns)
    assert low <= window["loss/fim"] <= high
    assert window["loss"] == pytest.approx((window["loss/fim"] + window["loss/prefix"]) / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "distill"}, "needs --teacher FOLDER"),
        ({"objective": "distill", "teacher": "nowhere"}, "got 'nowhere'"),
        ({"objective": "distill", "teacher": "TEACHER", "tokenizer": "byte"}, "--tokenizer must be that of --teacher"),
        ({"objective": "distill", "teacher": "TEACHER", "tokenizer": None, "block_size": 96}, "positions of the model"),
        ({"mtp_heads": 32}, "--mtp-heads must be less than --block-size 32"),
        ({"fim_rate": 0.5, "block_size": 4}, "--block-size must be at least 5"),
    ],
)
def test_what_cannot_work_is_explained(place: Path, tmp_path: Path, options: Options, message: str) -> None:
    given = {key: str(place / "teacher") if value == "TEACHER" else value for key, value in options.items()}
    with pytest.raises((InputError, DataError), match=message):
        lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "run"), **small(place) | given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"objective": "causal:0.5+distill:0.5"},
            r"causal:0.5\+distill:0.5: causal and distill both have the term 'causal'",
        ),
        ({"objective": "distill+causal", "distill_weight": 0.9}, "take one of them, or --distill-weight 1"),
        ({"objective": "distill+prefix", "teacher": None}, "needs --teacher FOLDER"),
        ({"objective": "causal:0.5+causal:0.5", "teacher": None}, "names causal twice: name each part once"),
        ({"mtp_heads": 32, "teacher": None}, "--mtp-heads must be less than --block-size 32"),
    ],
)
def test_what_options_alone_rule_out_writes_nothing(
    place: Path, tmp_path: Path, options: Options, message: str
) -> None:
    given = {"teacher": str(place / "teacher")} | options
    with pytest.raises(InputError, match=message):
        lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "run"), **small(place) | given)
    assert not (tmp_path / "run").exists()


def test_the_teacher_alone_may_be_mixed_with_causal(place: Path, tmp_path: Path) -> None:
    options = {"objective": "causal+distill", "distill_weight": 1.0, "teacher": str(place / "teacher"), "max_steps": 1}
    run = lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "run"), **small(place) | options)
    assert {"loss/causal", "loss/distill"} <= rows(run)[-1].keys() | rows(run)[0].keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "prefix", "fim_rate": 0.5}, "--fim-rate belongs to --objective causal"),
        ({"mixture_mode": "sum"}, "--mixture-mode belongs to --objective a mixture"),
        ({"fim_rate": 1.5}, r"--fim-rate must be in \[0, 1\]"),
        ({"objective": "distill", "distill_direction": "foward"}, "Did you mean 'forward'"),
        ({"objective": "causal+sentence_pair"}, "These go together: causal, prefix, distill"),
    ],
)
def test_options_are_checked_first(options: Options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(TrainConfig(**options))


def test_preview_says_it_in_words(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lossmith.cli import preview

    common: Options = {"inputs": (str(place / "诗.txt"),), "tokenizer": "char", "block_size": 32, "num_examples": 1}
    said = {}
    for kind, options in (kinds(place) | {"fim": {"fim_rate": 1.0}}).items():
        preview.run(preview.Args(**common | options))
        said[kind] = capsys.readouterr().out
    assert "cut in three" in said["fim"]
    assert "<|fim_middle|>" in said["fim"]
    assert "tokens are prefix" in said["prefix"]
    assert "2 and 3 places on" in said["multi_token"]
    assert "the teacher's whole distribution" in said["distill"]
    assert "causal: example 1" in said["sum"]
    assert "prefix: example 1" in said["sum"]


def test_a_masked_student_learns_from_a_masked_teacher(place: Path, tmp_path: Path) -> None:
    """Judged by the plain masked loss, which a model without a teacher has as well; the divergence falls."""
    options = small(place) | {"model": "nano", "objective": "masked", "max_steps": 3, "sample_tokens": 6}
    teacher = lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "teacher"), **options)
    options |= {"objective": "distill_masked", "teacher": str(tmp_path / "teacher"), "tokenizer": None, "max_steps": 6}
    run = lossmith.train(place / "诗.txt", output_dir=str(tmp_path / "run"), logging_steps=1, **{
        key: value for key, value in options.items() if key != "logging_steps"
    })  # fmt: skip
    told = [row for row in rows(run) if "loss/distill" in row]
    assert told[-1]["loss/distill"] < told[0]["loss/distill"]
    assert told[0]["loss"] == pytest.approx((told[0]["loss/distill"] + told[0]["loss/masked"]) / 2)
    judged = [row for row in rows(run) if "eval_loss" in row][-1]
    assert judged["eval_loss"] == pytest.approx(judged["eval_loss/masked"], rel=1e-5)
    assert set(teacher.model.state_dict()) == set(run.model.state_dict())
    causal = options | {"teacher": str(place / "teacher"), "output_dir": str(tmp_path / "b")}
    with pytest.raises(InputError, match=r"--teacher must be a masked language model; .* holds \w+ForCausalLM$"):
        lossmith.train(place / "诗.txt", **causal)
    other = options | {"objective": "distill", "output_dir": str(tmp_path / "b")}
    with pytest.raises(InputError, match=r"must be a causal .*ForMaskedLM: for .*distill_masked"):
        lossmith.train(place / "诗.txt", **other)
    assert not (tmp_path / "b").exists()
    judge = place / "judge"  # what --objective replaced_token saves guesses nothing
    lossmith.train(place / "诗.txt", **options | {"objective": "replaced_token", "model": "nano", "tokenizer": "char",
                                                  "teacher": None, "output_dir": str(judge)})  # fmt: skip
    with pytest.raises(InputError, match=r"must be a masked language model; .* holds \w+"):
        lossmith.train(place / "诗.txt", **options | {"teacher": str(judge), "output_dir": str(tmp_path / "b")})


def test_a_teacher_without_a_head_is_refused(place: Path, tmp_path: Path) -> None:
    """Of a model that was saved without its head transformers would draw one."""
    headless = shutil.copytree(lossmith.load_run(place / "teacher").model_folder, tmp_path / "headless")
    config = json.loads((headless / "config.json").read_text(encoding="utf-8"))
    base = AutoModel.from_pretrained(headless)
    base.save_pretrained(headless)
    (headless / "config.json").write_text(json.dumps(config), encoding="utf-8")
    options = small(place) | kinds(place)["distill"] | {"teacher": str(headless), "output_dir": str(tmp_path / "b")}
    refused = r"are not those of a LlamaForCausalLM: 1 of its parameters, lm_head\.weight"
    with pytest.raises(DataError, match=refused):
        lossmith.train(place / "诗.txt", **options)
    with pytest.raises(DataError, match=refused):
        _ = lossmith.load_run(headless).model
