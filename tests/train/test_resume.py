"""Kill it, stop it, damage it: what is resumed ends bitwise where the uninterrupted run ends."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import lossmith
from lossmith.errors import DataError, InputError
from lossmith.train.checkpoint import newest_complete

STEPS = 120
OPTIONS = {
    "tokenizer": "byte", "block_size": 16, "per_device_train_batch_size": 4, "sample_tokens": 8, "eval_max_tokens": 512,
    "validation_fraction": 0.02, "max_steps": STEPS, "save_steps": 10, "eval_steps": 40, "logging_steps": 5,
    "optim": "muon", "seed": 5,
}  # fmt: skip


def command(run: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "lossmith", "train", "--output-dir", str(run), *more]


def options() -> list[str]:
    return [part for key, value in OPTIONS.items() for part in (f"--{key}", str(value))]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def rows(run: Path) -> list[dict[str, Any]]:
    """The log without what is measured by the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if "second" not in k} for line in lines]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory, english: str) -> Path:
    path = tmp_path_factory.mktemp("resume") / "text.txt"
    path.write_text(english, encoding="utf-8")
    return path


@pytest.fixture
def uninterrupted(text: Path) -> Path:
    run = text.parent / "whole"
    if not run.exists():
        lossmith.train(text, output_dir=str(run), **OPTIONS)
    return run


def assert_same(run: Path, uninterrupted: Path) -> None:
    ours, whole = weights(run), weights(uninterrupted)
    assert ours.keys() == whole.keys()
    assert all(torch.equal(ours[name], whole[name]) for name in whole)
    assert rows(run) == rows(uninterrupted)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_and_resumed(
    tmp_path: Path, text: Path, uninterrupted: Path, environment: dict[str, str], seed: int
) -> None:
    run, draw, kills = tmp_path / "run", random.Random(seed), 0
    call = command(run, str(text), *options())
    for _ in range(12):
        child = subprocess.Popen(call, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        began, before = time.monotonic(), newest_complete(run / "checkpoints")
        while child.poll() is None and time.monotonic() - began < 120:
            fresh = newest_complete(run / "checkpoints") not in (None, before)
            if kills < 4 and fresh and draw.random() < 0.3:
                time.sleep(draw.random() * 0.5)
                child.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.02)
        _, errors = child.communicate(timeout=120)
        assert child.returncode in (0, -signal.SIGKILL), errors.decode()
        if child.returncode == 0:
            break
        call = command(run, "--resume-from-checkpoint")
    assert kills >= 1
    assert child.returncode == 0
    assert_same(run, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_stop_saves_and_says_how_to_resume(
    tmp_path: Path, text: Path, uninterrupted: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    run = tmp_path / "run"
    child = subprocess.Popen(
        command(run, str(text), *options()), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("step 10/"):
            child.send_signal(number)
            break
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 1
    assert "Traceback" not in errors
    assert f"--output-dir {run} --resume-from-checkpoint" in errors
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "stopped"
    assert (run / "report.html").exists()
    lossmith.train(output_dir=str(run), resume_from_checkpoint="latest")
    assert_same(run, uninterrupted)


def interrupted_at(run: Path, text: Path, step: int) -> None:
    """A run whose process is gone after a checkpoint: made by training on, then removing what came later."""
    lossmith.train(text, output_dir=str(run), **OPTIONS | {"save_total_limit": 100})
    for path in (run / "checkpoints").glob("step-*"):
        if int(path.name[5:]) > step:
            for file in sorted(path.rglob("*"), reverse=True):
                file.unlink() if file.is_file() else file.rmdir()
            path.rmdir()


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path: Path, text: Path, uninterrupted: Path) -> None:
    run = tmp_path / "run"
    interrupted_at(run, text, 40)
    torn = run / "checkpoints" / "step-000040" / "optimizer.pt"
    os.truncate(torn, torn.stat().st_size // 2)
    assert newest_complete(run / "checkpoints") == run / "checkpoints" / "step-000030"
    lossmith.train(output_dir=str(run), resume_from_checkpoint="latest")
    assert_same(run, uninterrupted)


def test_what_cannot_be_resumed_is_said(tmp_path: Path, text: Path, uninterrupted: Path) -> None:
    with pytest.raises(InputError, match=r"already holds a run.*--resume-from-checkpoint"):
        lossmith.train(text, output_dir=str(uninterrupted), **OPTIONS)
    with pytest.raises(InputError, match=r"--learning-rate 0.5 \(the run has"):
        lossmith.train(output_dir=str(uninterrupted), resume_from_checkpoint="latest", learning_rate=0.5)
    with pytest.raises(InputError, match="is not a run folder"):
        lossmith.train(output_dir=str(tmp_path), resume_from_checkpoint="latest")
    with pytest.raises(DataError, match="does not exist"):
        lossmith.train(output_dir=str(uninterrupted), resume_from_checkpoint=str(tmp_path / "step-000007"))
    (tmp_path / "run.json").write_text((uninterrupted / "run.json").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(DataError, match="no complete checkpoint"):
        lossmith.train(output_dir=str(tmp_path), resume_from_checkpoint="latest")
