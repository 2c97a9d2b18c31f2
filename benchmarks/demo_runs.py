"""What the demonstrations share: fine-tune in this process, judge on rows that no run saw, intervals over seeds."""

from __future__ import annotations

import math
import multiprocessing
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import transformers
from scipy.stats import t  # type: ignore[import-untyped]

from lossmith.evaluate.bootstrap import Resampling
from lossmith.evaluate.predictions import judge
from lossmith.evaluate.scoring import model_answers
from lossmith.train.config import TrainConfig
from lossmith.train.finetune import run_finetuning
from lossmith.train.finetune_config import FinetuneConfig
from lossmith.train.pretraining import run_training

RUNS = Path("/tmp/lossmith-demo/runs")


@dataclass
class Table:
    """How a table of texts and labels is read; the defaults of `lossmith eval`."""

    text_column: tuple[str, ...] = ("text",)
    label_column: str | None = "label"
    labels: tuple[str, ...] = ()
    query_column: str = "query"
    document_column: str = "document"
    encoding: str = "utf-8"
    per_device_eval_batch_size: int = 32
    max_examples: int | None = None
    pooling: str = "mean"


def pretrain(name: str, **options: Any) -> Path:
    """Run `lossmith train` with these options into runs/NAME, anew; return the run folder."""
    folder = RUNS / name
    shutil.rmtree(folder, ignore_errors=True)
    return run_training(TrainConfig(output_dir=str(folder), **options), [])


def finetune(name: str, model: str | Path, rows: Path, **options: Any) -> Path:
    """Run `lossmith finetune` with these options into runs/NAME, anew; return the run folder."""
    folder = RUNS / name
    shutil.rmtree(folder, ignore_errors=True)
    config = FinetuneConfig(model=str(model), train_data=str(rows), output_dir=str(folder), **options)
    return run_finetuning(config, [])


AT_ONCE: dict[str, int] = {"runs_at_once": 2, "threads_each": 1}
"""What a row says whose seconds are of fine-tunings side by side."""


def side_by_side(jobs: dict[str, list[Callable[[], Any]]]) -> dict[str, list[Any]]:
    """Return what the jobs (partials of functions of a module) return, name by name: two at a time, a core each."""
    runs, threads = AT_ONCE.values()
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(runs, spawned, torch.set_num_threads, (threads,)) as pool:
        found = {name: [pool.submit(job) for job in each] for name, each in jobs.items()}
        return {name: [one.result() for one in each] for name, each in found.items()}


def judged(test: Path, name: str, model: Path, rows: Path, **options: Any) -> dict[str, float]:
    """Fine-tune a classifier and return its figures on test rows."""
    return classified(finetune(name, model, rows, **options), test)


def bare(body: Path, name: str, kind: str = "AutoModel", seed: int = 0) -> Path:
    """Return a folder runs/NAME with the shape and the tokenizer of a run, and weights drawn as for a new run."""
    folder = RUNS / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(body / "model", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.manual_seed(seed)
    model = getattr(transformers, kind).from_config(transformers.AutoConfig.from_pretrained(body / "model"))
    model.save_pretrained(folder)
    return folder


def classified(run: Path, test: Path) -> dict[str, float]:
    """Return the figures of a fine-tuned classifier on test rows, as `lossmith eval --task classification` has them."""
    answers, _ = model_answers(run / "model", test, "classification", Table(), None)
    outcome = judge("classification", answers, Resampling(samples=100))
    return {figure.name: figure.value for figure in outcome.figures} | {
        "majority_accuracy": max(y.figures.get("accuracy", 0.0) for y in outcome.yardsticks)
    }


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and 95 % interval (Student's t over the seeds) of figures, and the figures."""
    half = t.ppf(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    center = mean(values)
    return {
        "mean": round(center, 4),
        "interval": [round(center - half, 4), round(center + half, 4)],
        "seeds": [round(v, 4) for v in values],
    }
