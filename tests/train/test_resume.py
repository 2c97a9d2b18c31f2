"""Kill it, stop it, damage it: what is resumed ends bitwise where the uninterrupted run ends."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig
from warm_python import pid_of

import lossmith
from lossmith.errors import DataError, InputError
from lossmith.train.checkpoint import newest_complete

STEPS = 120
OPTIONS = {
    "tokenizer": "byte", "block_size": 16, "per_device_train_batch_size": 4, "sample_tokens": 8, "eval_max_tokens": 512,
    "validation_fraction": 0.02, "max_steps": STEPS, "save_steps": 10, "eval_steps": 40, "logging_steps": 5,
    "optim": "muon", "seed": 5,
}  # fmt: skip


def command(python: str, run: Path, *more: str) -> list[str]:
    return [python, "-m", "lossmith", "train", "--output-dir", str(run), *more]


def small(text: Path) -> dict[str, Any]:
    """A model whose steps take a fifth of nano's time."""
    return OPTIONS | {"model": str(text.parent / "shape")}


def options(text: Path) -> list[str]:
    return [part for key, value in small(text).items() for part in (f"--{key}", str(value))]


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
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    LlamaConfig(**shape, max_position_embeddings=16).save_pretrained(path.parent / "shape")
    return path


@pytest.fixture
def uninterrupted(text: Path) -> Path:
    run = text.parent / "whole"
    if not run.exists():
        lossmith.train(text, output_dir=str(run), **small(text))
    return run


def assert_same(run: Path, uninterrupted: Path) -> None:
    ours, whole = weights(run), weights(uninterrupted)
    assert ours.keys() == whole.keys()
    assert all(torch.equal(ours[name], whole[name]) for name in whole)
    assert rows(run) == rows(uninterrupted)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_and_resumed(
    tmp_path: Path, text: Path, uninterrupted: Path, environment: dict[str, str], python: str, seed: int
) -> None:
    run, draw, kills = tmp_path / "run", random.Random(seed), 0
    call = command(python, run, str(text), *options(text))
    for _ in range(12):
        child = subprocess.Popen(call, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        began, before = time.monotonic(), newest_complete(run / "checkpoints")
        while child.poll() is None and time.monotonic() - began < 120:
            fresh = newest_complete(run / "checkpoints") not in (None, before)
            if kills < 4 and fresh and draw.random() < 0.3:
                time.sleep(draw.random() * 0.5)
                with contextlib.suppress(ProcessLookupError):  # it came to its end in the meantime
                    os.kill(pid_of(child), signal.SIGKILL)
                break
            time.sleep(0.02)
        _, errors = child.communicate(timeout=120)
        assert child.returncode in (0, -signal.SIGKILL), errors.decode()
        kills += child.returncode == -signal.SIGKILL
        if child.returncode == 0:
            break
        call = command(python, run, "--resume-from-checkpoint")
    assert kills >= 1
    assert child.returncode == 0
    assert_same(run, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_stop_saves_and_says_how_to_resume(
    tmp_path: Path,
    text: Path,
    uninterrupted: Path,
    environment: dict[str, str],
    python: str,
    number: signal.Signals,
) -> None:
    run = tmp_path / "run"
    call = command(python, run, str(text), *options(text))
    child = subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
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
    lossmith.train(text, output_dir=str(run), **small(text) | {"save_total_limit": 100})
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
        lossmith.train(text, output_dir=str(uninterrupted), **small(text))
    with pytest.raises(InputError, match=r"--learning-rate 0.5 \(the run has"):
        lossmith.train(output_dir=str(uninterrupted), resume_from_checkpoint="latest", learning_rate=0.5)
    with pytest.raises(InputError, match="is not a run folder"):
        lossmith.train(output_dir=str(tmp_path), resume_from_checkpoint="latest")
    with pytest.raises(DataError, match="does not exist"):
        lossmith.train(output_dir=str(uninterrupted), resume_from_checkpoint=str(tmp_path / "step-000007"))
    (tmp_path / "run.json").write_text((uninterrupted / "run.json").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(DataError, match="no complete checkpoint"):
        lossmith.train(output_dir=str(tmp_path), resume_from_checkpoint="latest")


def tiny(run: Path, text: Path, **more: Any) -> lossmith.TrainedRun:
    return lossmith.train(
        text, output_dir=str(run), **OPTIONS | {"max_steps": 20, "save_steps": 4, "sample_tokens": 0} | more
    )


def test_a_run_that_was_extended_remembers_it(tmp_path: Path, text: Path) -> None:
    run = tmp_path / "run"
    tiny(run, text, save_total_limit=5)
    lossmith.train(output_dir=str(run), resume_from_checkpoint="latest", max_steps=24, save_total_limit=2)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert (record["config"]["max_steps"], record["steps"], record["result"]["steps"]) == (24, 24, 24)
    assert len(list((run / "checkpoints").iterdir())) == 2
    lossmith.train(output_dir=str(run), resume_from_checkpoint="latest")
    again = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert again["result"] == record["result"]
    with pytest.raises(InputError, match=r"--max-steps 5 is before step 24"):
        lossmith.train(output_dir=str(run), resume_from_checkpoint="latest", max_steps=5)
    lossmith.train(output_dir=str(run), resume_from_checkpoint="latest", num_train_epochs=0.2)
    epochs = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert epochs["steps"] > 24


def test_an_older_checkpoint_replaces_what_came_after_it(tmp_path: Path, text: Path) -> None:
    run = tmp_path / "run"
    tiny(run, text, save_total_limit=0)
    whole, logged = weights(run), rows(run)
    older = run / "checkpoints" / "step-000008"
    lossmith.train(resume_from_checkpoint=str(older), max_steps=20)
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == [
        f"step-{n:06d}" for n in (4, 8, 12, 16, 20)
    ]
    assert all(torch.equal(whole[name], weights(run)[name]) for name in whole)
    assert rows(run) == logged


def test_steps_beyond_a_million_sort_by_number(tmp_path: Path) -> None:
    from lossmith.train.checkpoint import checkpoints_in

    for name in ("step-1000000", "step-999999", "step-000002", "step-old"):
        (tmp_path / name).mkdir()
    assert [path.name for path in checkpoints_in(tmp_path)] == ["step-000002", "step-999999", "step-1000000"]


def test_a_mixture_of_experts_resumes(tmp_path: Path, text: Path) -> None:
    """transformers saves experts under other names than its modules have; a checkpoint must not."""
    from transformers import MixtralConfig

    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    shape |= {"intermediate_size": 24, "num_local_experts": 2, "head_dim": 8, "max_position_embeddings": 16}
    MixtralConfig(**shape, bos_token_id=1, eos_token_id=1).save_pretrained(tmp_path / "shape")
    more = {"model": str(tmp_path / "shape"), "learning_rate": 0.001, "adamw_learning_rate": 0.001}
    tiny(tmp_path / "whole", text, **more)
    tiny(tmp_path / "run", text, **more, save_total_limit=0)
    lossmith.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoints" / "step-000012"))
    whole, ours = weights(tmp_path / "whole"), weights(tmp_path / "run")
    assert all(torch.equal(whole[name], ours[name]) for name in whole)
    sampled = lossmith.load_run(tmp_path / "run" / "checkpoints" / "step-000012" / "model").model
    assert sampled.config.model_type == "mixtral"


@pytest.mark.parametrize("rank", [0, 1])
def test_one_rank_is_told_and_all_stop(
    tmp_path: Path, text: Path, environment: dict[str, str], python: str, rank: int
) -> None:
    run = tmp_path / "run"
    ranks = []
    for number in range(2):
        place = {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        call = command(python, run, str(text), *options(text), "--max-steps", "3000", "--save-steps", "1000")
        told = environment | place | {"MASTER_PORT": str(29600 + rank)}
        ranks.append(subprocess.Popen(call, env=told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    assert ranks[0].stdout is not None
    for line in ranks[0].stdout:
        if line.startswith("step 10/"):
            ranks[rank].send_signal(signal.SIGTERM)
            break
    errors = [child.communicate(timeout=120)[1] for child in ranks]
    assert [child.returncode for child in ranks] == [1, 1], errors
    assert "Traceback" not in errors[0] + errors[1]
    assert "Resume with" in errors[0]
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] == "stopped"
    assert newest_complete(run / "checkpoints") is not None


def test_a_stop_before_the_loop_is_obeyed(tmp_path: Path, environment: dict[str, str], python: str) -> None:
    """Standard input that never ends: there is nothing to save yet, and the process must go."""
    run = tmp_path / "run"
    child = subprocess.Popen(
        command(python, run, "-"),
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (run / "run.json").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    child.send_signal(signal.SIGTERM)
    child.wait(timeout=60)
    _, errors = child.communicate()
    assert child.returncode == 1
    assert "before the first checkpoint" in errors
    assert "Traceback" not in errors
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] == "stopped"
