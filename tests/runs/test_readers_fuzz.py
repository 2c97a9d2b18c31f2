"""Truncated, shuffled, binary, one line: whatever is given, read returns runs or a reason, and does so soon."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_readers_text import CASES

from lossmith.runs import Reading, read

GOLDEN = Path(__file__).parent / "golden"
TEXTS = [text.encode() for text, _, _ in CASES.values()]
FILES = [path for path in sorted(GOLDEN.rglob("*")) if path.is_file() and path.name != "expected.json"]
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
WHOLE = ("failed:", "Traceback")  # how a reader's own bug is reported
NAMES = st.sampled_from(
    ["log.txt", "metrics.csv", "metrics.jsonl", "trainer_state.json", "a.ipynb", "x.db", "a.wandb", "e.gz"]
)


def checked(path: Path) -> Reading:
    """Read, and check what every reading must be."""
    reading = read(path)
    assert reading.runs or reading.skipped
    for skipped in reading.skipped:
        assert skipped.why
        assert not any(sign in skipped.why for sign in WHOLE), skipped.why
    for run in reading.runs:
        assert {"loss", "eval_loss"} & set(run.curves), run
        assert run.config["step_unit"] in {"step", "epoch", "row", "iteration"}
        for name, curve in run.curves.items():
            assert curve.name == name
            assert len(curve) > 0
            assert curve.step.dtype == np.int64
            assert curve.value.dtype == np.float64
    return reading


def put(tmp_path: Path, name: str, data: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
@given(data=st.binary(max_size=2000), name=NAMES)
@example(data=b"\xff\xfe", name="log.txt")
@example(data=b"\x1f\x8b\x08", name="e.gz")
@example(data=b"SQLite format 3\x00" + b"\x00" * 100, name="x.db")
@example(data=b":W&B\xe1\xbe\x00" + b"\xff" * 64, name="a.wandb")
@example(data=b"[" * 100_000, name="trainer_state.json")
@example(data=b'{"a":' * 50_000, name="metrics.jsonl")
@example(data=b'{"log_history": 3}', name="trainer_state.json")
@example(data=b'{"cells": {"a": 1}}', name="a.ipynb")
@example(data=b'{"cells": [{"cell_type": "code", "outputs": [1, null]}, 7]}', name="a.ipynb")
@example(data=b"\n", name="metrics.csv")
@example(data=b"step,loss\n" + b"9" * 400 + b"," + b"9" * 400 + b"\n", name="metrics.csv")
def test_any_bytes(tmp_path: Path, data: bytes, name: str) -> None:
    checked(put(tmp_path, name, data))


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
@given(
    which=st.sampled_from(TEXTS),
    start=st.integers(0, 400),
    stop=st.integers(0, 1500),
    seed=st.integers(0, 99),
    name=NAMES,
)
def test_logs_cut_shuffled_and_glued(tmp_path: Path, which: bytes, start: int, stop: int, seed: int, name: str) -> None:
    rng = random.Random(seed)
    lines = which[start:stop].split(b"\n") + rng.choice(TEXTS)[:stop].split(b"\n")
    if seed % 2:
        rng.shuffle(lines)
    checked(put(tmp_path, name, rng.choice([b"\n", b"\r\n", b"\r", b" "]).join(lines)))


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
@given(which=st.sampled_from(FILES), seed=st.integers(0, 9999))
def test_files_of_tools_damaged(tmp_path: Path, which: Path, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(which.read_bytes())
    for _ in range(rng.choice([0, 1, 5, 50])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if seed % 3:
        del data[rng.randrange(len(data)) :]
    checked(put(tmp_path, which.name, bytes(data)))


values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=3)
)


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from(["step", "epoch", "loss", "eval_loss", "grad_norm", "lr", "x"]), values, max_size=5
        ),
        min_size=1,
        max_size=12,
    ),
    name=st.sampled_from(["a.jsonl", "a.json", "trainer_state.json"]),
)
def test_rows_of_anything(tmp_path: Path, rows: list[dict[str, object]], name: str) -> None:
    import json

    text = {"a.jsonl": "\n".join(map(json.dumps, rows)), "a.json": json.dumps(rows)}
    checked(put(tmp_path, name, text.get(name, json.dumps({"log_history": rows})).encode()))


@pytest.mark.parametrize(
    "line",
    [
        b"loss ",
        b"step:1/2 train_loss:3.0 ",
        b"{'loss': 1.0, ",
        b'{"epoch": 1, "loss": "3", ',
        b"iteration 1/ 2 | lm loss: 3.0 | ",
        b"Epoch 1/2 35/35 - 1s - loss: 3.0 ",
        b"[1]\ttrain-logloss:0.5\tvalid's l2: 3 ",
        b"| epoch 001 | loss 3.0 | num_updates ",
        b"<td>1</td><tr> loss ",
        b"1,2,3;4|5 loss=",
        b"a" * 50,
    ],
)
def test_one_endless_line(tmp_path: Path, line: bytes) -> None:
    checked(put(tmp_path, "log.txt", line * (3_000_000 // len(line))))


def test_millions_of_lines_that_are_no_log(tmp_path: Path) -> None:
    reading = checked(put(tmp_path, "log.txt", b"the quick brown fox\n" * 2_000_000))
    assert reading.runs == []


def test_one_row_is_read_and_no_row_is_not(tmp_path: Path) -> None:
    assert checked(put(tmp_path, "a.csv", b"step,loss\n1,5.0\n")).runs
    assert not checked(put(tmp_path, "b.csv", b"step,loss\n")).runs
