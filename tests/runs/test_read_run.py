from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from lossmith.errors import DataError
from lossmith.runs import Curve, Run, from_curve_json, read_run, to_curve_json


def write(folder: Path, *lines: str, end: str = "\n") -> Path:
    (folder / "metrics.jsonl").write_bytes(("\n".join(lines) + end).encode("utf-8", "surrogateescape"))
    return folder


def test_every_number_of_a_line_becomes_a_point(tmp_path: Path) -> None:
    write(
        tmp_path,
        '{"step": 1, "epoch": 0.1, "loss": 5.5, "learning_rate": 0.001, "loss/causal": 5.25}',
        '{"step": 2, "loss": "nan", "grad_norm": "inf"}',
        '{"step": 2, "eval_loss": 5.0, "note": "words", "flag": true, "none": null}',
    )
    run = read_run(tmp_path)
    assert sorted(run.curves) == ["epoch", "eval_loss", "grad_norm", "learning_rate", "loss", "loss/causal"]
    assert run.curves["loss"].step.tolist() == [1, 2]
    assert run.curves["loss"].value[0] == 5.5
    assert math.isnan(run.curves["loss"].value[1])
    assert run.curves["grad_norm"].value.tolist() == [math.inf]
    assert run.curves["loss"].step.dtype == np.int64
    assert run.curves["loss"].value.dtype == np.float64


def test_run_json_is_the_config(tmp_path: Path) -> None:
    write(tmp_path, '{"step": 1, "loss": 5.5}')
    (tmp_path / "run.json").write_text('{"status": "finished"}')
    run = read_run(tmp_path)
    assert (run.tool, run.source, run.config) == ("lossmith", str(tmp_path), {"status": "finished"})


@pytest.mark.parametrize("cut", range(1, 31))
def test_a_last_line_cut_anywhere_is_left_out(tmp_path: Path, cut: int) -> None:
    last = '{"step": 2, "loss": 4.0, "t": "明"}'.encode()
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "loss": 5.0}\n' + last[:cut])
    assert read_run(tmp_path).curves["loss"].value.tolist() == [5.0]


def test_a_whole_last_line_without_its_newline_counts(tmp_path: Path) -> None:
    run = read_run(write(tmp_path, '{"step": 1, "loss": 5.0}', '{"step": 2, "loss": 4.0}', end=""))
    assert run.curves["loss"].value.tolist() == [5.0, 4.0]


@pytest.mark.parametrize(
    "broken", ['{"step": 2, "lo', "[1, 2]", "hello", '{"step": 2}{"step": 3}', "\x00\x00", "\udcff"]
)
def test_a_broken_line_in_the_middle_is_named(tmp_path: Path, broken: str) -> None:
    write(tmp_path, '{"step": 1, "loss": 5.0}', broken, '{"step": 3, "loss": 4.0}')
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2: expected one JSON object"):
        read_run(tmp_path)


def test_blank_lines_crlf_and_lines_without_a_step_are_skipped(tmp_path: Path) -> None:
    run = read_run(write(tmp_path, '{"step": 1, "loss": 5.0}\r', "", '{"loss": 9.0}', '{"step": "nan", "loss": 8.0}'))
    assert run.curves["loss"].value.tolist() == [5.0]


def test_an_empty_log_has_no_curves(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b"")
    assert read_run(tmp_path).curves == {}


def test_what_is_no_run_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a file metrics\.jsonl in it, found none"):
        read_run(tmp_path)
    write(tmp_path, '{"step": 1}')
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json: expected JSON"):
        read_run(tmp_path)


def test_latest_keeps_what_was_done_last() -> None:
    curve = Curve.of("loss", [(10, 5.0), (20, 4.0), (30, 3.0), (20, 4.5), (30, 3.5), (30, 3.25), (40, 3.0)])
    latest = curve.latest()
    assert latest.step.tolist() == [10, 20, 30, 40]
    assert latest.value.tolist() == [5.0, 4.5, 3.25, 3.0]
    assert len(Curve.of("loss", []).latest()) == 0


def test_a_curve_is_two_vectors_of_one_length() -> None:
    with pytest.raises(ValueError, match="one length"):
        Curve("loss", np.zeros(2, np.int64), np.zeros(3))


def test_curve_json_goes_there_and_back() -> None:
    points = [(1, 5.0), (2, math.inf), (3, -math.inf), (4, math.nan)]
    run = Run("runs/a", "lossmith", {"loss": Curve.of("loss", points), "learning_rate": Curve.of("lr", [(1, 0.1)])})
    data = json.loads(json.dumps(to_curve_json(run), allow_nan=False))
    assert data["train"] == [[1, 5.0], [2, "inf"], [3, "-inf"], [4, "nan"]]
    assert data["eval"] == []
    back = from_curve_json(data)
    assert back.source == "runs/a"
    assert sorted(back.curves) == ["learning_rate", "loss"]
    np.testing.assert_array_equal(back.curves["loss"].value, run.curves["loss"].value)
    np.testing.assert_array_equal(back.curves["loss"].step, run.curves["loss"].step)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "must be an object"),
        ({"train": {"a": 1}}, "'train' must be a list"),
        ({"train": [[1, 2.0], [3]]}, r"train\[1\] must be \[step, value\]"),
        ({"eval": [["x", 1.0]]}, r"eval\[0\]"),
        ({"lr": [["nan", 1.0]]}, r"lr\[0\]"),
    ],
)
def test_malformed_curve_json_is_named(data: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_curve_json(data)
