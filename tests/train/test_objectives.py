"""Every objective that --objective offers trains from text to a folder that transformers loads."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

import lossmith
from lossmith.data import CORPORA
from lossmith.errors import InputError
from lossmith.train.config import TrainConfig, resolve

Options = dict[str, Any]
SMALL: Options = {
    "block_size": 32, "per_device_train_batch_size": 16, "logging_steps": 5, "eval_max_tokens": 2048,
    "validation_fraction": 0.02, "sample_tokens": 20,
}  # fmt: skip
BOTH = ("masked", "span")
CHINESE = "床前明月光，疑是地上霜。举头望明月，低头思故乡。白日依山尽，黄河入海流。欲穷千里目，更上一层楼。\n"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def losses(run: lossmith.TrainedRun, key: str = "loss") -> list[float]:
    return [row[key] for row in lines(run.path / "metrics.jsonl") if key in row]


@pytest.mark.parametrize(
    ("corpus", "tokenizer", "unit"), [("shakespeare", "bpe:512", "word"), ("songci", "bpe:1024", "word")]
)
def test_masked_learns_from_a_corpus(tmp_path: Path, corpus: str, tokenizer: str, unit: str) -> None:
    if not CORPORA[corpus].available():
        pytest.skip(f"{corpus} is not installed: {CORPORA[corpus].install}")
    run = lossmith.train(
        corpus, objective="masked", mask_unit=unit, tokenizer=tokenizer, max_steps=60, output_dir=str(tmp_path / "run"),
        **SMALL,
    )  # fmt: skip
    told = losses(run)
    assert told[0] == pytest.approx(math.log(run.tokenizer.vocab_size), rel=0.1)
    assert np.mean(told[-3:]) < told[0] - 0.4
    assert losses(run, "eval_loss")[-1] < told[0] - 0.4
    result = run.result or {}
    assert result["eval_loss"] == losses(run, "eval_loss")[-1]
    assert result["eval_bpb"] is None  # what is guessed from both sides is no compressed text
    model, theirs = (kind.from_pretrained(run.path / "model") for kind in (AutoModelForMaskedLM, AutoTokenizer))
    assert type(model) is transformers.ModernBertForMaskedLM is type(run.model)
    assert theirs.mask_token_id == run.tokenizer.special("mask") == model.config.vocab_size - 1
    text = "The king" if corpus == "shakespeare" else "明月"
    ids = theirs(text)["input_ids"]
    assert ids[1:-1] == run.tokenizer.encode(text).tolist()
    assert theirs.convert_ids_to_tokens([ids[0], ids[-1]]) == ["[CLS]", "[SEP]"]
    assert model(torch.tensor([ids])).logits.isfinite().all()
    samples = lines(run.path / "samples.jsonl")
    assert all("[MASK]" in row["prompt"] and "[MASK]" not in row["text"] for row in samples[1:])
    names = {row["name"] for row in json.loads((run.path / "run.json").read_text())["baselines"]}
    assert names == {"uniform", "unigram"}


@pytest.fixture(scope="module")
def poem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("poem") / "诗.txt"
    path.write_text(CHINESE * 60, encoding="utf-8")
    return path


@pytest.fixture
def tiny() -> Options:
    return SMALL | {"tokenizer": "char", "sample_tokens": 0, "logging_steps": 1, "per_device_train_batch_size": 4}


def test_a_poem_is_filled_in_and_nobody_asks_what_comes_next(poem: Path, tiny: Options, tmp_path: Path) -> None:
    options = tiny | {"per_device_train_batch_size": 16, "max_steps": 250, "sample_tokens": 24, "eval_steps": 250}
    run = lossmith.train(poem, objective="masked", output_dir=str(tmp_path / "run"), **options)
    assert (run.result or {})["eval_loss"] < 0.5
    with pytest.raises(InputError, match="fills in what is hidden"):
        run.sample("床前")
    with pytest.raises(InputError, match="fills in what is hidden"):
        run.next("床前")


@pytest.mark.parametrize(
    "asked", [{"objective": "masked"}, {"objective": "span", "denoiser": "ul2"}, {"fim_rate": 0.5}]
)
def test_rows_beside_the_loss_are_about_the_vocabulary_of_the_model(
    poem: Path, tiny: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: Options
) -> None:
    run = lossmith.train(poem, max_steps=1, output_dir=str(tmp_path / "run"), **tiny | asked)
    result, size = run.result or {}, run.model.config.vocab_size
    assert size > len(set(CHINESE)) + 1  # the objective added tokens
    known = {row["name"]: row for row in json.loads((run.path / "run.json").read_text(encoding="utf-8"))["baselines"]}
    assert known["uniform"]["nats_per_token"] == pytest.approx(math.log(size))
    assert f"V = {size}" in known["uniform"]["definition"]
    told = {name: (row["nats_per_token"], row["bits_per_byte"]) for name, row in known.items() if "entropy" not in name}
    told |= {"model": (result["eval_loss"], result["eval_bpb"])}
    said, page = capsys.readouterr().out, (run.path / "report.html").read_text(encoding="utf-8")
    assert f"vocabulary {size}" in said
    if "fim_rate" in asked:  # all rows are about the tokens of the validation text
        assert [nats / bits for nats, bits in told.values()] == pytest.approx([np.divide(*told["model"])] * len(told))
        return
    assert {bits for _, bits in told.values()} == {None}
    table = said[said.index("what the number means") :]
    for text in (table, page, (run.path / "report.md").read_text(encoding="utf-8")):
        assert "bits" not in text
    labels = {"uniform": "ln V", "unigram": "unigram model", "model": "this model"}
    places = [table.index(labels[name]) for name in sorted(told, key=lambda name: -told[name][0])]
    assert places == sorted(places)


def test_a_sum_of_averages_stands_beside_no_row(poem: Path, tiny: Options) -> None:
    from lossmith.data import open_store
    from lossmith.evaluate import baselines
    from lossmith.train.setup import make_task

    config = resolve(TrainConfig(**tiny | {"inputs": (str(poem),), "objective": "masked"}))
    store = open_store(config.data())
    task = make_task(config, store)
    assert len(task.comparable(baselines(store))) == 2
    summed: Any = SimpleNamespace(names=("masked", "distill"))
    assert replace(task, objective=summed).comparable(baselines(store)) == []


@pytest.mark.parametrize("objective", BOTH)
def test_a_resumed_run_is_the_uninterrupted_one(poem: Path, tiny: Options, tmp_path: Path, objective: Any) -> None:
    whole = lossmith.train(poem, objective=objective, max_steps=8, output_dir=str(tmp_path / "a"), **tiny)
    lossmith.train(poem, objective=objective, max_steps=8, save_steps=4, output_dir=str(tmp_path / "b"), **tiny)
    rest = lossmith.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoints" / "step-000004"))
    assert losses(rest) == losses(whole)
    assert (rest.result or {})["eval_loss"] == (whole.result or {})["eval_loss"]


@pytest.mark.parametrize("objective", BOTH)
def test_micro_batches_change_nothing(poem: Path, tiny: Options, tmp_path: Path, objective: Any) -> None:
    tiny |= {"optim": "sgd", "learning_rate": 0.1, "bf16": False, "max_steps": 3}
    whole = lossmith.train(poem, objective=objective, output_dir=str(tmp_path / "a"), **tiny)
    split = tiny | {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    parts = lossmith.train(poem, objective=objective, output_dir=str(tmp_path / "b"), **split)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)


def on_two_ranks(on_ranks: Callable[..., None], text: Path, options: Options) -> lossmith.TrainedRun:
    given = [x for key, value in options.items() for x in (f"--{key}", str(value))]
    on_ranks(2, "-m", "lossmith", "train", str(text), *given)
    return lossmith.load_run(options["output_dir"])


@pytest.mark.parametrize("objective", ["masked", "span", "distill_masked"])
def test_two_ranks_hide_what_one_hides(
    poem: Path, tiny: Options, tmp_path: Path, on_ranks: Callable[..., None], objective: str
) -> None:
    tiny |= {"optim": "sgd", "learning_rate": 0.1, "bf16": False, "max_steps": 3, "objective": objective}
    if objective == "distill_masked":
        lossmith.train(poem, output_dir=str(tmp_path / "teacher"), **tiny | {"objective": "masked"})
        tiny = {k: v for k, v in tiny.items() if k != "tokenizer"} | {"teacher": str(tmp_path / "teacher"), "seed": 2}
    alone = lossmith.train(poem, output_dir=str(tmp_path / "a"), **tiny)
    both = on_two_ranks(on_ranks, poem, tiny | {"per_device_train_batch_size": 2, "output_dir": str(tmp_path / "b")})
    assert losses(both) == pytest.approx(losses(alone), rel=1e-5)
    assert losses(both, "eval_loss") == pytest.approx(losses(alone, "eval_loss"), rel=1e-5)


def test_continue_from_a_masked_model(poem: Path, tiny: Options, tmp_path: Path) -> None:
    tiny |= {"per_device_train_batch_size": 16}
    first = lossmith.train(poem, objective="masked", max_steps=80, output_dir=str(tmp_path / "a"), **tiny)
    more = lossmith.train(
        poem, objective="masked", model=str(first.path), max_steps=2, output_dir=str(tmp_path / "b"),
        **{key: value for key, value in tiny.items() if key != "tokenizer"},
    )  # fmt: skip
    assert losses(more)[0] < losses(first)[0] - 0.3
    assert more.tokenizer.vocab_size == first.tokenizer.vocab_size


@pytest.mark.parametrize("task", ["next", "order"])
def test_sentence_pairs_log_both_curves_and_masked_models_load_them(
    poem: Path, tiny: Options, tmp_path: Path, task: str
) -> None:
    run = lossmith.train(
        "python-docs", objective="sentence_pair", sentence_task=task, max_steps=20, output_dir=str(tmp_path / "run"),
        **tiny | {"tokenizer": "byte", "per_device_train_batch_size": 16},
    )  # fmt: skip
    term = f"loss/{'next_sentence' if task == 'next' else 'sentence_order'}"
    for prefix, key in (("", "loss"), ("eval_", "eval_loss")):
        parts = [losses(run, f"{prefix}{name}") for name in ("loss/masked", term)]
        assert losses(run, key) == pytest.approx([sum(pair) for pair in zip(*parts, strict=True)])
    assert losses(run, "loss/masked")[-1] < losses(run, "loss/masked")[0] - 0.5
    assert all(0 < loss < 2 for loss in losses(run, term))
    assert (run.path / "checkpoints" / "step-000020" / "own.safetensors").exists()  # ModernBERT's head for pairs
    model = AutoModelForMaskedLM.from_pretrained(run.path / "model")
    ids = AutoTokenizer.from_pretrained(run.path / "model")("one", "two", return_tensors="pt")
    assert model(**ids).logits.shape == (*ids["input_ids"].shape, run.tokenizer.vocab_size)
    transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, max_position_embeddings=64
    ).save_pretrained(tmp_path / "shape")  # fmt: skip
    bert = lossmith.train(
        "python-docs", objective="sentence_pair", sentence_task=task, max_steps=2, model=str(tmp_path / "shape"),
        output_dir=str(tmp_path / "bert"), **tiny | {"tokenizer": "byte"},
    )  # fmt: skip
    own = AutoModelForPreTraining.from_pretrained(bert.path / "model")
    assert type(own) is transformers.BertForPreTraining
    assert own(**ids).seq_relationship_logits.shape == (1, 2)
    with pytest.raises(InputError, match="--document-mask keeps documents apart"):
        lossmith.train(poem, objective="sentence_pair", document_mask=True, output_dir=str(tmp_path / "b"), **tiny)


REPLACED: Options = {"objective": "replaced_token", "eval_steps": 100}


@pytest.mark.parametrize(("optim", "tokenizer"), [("muon", "char"), ("adamw", "bpe:400")])
def test_replaced_tokens_are_found_and_the_discriminator_is_saved(
    poem: Path, tiny: Options, tmp_path: Path, optim: str, tokenizer: str
) -> None:
    options = tiny | REPLACED | {"per_device_train_batch_size": 16, "tokenizer": tokenizer, "optim": optim}
    options |= {"max_steps": 60, "sample_tokens": 24, "validation_fraction": 0.1}
    run = lossmith.train(poem, output_dir=str(tmp_path / "run"), **options)
    generator, discriminator = losses(run, "loss/generator"), losses(run, "loss/discriminator")
    assert losses(run) == pytest.approx([g + 50 * d for g, d in zip(generator, discriminator, strict=True)])
    assert generator[0] == pytest.approx(math.log(run.tokenizer.vocab_size), rel=0.15)
    assert generator[-1] < generator[0] - 0.3
    assert discriminator[0] == pytest.approx(math.log(2), abs=0.2)
    assert discriminator[-1] < 0.45
    result = run.result or {}
    assert result["eval_loss"] == pytest.approx(result["eval_loss/generator"] + 50 * result["eval_loss/discriminator"])
    assert 0.7 < result["eval_original_share"] < 1
    assert result["eval_accuracy"] > result["eval_original_share"] - 0.05
    assert lines(run.path / "samples.jsonl")[0]["prompt"].startswith("[CLS]")
    report = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Loss <small>nats: generator + 50 × discriminator</small>" in report
    assert "per token" not in report
    model = AutoModelForTokenClassification.from_pretrained(run.path / "model")
    ids = AutoTokenizer.from_pretrained(run.path / "model")("床前明月光", return_tensors="pt")
    assert model(**ids).logits.shape == (*ids["input_ids"].shape, 1)
    encoder = AutoModelForSequenceClassification.from_pretrained(
        run.path / "model", num_labels=3, ignore_mismatched_sizes=True
    )
    theirs = model.base_model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in encoder.base_model.state_dict().items())
    with pytest.raises(InputError, match="predicts none"):
        lossmith.surprisal(run.path, "床前明月光")


@pytest.mark.parametrize("more", [{}, {"bf16": True, "optim": "adamw"}])
def test_a_resumed_replaced_token_run_is_the_uninterrupted_one(
    poem: Path, tiny: Options, tmp_path: Path, more: Options
) -> None:
    tiny |= REPLACED | {"max_steps": 6, "save_steps": 3} | more
    whole = lossmith.train(poem, output_dir=str(tmp_path / "a"), **tiny)
    lossmith.train(poem, output_dir=str(tmp_path / "b"), **tiny)
    rest = lossmith.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoints" / "step-000003"))
    for key in ("loss", "loss/generator", "loss/discriminator", "eval_loss", "eval_accuracy"):
        assert losses(rest, key) == losses(whole, key)
    last = [folder / "checkpoints" / "step-000006" / "own.safetensors" for folder in (rest.path, whole.path)]
    assert last[0].read_bytes() == last[1].read_bytes()


def test_replaced_tokens_are_the_same_however_the_batch_is_divided(
    poem: Path, tiny: Options, tmp_path: Path, on_ranks: Callable[..., None]
) -> None:
    tiny |= REPLACED | {"optim": "sgd", "learning_rate": 0.01, "bf16": False, "max_steps": 3}
    whole = lossmith.train(poem, output_dir=str(tmp_path / "a"), **tiny)
    split = tiny | {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    parts = lossmith.train(poem, output_dir=str(tmp_path / "b"), **split)
    both = on_two_ranks(on_ranks, poem, tiny | {"per_device_train_batch_size": 2, "output_dir": str(tmp_path / "c")})
    for run in (parts, both):
        for key in ("loss", "loss/generator", "eval_loss", "eval_accuracy", "eval_replaced_recall"):
            assert losses(run, key) == pytest.approx(losses(whole, key), rel=1e-5)


def test_continue_from_a_discriminator(
    poem: Path, tiny: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny |= REPLACED | {"per_device_train_batch_size": 16}
    first = lossmith.train(poem, max_steps=20, output_dir=str(tmp_path / "a"), **tiny)
    more = lossmith.train(
        poem, model=str(first.path), max_steps=2, output_dir=str(tmp_path / "b"),
        **{key: value for key, value in tiny.items() if key != "tokenizer"},
    )  # fmt: skip
    assert losses(more, "loss/discriminator")[0] < losses(first, "loss/discriminator")[0] - 0.1
    assert losses(more, "loss/generator")[0] > losses(first, "loss/generator")[-1]  # which is a new one
    assert "made anew" in capsys.readouterr().out


def test_options_that_cannot_work_are_explained(poem: Path, tiny: Options, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--objective must be one of .*Did you mean 'masked'"):
        resolve(TrainConfig(objective="maskt"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--mask-rate belongs to --objective distill_masked or masked or sent"):
        resolve(TrainConfig(mask_rate=0.3))
    with pytest.raises(InputError, match="--generator-size belongs to --objective replaced_token"):
        resolve(TrainConfig(objective="masked", generator_size=0.5))
    with pytest.raises(InputError, match=r"--generator-size must be in \(0, 1\]"):
        resolve(TrainConfig(objective="replaced_token", generator_size=2.0))
    with pytest.raises(InputError, match="--discriminator-weight must be more than 0"):
        resolve(TrainConfig(objective="replaced_token", discriminator_weight=-1.0))
    with pytest.raises(InputError, match="--mask-rate must be between 0 and 1"):
        resolve(TrainConfig(objective="masked", mask_rate=1.5))
    with pytest.raises(InputError, match="--mask-unit must be one of token, word, span"):
        resolve(TrainConfig(objective="masked", mask_unit="words"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--block-size must be at least 4"):
        lossmith.train(poem, objective="masked", output_dir=str(tmp_path / "a"), **tiny | {"block_size": 3})
    roberta, shape = tmp_path / "roberta", {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    transformers.RobertaConfig(**shape, max_position_embeddings=34).save_pretrained(roberta)
    with pytest.raises(InputError, match="has no positions for --block-size 32"):
        lossmith.train(poem, objective="masked", model=str(roberta), output_dir=str(tmp_path / "c"), **tiny)
    llama = tmp_path / "llama"
    transformers.LlamaConfig(**shape).save_pretrained(llama)
    with pytest.raises(InputError, match="needs a model with such a head"):
        lossmith.train(poem, objective="masked", model=str(llama), output_dir=str(tmp_path / "b"), **tiny)


def test_preview_shows_what_is_seen_and_what_is_asked(poem: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lossmith.cli import preview

    options: Options = {"tokenizer": "char", "block_size": 24, "objective": "masked", "inputs": (str(poem),)}
    preview.run(preview.Args(**options, json_lines=True, num_examples=3))
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 3
    for row in rows:
        assert row["sees"].startswith("[CLS]")
        assert row["tokens"] == 24
        assert len(row["guesses"]) == round(0.15 * 22)
        assert all(guess["answer"] in CHINESE for guess in row["guesses"])
    preview.run(preview.Args(**options, num_examples=1))
    said = capsys.readouterr().out
    assert "must guess" in said
    assert "[MASK]" in said
    preview.run(preview.Args(**options | {"objective": "causal"}, json_lines=True, num_examples=1))
    row = json.loads(capsys.readouterr().out)
    assert [guess["answer"] for guess in row["guesses"]][:-1] == [guess["sees"] for guess in row["guesses"]][1:]
