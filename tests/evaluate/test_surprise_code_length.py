from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import lossmith
from lossmith.errors import DataError
from lossmith.evaluate.code_length import code_length, race


def write(folder: Path, losses: list[tuple[int, float]], *, tokens: int, objective: str = "causal") -> Path:
    """A run folder of 100 tokens a step."""
    folder.mkdir()
    told = {"config": {"objective": objective}, "data": {"n_train_tokens": tokens, "train_bytes": 3 * tokens}}
    (folder / "run.json").write_text(json.dumps(told))
    rows = [json.dumps({"step": step, "loss": loss, "tokens": 100 * step}) for step, loss in losses]
    (folder / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def test_each_log_is_charged_for_the_tokens_since_the_one_before(tmp_path: Path) -> None:
    found = code_length(write(tmp_path / "r", [(1, 6.0), (10, 5.0), (20, 4.0)], tokens=5000))
    assert found.nats == pytest.approx(100 * 6.0 + 900 * 5.0 + 1000 * 4.0)
    assert (found.tokens, found.bytes, found.uncovered) == (2000, 6000, 0)
    assert found.bits_per_byte == pytest.approx(9100 / math.log(2) / 6000)
    assert found.passes == pytest.approx(0.4)
    assert found.to_json()["bytes_coded"] == pytest.approx(9100 / math.log(2) / 8)


def test_only_the_first_pass_is_sent(tmp_path: Path) -> None:
    found = code_length(write(tmp_path / "r", [(10, 5.0), (20, 4.0), (30, 1.0)], tokens=1500))
    assert found.nats == pytest.approx(1000 * 5.0 + 500 * 4.0)
    assert (found.tokens, found.bytes, found.uncovered) == (1500, 4500, 1000)
    assert found.passes == pytest.approx(2.0)


def test_a_pass_ends_where_the_blocks_do(tmp_path: Path) -> None:
    """Of 300 tokens in blocks of 128 an epoch has one block: what comes after it has been seen before."""
    folder = write(tmp_path / "r", [(1, 6.0), (2, 5.0), (3, 4.0)], tokens=300)
    told = json.loads((folder / "run.json").read_text())
    told["config"]["block_size"] = 128
    (folder / "run.json").write_text(json.dumps(told))
    found = code_length(folder)
    assert found.tokens == 128
    assert found.nats == pytest.approx(100 * 6.0 + 28 * 5.0)
    assert found.passes == pytest.approx(300 / 128)


def test_rows_that_a_resumed_run_did_again_count_once(tmp_path: Path) -> None:
    """Killed after step 25, resumed from 20 with other logging steps."""
    rows = [(1, 6.0), (10, 5.0), (20, 4.0), (25, 9.9), (24, 3.5), (28, 3.0)]
    found = code_length(write(tmp_path / "r", rows, tokens=9000))
    assert found.nats == pytest.approx(100 * 6.0 + 900 * 5.0 + 1000 * 4.0 + 400 * 3.5 + 400 * 3.0)
    assert found.tokens == 2800


def test_a_resumed_run_has_the_code_length_of_one_that_was_not(
    text_file: Path, tmp_path: Path, tiny_options: dict[str, Any]
) -> None:
    options = tiny_options | {
        "logging_steps": 4,
        "save_steps": 5,
        "gradient_accumulation_steps": 2,
        "document_mask": True,
    }
    for name in ("whole", "parts"):
        lossmith.train(str(text_file), output_dir=str(tmp_path / name), max_steps=10, **options)
    step = tmp_path / "parts" / "checkpoints" / "step-000005"
    lossmith.train(resume_from_checkpoint=str(step), output_dir=str(tmp_path / "parts"), logging_steps=3)
    whole, parts = code_length(tmp_path / "whole"), code_length(tmp_path / "parts")
    assert whole.tokens == parts.tokens == 10 * 2 * 4 * 16
    assert parts.nats == pytest.approx(whole.nats, rel=1e-5)


def test_two_runs_race_over_the_same_amount_of_text(tmp_path: Path) -> None:
    long = write(tmp_path / "long", [(10, 5.0), (20, 4.0)], tokens=5000)
    short = write(tmp_path / "short", [(5, 5.5), (15, 4.4)], tokens=5000)
    found = race(long, short)
    assert found.ours.tokens == found.other.tokens == 1500
    assert found.ours.nats == pytest.approx(1000 * 5.0 + 500 * 4.0)
    assert found.other.nats == pytest.approx(500 * 5.5 + 1000 * 4.4)
    assert found.difference == pytest.approx(-150 / math.log(2) / 8)
    assert found.same_text
    assert not race(long, write(tmp_path / "more", [(10, 5.0)], tokens=6000)).same_text
    assert found.to_json()["difference_bytes"] == found.difference


def test_what_has_no_code_length_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run\.json"):
        code_length(tmp_path)
    with pytest.raises(DataError, match="--objective masked, whose loss is no code length"):
        code_length(write(tmp_path / "masked", [(1, 1.0)], tokens=100, objective="masked"))
    with pytest.raises(DataError, match="no finite numbers"):
        code_length(write(tmp_path / "nan", [(1, 5.0), (2, math.nan)], tokens=900))
