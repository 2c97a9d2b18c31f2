"""Logs that the tools themselves wrote (golden/, remade by make_golden.py), against what the tools had in memory."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from lossmith.runs import Run, read

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/expected.json"))
ONE_LATE = {"keras_lines", "keras_progress", "keras_text"}  # what Keras prints counts epochs from 1


def best(folder: Path, expected: dict[str, Any]) -> Run:
    """The run of the file that expected.json names, or the only one of the folder."""
    name = expected["about"].get("file", "")
    path = folder / name if name and (folder / name).exists() else folder
    reading = read(path)
    assert reading.runs, reading.skipped
    return max(reading.runs, key=lambda run: len(run.curves.get("loss", ())))


def number(value: Any) -> float:
    return float(value) if value is not None else math.nan


@pytest.mark.parametrize("case", CASES)
def test_what_a_tool_logged_is_what_is_read(case: str) -> None:
    folder = GOLDEN / case
    expected = json.loads((folder / "expected.json").read_text())
    about = expected.pop("about")
    run = best(folder, {"about": about, **expected})
    for name, want in expected.items():
        assert name in run.curves, (name, sorted(run.curves))
        curve = run.curves[name]
        assert len(curve) == want["n"], name
        for place, key in ((0, "first"), (-1, "last")):
            step, value = want[key]
            assert curve.value[place] == pytest.approx(number(value), rel=about["rtol"] * 2, nan_ok=True), (name, key)
            if about["steps_in_log"]:
                assert curve.step[place] == step + (case in ONE_LATE), (name, key)


def test_there_are_golden_logs() -> None:
    assert len(CASES) >= 20


def test_checkpoints_of_a_run_are_left_out() -> None:
    reading = read(GOLDEN / "hf_trainer")
    assert [Path(run.source).parent.name for run in reading.runs] == ["hf_trainer"]
    assert any("2 checkpoints hold the beginning of this run" in note for note in reading.notes)
    assert len(reading.taken) == 3


def test_train_and_validation_folders_are_one_run() -> None:
    reading = read(GOLDEN / "tensorboard_siblings")
    assert [run.source for run in reading.runs] == [str(GOLDEN / "tensorboard_siblings")]
    assert {"loss", "eval_loss"} <= set(reading.runs[0].curves)


def test_an_mlflow_run_counts_once_though_each_metric_has_a_file() -> None:
    assert len(read(GOLDEN / "mlflow_files" / "mlruns").runs) == 1


@pytest.mark.parametrize(
    ("case", "name"), [("trl", "stdout.txt"), ("litgpt", "stdout.txt"), ("mmengine", "train.log")], ids=lambda x: x
)
def test_what_a_tool_printed_beside_its_log(case: str, name: str) -> None:
    if case not in CASES:
        pytest.skip(f"no golden log of {case}")
    expected = json.loads((GOLDEN / case / "expected.json").read_text())
    (run,) = read(GOLDEN / case / name).runs
    curve = run.curves["loss"]
    assert len(curve) == expected["loss"]["n"]
    assert curve.value[[0, -1]] == pytest.approx([expected["loss"][key][1] for key in ("first", "last")], rel=1e-3)
    assert run.curves["eval_loss"].value[0] == pytest.approx(expected["eval_loss"]["first"][1], rel=1e-3)
