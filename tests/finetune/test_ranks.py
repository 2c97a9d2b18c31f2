"""Fine-tuning on two ranks is fine-tuning on one with the same rows in a step, whatever the loss compares."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from similarity_of_ranks import CASES

from lossmith import cli
from lossmith.objectives.tasks_losses import task_loss
from lossmith.objectives.tasks_similarity import SimilarityObjective

WORKER = str(Path(__file__).with_name("similarity_of_ranks.py"))
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> list[dict[str, Any]]:
    """What one process finds, and what two find."""
    folder = tmp_path_factory.mktemp("ranks")
    for name, launcher in (("one", [sys.executable]), ("two", TWO)):
        subprocess.run([*launcher, WORKER, str(folder / name)], env=environment, check=True, timeout=300)
    return [dict(torch.load(folder / name, weights_only=True)) for name in ("one", "two")]


@pytest.mark.parametrize("case", CASES)
def test_the_loss_is_that_of_all_ranks_rows(found: list[dict[str, Any]], case: str) -> None:
    one, two = (side[case] for side in found)
    assert float(two["count"]) == float(one["count"]) == 8
    assert float(two["value"]) == pytest.approx(float(one["value"]), rel=1e-10)
    assert max(float(gradient.abs().max()) for gradient in one["gradients"]) > 1e-3
    for ours, theirs in zip(two["gradients"], one["gradients"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_equal_texts_are_not_each_others_negatives() -> None:
    objective = SimilarityObjective(task_loss("similarity_paired", "info_nce", []), 0, "mean", 2, scored=False)
    row = {"tokens": np.array([1, 2]), "tokens_1": np.array([3])}
    other = row | {"tokens_1": np.array([4])}
    batches = [
        objective.batch(rows, np.random.default_rng(0))
        for rows in ([row, row], [row, other], [row, other | {"tokens": np.array([5])}])
    ]
    costs = [float(objective.total(torch.ones(2, 2, 3), batch).value) for batch in batches]
    assert costs == pytest.approx([0, 0, 2 * math.log(2)])  # the second: two answers to one question


def test_a_run_of_two_ranks_is_that_of_one(
    bert: str, table: Callable[..., str], tmp_path: Path, environment: dict[str, str]
) -> None:
    data = table([{"anchor": f"{i} a", "positive": f"b {i % 30}"} for i in range(60)])
    options = ["--task", "similarity", "--max-steps", "4", "--dropout", "0", "--optim", "sgd", "--learning-rate", "0.1"]
    options += ["--logging-steps", "1", "--max-grad-norm", "0", "--sample-tokens", "0", "--no-bf16"]

    def call(out: str, size: int) -> list[str]:
        return ["finetune", bert, data, *options, "--per-device-train-batch-size", str(size), "--output-dir", out]

    assert cli.run(call(str(tmp_path / "one"), 8)) == 0
    done = subprocess.run(
        [*TWO, "-m", "lossmith", *call(str(tmp_path / "two"), 4)], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("one", "two")
    )
    for key in ("loss", "grad_norm"):
        told = [[row[key] for row in side if key in row] for side in (one, two)]
        assert len(told[0]) == 4
        assert told[1] == pytest.approx(told[0], rel=1e-4)
