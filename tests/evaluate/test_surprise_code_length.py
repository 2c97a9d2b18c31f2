from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lossmith.errors import DataError
from lossmith.evaluate.code_length import code_length


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


def test_what_has_no_code_length_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run\.json"):
        code_length(tmp_path)
    with pytest.raises(DataError, match="--objective masked, whose loss is no code length"):
        code_length(write(tmp_path / "masked", [(1, 1.0)], tokens=100, objective="masked"))
    with pytest.raises(DataError, match="no finite numbers"):
        code_length(write(tmp_path / "nan", [(1, 5.0), (2, math.nan)], tokens=900))
