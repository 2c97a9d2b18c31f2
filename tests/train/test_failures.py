"""What goes wrong in a run is stopped in time, named, and costs nothing that was saved."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2Config

import lossmith
from lossmith.errors import InputError, NonFiniteError
from lossmith.train.checkpoint import newest_complete
from lossmith.train.config import TrainConfig, resolve
from lossmith.train.guard import check_finite
from lossmith.train.step import Trainer

Options = dict[str, Any]


def test_a_non_finite_gradient_stops_before_the_update(tmp_path: Path, text_file: Path, tiny_options: Options) -> None:
    run = tmp_path / "run"
    explosive = {"optim": "sgd", "learning_rate": 1e25, "warmup_steps": 0, "max_grad_norm": 0.0}
    with pytest.raises(NonFiniteError) as caught:
        lossmith.train(
            text_file, output_dir=str(run), max_steps=50, save_steps=1, logging_steps=1, **tiny_options | explosive
        )
    message = str(caught.value)
    step = int(message.split()[1].rstrip(":"))
    assert 1 < step < 50
    assert f"the weights are those of step {step - 1}" in message
    assert "blocks" in message
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert (record["status"], record["error"]) == ("failed", message)
    kept = newest_complete(run / "checkpoints")
    assert kept is not None
    assert kept.name == f"step-{step - 1:06d}"
    assert all(torch.isfinite(w).all() for w in load_file(kept / "model" / "model.safetensors").values())
    assert (run / "report.html").exists()


def test_a_non_finite_loss_names_term_and_batch(tmp_path: Path, text_file: Path, tiny_options: Options) -> None:
    start = lossmith.train(text_file, output_dir=str(tmp_path / "start"), max_steps=1, **tiny_options)
    poisoned = start.model
    with torch.no_grad():
        poisoned.model.norm.weight[0] = float("nan")
    poisoned.save_pretrained(tmp_path / "poisoned")
    start.tokenizer.save(tmp_path / "poisoned")
    options = tiny_options | {"model": str(tmp_path / "poisoned"), "gradient_accumulation_steps": 2}
    with pytest.raises(
        NonFiniteError, match=r"step 1: the loss term 'causal' is nan in micro-batch 1 of 2 \(blocks 0 to 3"
    ):
        lossmith.train(text_file, output_dir=str(tmp_path / "run"), max_steps=3, **options)


def test_a_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, text_file: Path, tiny_options: Options, environment: dict[str, str], python: str
) -> None:
    """The limit on file size stands for the disk: any write past it fails with an OSError, as on a full one."""
    run = tmp_path / "run"
    options = [
        part
        for key, value in (tiny_options | {"max_steps": 40, "save_steps": 5}).items()
        for part in (f"--{key}", str(value))
    ]
    call = [python, "-m", "lossmith", "train", str(text_file), "--output-dir", str(run), *options]
    assert subprocess.run(call, env=environment, capture_output=True, check=False).returncode == 0
    before = newest_complete(run / "checkpoints")
    limit = (resource.RLIMIT_FSIZE, (2**20, 2**20))
    resumed = ["-m", "lossmith", "train", "--output-dir", str(run), "--resume-from-checkpoint", "--max-steps"]
    done = subprocess.run(
        [sys.executable, *resumed, "80"], env=environment, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(*limit),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert f"could not save {run}/checkpoints/step-000045" in done.stderr
    assert f"the last complete checkpoint is {before}" in done.stderr
    assert newest_complete(run / "checkpoints") == before
    again = subprocess.run([python, *resumed, "50"], env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learning_rate": -1.0}, r"--learning-rate must be more than 0; got -1\.0"),
        ({"learning_rate": float("nan")}, r"--learning-rate must be more than 0; got nan"),
        ({"max_steps": 0}, r"--max-steps must be at least 1; got 0"),
        ({"max_steps": "x"}, r"--max-steps must be a whole number; got 'x' \(str\)"),
        ({"learning_rate": True}, r"--learning-rate must be a number; got True"),
        ({"tokenizer": 3}, r"--tokenizer must be text; got 3"),
        ({"block_size": 0}, r"--block-size must be at least 1; got 0"),
        ({"min_lr_rate": 3.0}, r"--min-lr-rate must be in \[0, 1\]; got 3\.0"),
        ({"text_field": "q"}, r"--text-field 'q' names a column .* leave it out"),
        ({"report_to": "tensorbord"}, r"--report-to must be one of .* Did you mean 'tensorboard'\?"),
        ({"optim": "adan"}, r"--optim must be one of sgd, adam, adamw, muon; got 'adan'"),
        (
            {"lr_scheduler_type": "cosin"},
            r"--lr-scheduler-type must be one of .*; got 'cosin'\. Did you mean 'cosine'\?",
        ),
        ({"model": "nanoo"}, r"--model must be one of nano.*Did you mean 'nano'\?"),
        ({"model": "."}, r"must hold a config\.json"),
        ({"max_step": 3}, r"no option 'max_step'\. Did you mean 'max_steps'\?"),
        ({"block_size": 10**7}, r"block"),
        ({"adam_beta2": 1.0}, r"--adam-beta2 must be in \[0, 1\); got 1\.0"),
        ({"sample_tokens": -1}, r"--sample-tokens must be 0 or more; got -1"),
    ],
    ids=str,
)
def test_wrong_options_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text_file: Path, options: Options, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        lossmith.train(text_file, **{"tokenizer": "byte", "max_steps": 1} | options)


def test_paths_may_be_paths(tmp_path: Path, text_file: Path, tiny_options: Options) -> None:
    options = tiny_options | {"sample_tokens": 0, "output_dir": tmp_path / "run"}
    (tmp_path / "other.txt").write_text("to be or not to be " * 50, encoding="utf-8")
    run = lossmith.train(text_file, **options | {"eval_file": tmp_path / "other.txt"}, max_steps=1)
    assert run.result is not None
    assert run.result["eval_bytes"] == 19 * 50


def test_a_non_finite_gradient_names_the_parameters_at_fault() -> None:
    """Clipping by a norm of NaN would make every gradient NaN, and all of them suspects."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    model[1].bias.grad = torch.tensor([1.0, float("nan")])
    trainer = Trainer.__new__(Trainer)
    trainer.config, trainer.parameters = resolve(TrainConfig()), list(model.parameters())
    with pytest.raises(NonFiniteError, match=r"\(norm nan\): in 1\.bias, on 2 micro-batches from blocks"):
        check_finite(3, [{"causal": 1.0}] * 2, trainer.clip(), model, lambda part: "blocks")


def test_a_run_that_failed_before_its_first_checkpoint_can_be_started_over(
    tmp_path: Path, text_file: Path, tiny_options: Options
) -> None:
    run = tmp_path / "run"
    explosive = tiny_options | {"optim": "sgd", "learning_rate": 1e25, "warmup_steps": 0, "max_grad_norm": 0.0}
    with pytest.raises(NonFiniteError):
        lossmith.train(text_file, output_dir=str(run), max_steps=50, save_steps=50, **explosive)
    old = (run / "metrics.jsonl").read_text(encoding="utf-8")
    with pytest.raises(InputError, match=r"no complete checkpoint to resume from: start the run over"):
        lossmith.train(output_dir=str(run), resume_from_checkpoint="latest")
    again = lossmith.train(text_file, output_dir=str(run), max_steps=2, **tiny_options)
    assert again.result is not None
    assert (run / "metrics.old.jsonl").read_text(encoding="utf-8") == old
    with pytest.raises(InputError, match="already holds a run"):
        lossmith.train(text_file, output_dir=str(run), max_steps=2, **tiny_options)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(InputError, match="without the checkpoints to continue it from: choose another"):
        lossmith.train(text_file, output_dir=str(run), max_steps=2, **tiny_options)


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path: Path, text_file: Path, tiny_options: Options) -> None:
    small = tiny_options | {"sample_tokens": 4, "max_steps": 1}
    start = lossmith.train(text_file, output_dir=str(tmp_path / "start"), **small | {"tokenizer": "bpe:300"})
    with pytest.raises(InputError, match=r"tokenizer has 257 tokens and the model in .* has 300"):
        lossmith.train(text_file, model=str(start.path / "model"), output_dir=str(tmp_path / "run"), **small)
    own = {key: value for key, value in small.items() if key != "tokenizer"}
    again = lossmith.train(text_file, model=str(start.path), output_dir=str(tmp_path / "run"), **own)
    assert again.tokenizer.vocab_size == 300  # and the folder of a run stands for its model


def test_a_char_tokenizer_of_another_text_names_the_character(
    tmp_path: Path, text_file: Path, tiny_options: Options
) -> None:
    start = lossmith.train(
        text_file, output_dir=str(tmp_path / "start"), max_steps=1, **tiny_options | {"tokenizer": "char"}
    )
    (tmp_path / "moon.txt").write_text("床前明月光" * 300, encoding="utf-8")
    for options in ({"tokenizer": str(start.path / "model")}, {"model": str(start.path / "model"), "tokenizer": None}):
        with pytest.raises(InputError, match=r"the character '床' \(U\+5E8A\) is not among"):
            lossmith.train(tmp_path / "moon.txt", output_dir=str(tmp_path / "run"), **tiny_options | options)


def test_a_shape_without_weights_is_no_model(tmp_path: Path) -> None:
    GPT2Config(n_layer=1, n_embd=8, n_head=1).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"holds a config\.json and no weights .* Train it first"):
        lossmith.load_run(tmp_path)


def test_an_output_folder_that_cannot_be_written(text_file: Path) -> None:
    with pytest.raises(InputError, match="--output-dir /proc/nothing cannot be written"):
        lossmith.train(text_file, output_dir="/proc/nothing", max_steps=1)
