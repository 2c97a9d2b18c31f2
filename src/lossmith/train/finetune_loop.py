"""The loop of fine-tuning: evaluated by figures, the best weights kept, stopped when they no longer get better."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from lossmith.evaluate.bootstrap import Resampling
from lossmith.evaluate.outcome import Outcome
from lossmith.models.mode import evaluating
from lossmith.train.checkpoint import load_weights, published, save_checkpoint_weights
from lossmith.train.config import settled
from lossmith.train.finetune_config import SMALLER
from lossmith.train.finetune_model import merge_lora
from lossmith.train.loop import Loop, eager
from lossmith.train.step import Trainer

EVAL_TOKENS = 16384  # in one forward pass of an evaluation
SHOWN = 5  # validation rows whose answers are shown
QUICK = Resampling(samples=100)  # during training nobody looks at the intervals


class FinetuneTrainer(Trainer):
    """The step over labelled rows: tokens are counted without padding, and a batch is described by its rows."""

    def tokens_in(self, step: int, batches: Any) -> int:
        """Return how many tokens all ranks read in a step, without padding."""
        return int(self.store.tokens(self.blocks_done(step - 1), self.blocks_done(step)))

    def describe(self, step: int, part: int) -> str:
        """Name a micro-batch by its place in the order."""
        first = self.first_block(step, part)
        return f"rows {first} to {first + self.batch_size - 1} of the order"


class FinetuneLoop(Loop):
    """Evaluate by the task's figures every epoch or --eval-steps, and keep the weights with the best --metric."""

    best: tuple[float, float] | None = None
    """The best figure, and the loss with it."""
    best_step = 0
    waited = 0
    outcome: Outcome | None = None

    @property
    def metric(self) -> str:
        """The figure that the best checkpoint is chosen by."""
        return str(self.config.metric)

    def due(self, step: int, last: bool) -> bool:
        """Tell whether to evaluate after a step: every --eval-steps, or where an epoch ends; and after the last."""
        if self.config.eval_steps or last:
            return last or bool(step % self.config.eval_steps == 0)
        rows = len(self.trainer.blocks)
        return self.trainer.blocks_done(step) // rows > self.trainer.blocks_done(step - 1) // rows

    def judge(self, step: int) -> None:
        """Evaluate, keep the weights if they are the best so far, and end the run where patience is over."""
        with self.trainer.autocast(), eager(self.config.torch_compile):
            loss, outcome, found = self.measure(self.config.max_eval_examples, QUICK)
        row = figures_row(loss, outcome, self.metric)
        self.write("metrics", {"step": step, "epoch": self.epoch(step), **row})
        self.show(step, found)
        if self.better(row.get(f"eval_{self.metric}", math.nan), loss):
            self.best, self.best_step, self.waited = (row[f"eval_{self.metric}"], loss), step, 0
            self.keep_best()
        else:
            self.waited += 1
        patience = self.config.early_stopping_patience
        self.ended = bool(patience and self.waited >= patience)

    def better(self, value: float, loss: float) -> bool:
        """Tell whether a figure beats the best so far, of equal ones the smaller loss; all do to keep the last."""
        if not self.config.load_best_model_at_end:
            return True
        if math.isnan(value) or self.best is None:
            return not math.isnan(value)
        before, loss_before = self.best
        gain = before - value if self.metric in SMALLER else value - before
        return gain > 0 or (gain == 0 and loss < loss_before)

    def measure(self, limit: int | None, how: Resampling) -> tuple[float, Outcome, list[Any]]:
        """Return the mean loss, the figures, and the answers to the validation rows (the first `limit`, or all)."""
        task, world = self.task, self.world
        rows = task.validation.rows[:limit]
        answers: dict[int, Any] = {}
        value, weight = 0.0, 0.0
        with evaluating(self.trainer.model):
            for i, places in enumerate(self.batches(len(rows))):
                if i % world.size != world.rank:
                    continue
                examples = [task.validation.examples[place] for place in places]
                batch = self.trainer.objective.batch(examples, np.random.default_rng(0))
                batch = {key: tensor.to(world.device) for key, tensor in batch.items()}
                found, total = task.kind.answers(self.trainer.model, self.trainer.objective, batch)
                answers |= dict(zip(places, found, strict=True))
                value, weight = value + float(total.value), weight + float(total.weight)
        answers, value, weight = self.gathered(answers, value, weight)
        ordered = [answers[place] for place in range(len(rows))]
        return value / (weight or 1.0), task.kind.outcome(rows, ordered, how), ordered

    def batches(self, rows: int) -> Iterator[list[int]]:
        """Yield the places of validation rows, those of like length together, the longest first."""
        lengths = self.task.validation.lengths
        order = sorted(range(rows), key=lambda place: -lengths[place])
        start = 0
        while start < len(order):
            size = self.task.kind.batch_size or max(1, EVAL_TOKENS // max(1, lengths[order[start]]))
            yield order[start : start + size]
            start += size

    def gathered(self, answers: dict[int, Any], value: float, weight: float) -> tuple[dict[int, Any], float, float]:
        """Return the answers and sums of all ranks, on every rank."""
        if self.world.size == 1:
            return answers, value, weight
        parts: list[Any] = [None] * self.world.size
        dist.all_gather_object(parts, (answers, value, weight))
        merged = {place: found for part in parts for place, found in part[0].items()}
        return merged, sum(part[1] for part in parts), sum(part[2] for part in parts)

    def sample(self, step: int) -> None:
        """Show nothing before training: there is no answer yet."""

    def show(self, step: int, found: list[Any]) -> None:
        """Write a few validation rows with the model's answers."""
        if not settled(self.config.sample_tokens):
            return
        rows = self.task.validation.rows[:SHOWN]
        told = [f"{self.task.kind.asked(row)}\n→ {self.task.kind.shown(row, found[i])}" for i, row in enumerate(rows)]
        self.write("samples", {"step": step, "prompt": "", "text": "\n\n".join(told)})

    def keep_best(self) -> None:
        """Write the weights of this moment beside the checkpoints (first rank)."""
        if self.world.leads:
            with published(self.best_folder(self.best_step), self.folder.checkpoints) as beside:
                save_checkpoint_weights(self.trainer.model, beside)
        self.world.wait()

    def best_folder(self, step: int) -> Path:
        """Return where the best weights of a step are."""
        return self.folder.checkpoints / f"best-{step:06d}"

    def kept(self) -> dict[str, Any]:
        """Return what a checkpoint must know of the best weights."""
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited}

    def take(self, state: dict[str, Any]) -> None:
        """Go on from the best weights that a checkpoint knew of."""
        self.best, self.best_step, self.waited = (
            state["best"] and tuple(state["best"]),
            state["best_step"],
            state["waited"],
        )

    def save(self, step: int) -> None:
        """Write a checkpoint, and forget best weights that no checkpoint refers to any more."""
        super().save(step)
        if self.world.leads:
            states = self.folder.checkpoints.glob("step-*/state.json")
            known = {json.loads(path.read_text(encoding="utf-8"))["best_step"] for path in states} | {self.best_step}
            for path in self.folder.checkpoints.glob("best-*"):
                if path not in {self.best_folder(step) for step in known}:
                    shutil.rmtree(path, ignore_errors=True)

    def choose(self) -> None:
        """Take the weights with the best figure, and put LoRA's adapters into the layers they stand in."""
        if self.best is not None:
            load_weights(self.trainer.model, self.best_folder(self.best_step))
        if self.config.lora_rank:
            merge_lora(self.trainer.model)

    def export(self, folder: Path) -> None:
        """Write model/ (first rank only)."""
        for parameter in self.trainer.model.parameters():
            parameter.requires_grad_(True)
        super().export(folder)

    def conclude(self, step: int) -> dict[str, Any]:
        """Evaluate what has been saved as model/ on all validation rows; the log has these figures at its step."""
        with nullcontext(), eager(self.config.torch_compile):
            loss, self.outcome, _ = self.measure(None, Resampling())
        kept = {"best_step": self.best_step, "metric": self.metric, "chosen": self.config.chosen}
        return figures_row(loss, self.outcome, self.metric) | kept


def figures_row(loss: float, outcome: Outcome, first: str) -> dict[str, Any]:
    """Return the keys under which an evaluation stands in metrics.jsonl: eval_loss, eval_<figure>, eval_rows."""
    figures = {f"eval_{figure.name}": figure.value for figure in sorted(outcome.figures, key=lambda f: f.name != first)}
    return {"eval_loss": loss, **figures, "eval_rows": outcome.examples}
