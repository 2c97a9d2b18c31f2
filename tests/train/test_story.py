"""What is told of a run is right: epochs, the smoothed loss, the time it took, and nothing that was told gets lost."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import lossmith
from lossmith.train.config import TrainConfig
from lossmith.train.folder import RunFolder
from lossmith.train.pretraining import run_training
from lossmith.train.reporter import LiveReporter, Reporter
from lossmith.train.scale import Scale
from lossmith.train.story import SMOOTHING

Options = dict[str, Any]


@dataclass
class Listener(Reporter):
    """Writes down what it hears."""

    steps: list[tuple[int, float, float]] = field(default_factory=list)
    epochs: list[tuple[int, int, float]] = field(default_factory=list)

    def step(self, step: int, loss: float, smoothed: float) -> None:
        self.steps.append((step, loss, smoothed))

    def epoch(self, first: int, last: int, loss: float) -> None:
        self.epochs.append((first, last, loss))


def told(**options: Any) -> Listener:
    listener = Listener()
    run_training(TrainConfig(**options), [listener])
    return listener


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def options(tmp_path: Path, tiny_options: Options) -> Options:
    """An epoch of the text is a few steps: 1,440 bytes are 89 blocks of 16, or 22.25 steps of 4."""
    text = tmp_path / "short.txt"
    text.write_text("so it goes, and so it goes on and on. " * 38, encoding="utf-8")
    here = {"inputs": (str(text),), "output_dir": str(tmp_path / "run"), "learning_rate": 0.01, "optim": "adamw"}
    return tiny_options | here | {"sample_tokens": 0, "validation_fraction": 0.003}


def test_an_epoch_is_the_mean_of_its_tokens_however_seldom_it_is_logged(options: Options) -> None:
    heard = told(**options, max_steps=70, logging_steps=1000)
    assert [(first, last) for first, last, _ in heard.epochs] == [(1, 1), (2, 2), (3, 3)]
    blocks = 4 * 70 / lines(Path(options["output_dir"]) / "metrics.jsonl")[-1]["epoch"]
    start = 0
    for number, _, mean in heard.epochs:
        stop = next(step for step, _, _ in heard.steps if step * 4 >= number * blocks - 0.01)
        own = [loss for step, loss, _ in heard.steps if start < step <= stop]
        assert mean == pytest.approx(sum(own) / len(own), rel=1e-6)
        start = stop
    assert heard.epochs[0][2] > heard.epochs[1][2] + 0.1


def test_steps_longer_than_an_epoch_name_all_they_end(options: Options) -> None:
    heard = told(**options | {"per_device_train_batch_size": 200}, max_steps=2)
    assert [(first, last) for first, last, _ in heard.epochs] == [(1, 2), (3, 4)]


def test_smoothed_is_a_weighted_mean_of_all_steps_and_survives_a_resume(options: Options) -> None:
    whole = told(**options, max_steps=30, save_steps=10, save_total_limit=0)
    losses = [loss for _, loss, _ in whole.steps]
    for step, _, smoothed in whole.steps:
        weights = [SMOOTHING ** (step - i) for i in range(1, step + 1)]
        mean = sum(w * x for w, x in zip(weights, losses, strict=False)) / sum(weights)
        assert smoothed == pytest.approx(mean, rel=1e-9)
    checkpoint = Path(options["output_dir"]) / "checkpoints" / "step-000010"
    resumed = told(resume_from_checkpoint=str(checkpoint))
    assert resumed.steps == whole.steps[10:]
    assert resumed.epochs == whole.epochs


def test_extending_a_run_loses_nothing_that_was_told(options: Options, tmp_path: Path) -> None:
    options |= {"sample_tokens": 8, "eval_max_tokens": 4}
    run = lossmith.train(**options, max_steps=20, logging_steps=5)
    names = ("metrics.jsonl", "samples.jsonl")
    before = {name: (run.path / name).read_text(encoding="utf-8") for name in names}
    assert lines(run.path / "metrics.jsonl")[-1].keys() >= {"eval_loss", "step"}
    lossmith.train(output_dir=str(run.path), resume_from_checkpoint="latest")
    assert {name: (run.path / name).read_text(encoding="utf-8") for name in names} == before
    lossmith.train(output_dir=str(run.path), resume_from_checkpoint="latest", max_steps=22)
    for name in names:
        text = (run.path / name).read_text(encoding="utf-8")
        assert text.startswith(before[name])
        assert {row["step"] for row in lines(run.path / name)} >= {20, 22}


def test_rows_after_the_checkpoint_are_cut_at_the_first_later_step(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append("metrics", {"step": 4, "loss": 1.0})
    saved = folder.sync()
    for row in ({"step": 4, "eval_loss": 1.0}, {"step": 5, "loss": 0.9}):
        folder.append("metrics", row)
    folder.close()
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 4, "los')
    again = RunFolder(tmp_path)
    again.rewind(saved, 4)
    again.append("metrics", {"step": 4, "eval_loss": 1.0})
    again.append("metrics", {"step": 5, "loss": 0.8})
    again.close()
    assert [tuple(row.values()) for row in lines(tmp_path / "metrics.jsonl")] == [(4, 1.0), (4, 1.0), (5, 0.8)]


def test_the_time_of_all_parts_adds_up(options: Options) -> None:
    run = lossmith.train(**options, max_steps=10)
    first = json.loads((run.path / "run.json").read_text(encoding="utf-8"))["seconds"]
    heard: dict[str, Any] = {}

    class Last(Reporter):
        def finish(self, summary: dict[str, Any]) -> None:
            heard.update(summary)

    run_training(TrainConfig(output_dir=str(run.path), resume_from_checkpoint="latest", max_steps=12), [Last()])
    both = json.loads((run.path / "run.json").read_text(encoding="utf-8"))["seconds"]
    assert both > first
    assert heard["seconds"] == both
    # a killed process wrote no time of its own into run.json: the checkpoint knows
    record = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    (run.path / "run.json").write_text(json.dumps(record | {"seconds": None}), encoding="utf-8")
    lossmith.train(output_dir=str(run.path), resume_from_checkpoint="latest", max_steps=13)
    assert json.loads((run.path / "run.json").read_text(encoding="utf-8"))["seconds"] > first


def test_the_live_line_moves_with_every_step() -> None:
    out = io.StringIO()
    reporter = LiveReporter(console=Console(file=out, force_terminal=True, width=120))
    reporter.start(1000, Scale(5.0))
    try:
        reporter.step(1, 5.0, 5.0)
        reporter.drawn = 0.0  # a while ago
        reporter.step(7, 4.0, 4.5)
        assert reporter.live is not None
        reporter.live.refresh()
    finally:
        reporter.close()
    assert "step 7/1000" in out.getvalue()
    assert "smoothed 4.500" in out.getvalue()
