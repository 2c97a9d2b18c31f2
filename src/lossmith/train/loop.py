"""The loop: one step is counts, forward, backward, guard, update; around it logs, evaluations, samples, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossmith.data import Blocks, TokenStore
from lossmith.errors import NonFiniteError
from lossmith.evaluate import Evaluation, evaluate, sample
from lossmith.objectives import Objective
from lossmith.train.checkpoint import prune, save_checkpoint
from lossmith.train.config import TrainConfig
from lossmith.train.distributed import World
from lossmith.train.folder import RunFolder
from lossmith.train.guard import check_finite
from lossmith.train.optim import Optimizers
from lossmith.train.reporter import Reporter
from lossmith.train.schedule import learning_rate_factor
from lossmith.train.signals import StopRequest

Batch = dict[str, Tensor]
EVAL_TOKENS = 16384  # in one forward pass of an evaluation: long enough for full speed, small beside the training pass


@dataclass
class Counters:
    """What a checkpoint must remember beside weights and optimizer: tokens trained on and seconds spent so far."""

    tokens: int = 0
    seconds: float = 0.0


@dataclass
class Window:
    """Sums over the steps since the last line of the log: Σ nats and Σ weights per term, and when it began."""

    nats: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    grad_norm: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    def add(self, nats: dict[str, float], counts: dict[str, float], grad_norm: float) -> None:
        """Add the sums of a step; the gradient norm is that of the last one."""
        for name in counts:
            self.nats[name] = self.nats.get(name, 0.0) + nats[name]
            self.counts[name] = self.counts.get(name, 0.0) + counts[name]
        self.grad_norm = grad_norm


@dataclass
class Trainer:
    """One run on one rank: model, data, options, and where to write."""

    model: Any
    objective: Objective
    optimizers: Optimizers
    store: TokenStore
    blocks: Blocks
    config: TrainConfig
    world: World
    folder: RunFolder
    reporters: Sequence[Reporter]
    total_steps: int
    bf16: bool = False
    counters: Counters = field(default_factory=Counters)
    window: Window = field(default_factory=Window)
    last_loss: float | None = None

    def run(self, first_step: int, stop: StopRequest) -> int:
        """Train from `first_step` to the end, or to the end of the step asked to stop in; return the last step."""
        if first_step == 1:
            self.sample(0)  # noise, to compare with
        self.model.train()
        step = first_step - 1
        for step in range(first_step, self.total_steps + 1):
            stopping = self.train_step(step, stop)
            if step % self.config.logging_steps == 0 or step in (1, self.total_steps):
                self.log(step)
            if step % self.every("eval_steps", 10) == 0 and step != self.total_steps and not stopping:
                self.evaluate(step, self.config.eval_max_tokens)
            if step % self.every("save_steps", 5) == 0 or step == self.total_steps or stopping:
                self.save(step)
            if stopping:
                break
        return step

    def every(self, name: str, parts: int) -> int:
        """Return the option `name`, by default such that it happens `parts` times in the run."""
        return getattr(self.config, name) or max(1, self.total_steps // parts)

    def train_step(self, step: int, stop: StopRequest) -> bool:
        """Do one optimizer step; return whether any rank was asked to stop.

        The counts of all micro-batches and all ranks are known before the first backward, so that any split of the same
        batch gives the same loss and the same gradients.
        """
        start = time.perf_counter()
        seed_everything(self.config.seed, self.world.rank, step)
        batches = list(self.batches(step))
        counts, stopping = self.total_counts(batches, stop)
        values = [self.forward_backward(batch, counts) for batch in batches]
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.world.sum_gradients(parameters)
        nats = self.total_values(values)
        grad_norm = self.clip(parameters)
        self.guard(step, values, nats, grad_norm)
        self.optimizers.step(self.rate_factor(step))
        self.optimizers.zero_grad()
        self.finish_step(nats, counts, grad_norm, time.perf_counter() - start)
        return stopping

    def batches(self, step: int) -> Iterator[Batch]:
        """Yield this rank's micro-batches of a step; the examples of a step are the same however they are divided."""
        size, parts = self.config.per_device_train_batch_size or 1, self.config.gradient_accumulation_steps
        rng = np.random.default_rng((self.config.seed, self.world.rank, step))
        for part in range(parts):
            first = (((step - 1) * parts + part) * self.world.size + self.world.rank) * size
            batch = self.objective.batch([self.blocks.example(i) for i in range(first, first + size)], rng)
            yield {key: value.to(self.world.device, non_blocking=True) for key, value in batch.items()}

    def total_counts(self, batches: list[Batch], stop: StopRequest) -> tuple[dict[str, Tensor], bool]:
        """Return Σ weights per term over micro-batches and ranks, and whether any rank wants to stop (one message)."""
        each = [self.objective.counts(batch) for batch in batches]
        summed = [torch.stack([counts[name] for counts in each]).sum(dtype=torch.float64) for name in each[0]]
        flag = torch.tensor(float(bool(stop.requested)), dtype=torch.float64, device=self.world.device)
        *totals, stops = self.world.sum(torch.stack([*summed, flag])).unbind()
        return dict(zip(each[0], totals, strict=True)), bool(stops)

    def forward_backward(self, batch: Batch, counts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the gradients of Σ value/N of one micro-batch, and return the value of each term (nats, summed)."""
        with self.autocast():
            terms = self.objective.terms(self.model, batch)
        losses = [total.value / _nonzero(counts[name]).to(total.value.dtype) for name, total in terms.items()]
        torch.stack(losses).sum().backward()
        return {name: total.value.detach() for name, total in terms.items()}

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute matrix products in bfloat16 where that was chosen."""
        return torch.autocast(self.world.device.type, dtype=torch.bfloat16) if self.bf16 else nullcontext()

    def total_values(self, values: list[dict[str, Tensor]]) -> dict[str, float]:
        """Return the nats of each term over micro-batches and ranks."""
        sums = torch.stack([torch.stack([v[name] for v in values]).sum(dtype=torch.float64) for name in values[0]])
        return dict(zip(values[0], self.world.sum(sums).tolist(), strict=True))

    def clip(self, parameters: list[torch.nn.Parameter]) -> float:
        """Clip the gradient to max_grad_norm (0: leave it) and return its L2 norm before that."""
        limit = self.config.max_grad_norm or float("inf")
        return float(torch.nn.utils.clip_grad_norm_(parameters, limit))

    def guard(self, step: int, values: list[dict[str, Tensor]], nats: dict[str, float], grad_norm: float) -> None:
        """Raise NonFiniteError on every rank when anything is not finite, before the optimizer has seen it."""
        if np.isfinite([*nats.values(), grad_norm]).all():
            return
        own = [{name: float(value) for name, value in part.items()} for part in values]
        check_finite(step, own, grad_norm, self.model, lambda index: self.describe(step, index))
        raise NonFiniteError(f"step {step}: the loss on another rank is not finite; its message names the batch")

    def describe(self, step: int, part: int) -> str:
        """Name a micro-batch by its place in the order and its first words."""
        size = self.config.per_device_train_batch_size or 1
        parts = self.config.gradient_accumulation_steps
        first = (((step - 1) * parts + part) * self.world.size + self.world.rank) * size
        text = self.store.tokenizer.decode(self.blocks.example(first)["tokens"][:40])
        return f"blocks {first} to {first + size - 1} of the order, beginning {text!r}"

    def rate_factor(self, step: int) -> float:
        """Return this step's learning rate as a fraction of the peak."""
        return learning_rate_factor(
            step - 1,
            self.total_steps,
            kind=self.config.lr_scheduler_type or "cosine",
            warmup=self.config.warmup_steps or 0.0,
            min_rate=self.config.min_lr_rate,
            decay_fraction=self.config.decay_fraction or 0.0,
        )

    def finish_step(self, nats: dict[str, float], counts: dict[str, Tensor], grad_norm: float, seconds: float) -> None:
        """Count what the step did."""
        tokens = int(next(iter(counts.values())))
        self.counters.tokens += tokens
        self.counters.seconds += seconds
        self.window.tokens += tokens
        self.window.seconds += seconds
        self.window.add(nats, {name: float(count) for name, count in counts.items()}, grad_norm)

    def log(self, step: int) -> None:
        """Write the mean loss since the last line: Σ nats / Σ weights of each term, then the sum of the terms."""
        window, self.window = self.window, Window()
        losses = {name: nats / (window.counts[name] or 1.0) for name, nats in window.nats.items()}
        self.last_loss = sum(losses.values())
        row = {
            "step": step,
            "epoch": self.epoch(step),
            "loss": self.last_loss,
            "learning_rate": self.optimizers.peaks[0][0] * self.rate_factor(step),
            "grad_norm": window.grad_norm,
            "tokens": self.counters.tokens,
            "tokens_per_second": window.tokens / max(window.seconds, 1e-9),
            "seconds": self.counters.seconds,
        }
        row |= {f"loss/{name}": loss for name, loss in losses.items()} if len(losses) > 1 else {}
        self.write("metrics", row)

    def epoch(self, step: int) -> float:
        """Return how often the training text has been read after a step."""
        per_step = (self.config.per_device_train_batch_size or 1) * self.config.gradient_accumulation_steps
        return round(self.blocks.epoch(step * per_step * self.world.size), 4)

    def evaluate(self, step: int, limit: int | None) -> Evaluation:
        """Evaluate on `limit` validation tokens (None: all), log it, and write a sample."""
        with self.autocast():
            result = evaluate(
                self.model,
                self.objective,
                self.store.validation,
                self.store.tokenizer,
                block_size=self.config.block_size or 512,
                batch_size=max(1, EVAL_TOKENS // (self.config.block_size or 512)),
                limit=limit,
                document_mask=self.config.document_mask,
                device=self.world.device,
            )
        self.write("metrics", {"step": step, "epoch": self.epoch(step), **evaluation_row(result)})
        self.sample(step)
        return result

    def sample(self, step: int) -> None:
        """Let the model write, so that a person sees what the number means."""
        if self.config.sample_tokens and self.world.leads:
            prompt = self.config.sample_prompt
            text = sample(
                self.model,
                self.store.tokenizer,
                prompt,
                max_new_tokens=self.config.sample_tokens,
                seed=self.config.seed,
            )
            self.write("samples", {"step": step, "prompt": prompt, "text": text})

    def write(self, name: str, row: dict[str, Any]) -> None:
        """Append a row to the run folder and show it (first rank only)."""
        if self.world.leads:
            self.folder.append(name, row)
            for reporter in self.reporters:
                reporter.row(name, row)

    def save(self, step: int) -> None:
        """Write a checkpoint (first rank) while the others wait."""
        if self.world.leads:
            state = {"counters": asdict(self.counters), "window": asdict(self.window), "logs": self.folder.sync()}
            path: Path = save_checkpoint(self.folder.checkpoints, step, self.model, self.optimizers, state)
            prune(self.folder.checkpoints, self.config.save_total_limit)
            for reporter in self.reporters:
                reporter.saved(path)
        self.world.wait()


def _nonzero(count: Tensor) -> Tensor:
    """Where nothing was counted the sum is 0: divide it by 1."""
    return count.where(count != 0, 1)


def evaluation_row(result: Evaluation) -> dict[str, Any]:
    """Return the keys under which an evaluation stands in metrics.jsonl (nats per token; bits per UTF-8 byte)."""
    return {
        "eval_loss": result.loss,
        "eval_perplexity": result.perplexity,
        "eval_bpb": result.bits_per_byte,
        "eval_tokens": result.tokens,
        "eval_bytes": result.bytes,
    }


def seed_everything(seed: int, rank: int, step: int) -> None:
    """Seed torch from (seed, rank, step), so that a resumed step draws what the uninterrupted one drew."""
    torch.manual_seed(int(np.random.SeedSequence((seed, rank, step)).generate_state(1)[0]))
