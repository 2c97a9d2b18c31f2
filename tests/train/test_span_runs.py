"""Span corruption from text to a folder that transformers loads, with every kind of tokenizer, and from T5 and BART."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import lossmith
from lossmith.data import Tokenizer
from lossmith.errors import InputError
from lossmith.train.config import TrainConfig, resolve

Options = dict[str, Any]
TEXT = "床前明月光，疑是地上霜。举头望明月，低头思故乡。The moon before my bed.\n"
SMALL: Options = {
    "objective": "span", "block_size": 32, "per_device_train_batch_size": 4, "logging_steps": 1, "max_steps": 2,
    "eval_max_tokens": 512, "validation_fraction": 0.1, "sample_tokens": 0,
}  # fmt: skip
T5 = {
    "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0,
    "dropout_rate": 0.0,
}  # fmt: skip
BART = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 64, "dropout": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def poem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("poem") / "诗.txt"
    path.write_text(TEXT * 40, encoding="utf-8")
    return path


def rows(run: lossmith.TrainedRun, name: str = "metrics") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.path / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_poem_is_restored(poem: Path, tmp_path: Path) -> None:
    run = lossmith.train(
        poem, tokenizer="char", output_dir=str(tmp_path / "run"),
        **SMALL | {"max_steps": 120, "per_device_train_batch_size": 16, "sample_tokens": 40, "eval_steps": 60},
    )  # fmt: skip
    told = [row["loss"] for row in rows(run) if "loss" in row]
    assert told[0] == pytest.approx(math.log(run.tokenizer.vocab_size), rel=0.15)
    result = run.result or {}
    assert result["eval_loss"] < 0.75 * told[0]
    assert result["eval_perplexity"] == pytest.approx(math.exp(result["eval_loss"]))
    assert result["eval_bpb"] is None
    samples = rows(run, "samples")
    assert "<extra_id_0>" in samples[-1]["prompt"]
    assert "<extra_id_0>" not in samples[-1]["text"]
    names = [row["name"] for row in json.loads((run.path / "run.json").read_text())["baselines"]]
    assert names == ["uniform", "unigram"]
    for ask in (run.sample, run.next):
        with pytest.raises(InputError, match="an encoder–decoder: it writes what stands for <extra_id_0>"):
            ask("床前")
    model = AutoModelForSeq2SeqLM.from_pretrained(run.path / "model").eval()
    theirs = AutoTokenizer.from_pretrained(run.path / "model")
    ids = torch.tensor([theirs("床前<extra_id_0>光，疑是地上霜。")["input_ids"]])
    said = theirs.decode(model.generate(ids, max_new_tokens=8)[0])
    assert "<extra_id_0>" in said  # it knows how an answer begins


@pytest.mark.parametrize("kind", ["char", "byte", "bpe:300", "hf"])
def test_every_tokenizer_gets_its_sentinels(poem: Path, tmp_path: Path, kind: str) -> None:
    if kind == "hf":
        Tokenizer.train_bpe([TEXT], 300).save(tmp_path / "tokenizer")
        (tmp_path / "tokenizer" / "lossmith_tokenizer.json").unlink(missing_ok=True)
        kind = str(tmp_path / "tokenizer")
    run = lossmith.train(poem, tokenizer=kind, denoiser="ul2", output_dir=str(tmp_path / "run"), **SMALL)
    theirs = AutoTokenizer.from_pretrained(run.path / "model")
    for role, token in (("extra_id_0", "<extra_id_0>"), ("mode_r", "[R]"), ("mode_s", "[S]"), ("mode_x", "[X]")):
        number = run.tokenizer.special(role)
        assert number is not None
        ids = theirs(f"明月{token}光", add_special_tokens=False)["input_ids"]
        assert ids == [*run.tokenizer.encode("明月"), number, *run.tokenizer.encode("光")]
    again = Tokenizer.load(run.path / "model")
    assert again.special("extra_id_1") == run.tokenizer.special("extra_id_1")
    assert again.vocab_size == run.model.config.vocab_size
    if not Path(kind).is_dir():
        assert theirs("明月")["input_ids"] == [*run.tokenizer.encode("明月"), theirs.eos_token_id]


@pytest.mark.parametrize("kind", ["T5", "BART"])
def test_continue_from_a_folder_with_and_without_sentinels(poem: Path, tmp_path: Path, kind: str) -> None:
    known = Tokenizer.train_bpe([TEXT], 300).with_special(
        ["pad"] + [f"extra_id_{i}" for i in range(3 * (kind == "T5"))]
    )
    known.save(tmp_path / "old")
    shape = {"vocab_size": known.vocab_size, "pad_token_id": known.special("pad"), "eos_token_id": known.eos_id}
    config: Any = transformers.T5Config(**T5 | shape)
    if kind == "BART":
        config = transformers.BartConfig(**BART | shape | {"decoder_start_token_id": known.eos_id})
    torch.manual_seed(0)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path / "old")
    run = lossmith.train(poem, model=str(tmp_path / "old"), output_dir=str(tmp_path / "run"), **SMALL)
    assert type(run.model).__name__.upper().startswith(kind)
    grown = run.model.config.vocab_size - known.vocab_size
    assert grown == (0 if kind == "T5" else 2)  # two sentinels: blocks of 32 tokens have two spans
    assert run.tokenizer.special("extra_id_0") == (known.special("extra_id_0") if kind == "T5" else known.vocab_size)
    assert run.model.config.decoder_start_token_id == config.decoder_start_token_id
    told = json.loads((run.path / "run.json").read_text())["model"]
    assert told["loss_path"] == "decoder states"


def test_bf16_and_a_shape_from_a_folder(poem: Path, tmp_path: Path) -> None:
    transformers.BartConfig(**BART).save_pretrained(tmp_path / "shape")
    run = lossmith.train(
        poem, tokenizer="byte", model=str(tmp_path / "shape"), bf16=True, output_dir=str(tmp_path / "run"), **SMALL
    )
    assert all(math.isfinite(row["loss"]) for row in rows(run) if "loss" in row)
    assert run.model.config.forced_eos_token_id is None
    pad = run.tokenizer.special("pad")
    assert run.model.config.pad_token_id == pad == run.model.config.decoder_start_token_id


def test_what_cannot_work_is_explained(poem: Path, tmp_path: Path) -> None:
    out = {"output_dir": str(tmp_path / "run"), "tokenizer": "byte"}
    with pytest.raises(InputError, match="--noise-rate must be between 0 and 1"):
        resolve(TrainConfig(objective="span", noise_rate=1.0))
    with pytest.raises(InputError, match="--mean-span must be 1 or more"):
        resolve(TrainConfig(objective="span", mean_span=0.5))
    with pytest.raises(InputError, match="--denoiser belongs to --objective span"):
        resolve(TrainConfig(objective="masked", denoiser="ul2"))
    with pytest.raises(InputError, match="belong to --denoiser t5"):
        lossmith.train(poem, denoiser="ul2", noise_rate=0.3, **SMALL | out)
    with pytest.raises(InputError, match="--block-size must be at least 3"):
        lossmith.train(poem, **SMALL | out | {"block_size": 2})
    with pytest.raises(InputError, match="--objective span writes from all of a block"):
        lossmith.train(poem, document_mask=True, **SMALL | out)
    transformers.LlamaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1).save_pretrained(tmp_path / "l")
    with pytest.raises(InputError, match="an encoder–decoder"):
        lossmith.train(poem, model=str(tmp_path / "l"), **SMALL | out)


def test_preview_shows_both_sides(poem: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lossmith.cli import preview

    options: Options = {"tokenizer": "char", "block_size": 32, "objective": "span", "inputs": (str(poem),)}
    preview.run(preview.Args(**options, json_lines=True, num_examples=2))
    for line in capsys.readouterr().out.splitlines():
        row = json.loads(line)
        whole = row["sees"]
        for guess in row["guesses"]:
            assert f"{guess['sees']}{guess['answer']}" in row["target"]
            whole = whole.replace(guess["sees"], guess["answer"])
        assert whole.replace("<|endoftext|>", "") in TEXT * 40
    preview.run(preview.Args(**options, num_examples=1))
    said = capsys.readouterr().out
    assert "must write: <extra_id_0>" in said
    assert ", 2 spans of 5 tokens in all to guess" in said  # 15 % of 33 tokens
