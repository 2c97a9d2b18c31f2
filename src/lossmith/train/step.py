"""One training step: counts, forward, backward, guard, update; the same result however the batch is divided."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lossmith.data import Sentences
from lossmith.errors import NonFiniteError
from lossmith.objectives import Objective, own_tensors, weighted
from lossmith.train.config import TrainConfig, settled
from lossmith.train.distributed import World
from lossmith.train.guard import check_finite
from lossmith.train.optim import Optimizers, trained_parameters
from lossmith.train.options import RunOptions
from lossmith.train.schedule import learning_rate_factor
from lossmith.train.signals import StopRequest

Batch = dict[str, Tensor]


@dataclass
class Sums:
    """What has been added up over steps: Σ nats and Σ weights per term, tokens, seconds of training."""

    nats: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    grad_norm: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    def add(
        self, nats: dict[str, float], counts: dict[str, float], grad_norm: float, tokens: int, seconds: float
    ) -> None:
        """Add a step; the gradient norm is that of the last one."""
        for name in counts:
            self.nats[name] = self.nats.get(name, 0.0) + nats[name]
            self.counts[name] = self.counts.get(name, 0.0) + counts[name]
        self.grad_norm = grad_norm
        self.tokens += tokens
        self.seconds += seconds

    def losses(self) -> dict[str, float]:
        """Return Σ nats / Σ weights of each term; 0 where nothing was counted."""
        return {name: nats / (self.counts[name] or 1.0) for name, nats in self.nats.items()}


class Source(Protocol):
    """Where examples come from: `Blocks` of text, or labelled rows."""

    def __len__(self) -> int:
        """Return how many there are in an epoch."""

    def example(self, i: int) -> dict[str, Any]:
        """Return the example at place i of the order, which counts on through the epochs."""

    def epoch(self, i: int) -> float:
        """Return how many epochs have passed before place i."""


@dataclass
class Trainer:
    """Model, data and options on one rank, and the step that they take together."""

    model: Any
    objective: Objective
    optimizers: Optimizers
    store: Any  # a TokenStore, or in a subclass what it describes a batch by
    blocks: Source
    config: RunOptions
    world: World
    total_steps: int
    bf16: bool = False
    window: Sums = field(default_factory=Sums)
    """Since the last line of the log."""
    epoch: Sums = field(default_factory=Sums)
    """Since the end of the last epoch."""
    last: Sums = field(default_factory=Sums)
    """Of the last step."""
    tokens: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.batch_size = settled(self.config.per_device_train_batch_size)
        self.parts = settled(self.config.gradient_accumulation_steps)
        self.seed = settled(self.config.seed)
        self.own = own_tensors(self.objective)
        self.parameters = trained_parameters(self.model, self.own)

    def train(self) -> None:
        """Put what is trained into training mode."""
        self.model.train()
        if self.own is not None:
            self.own.train()

    def loss(self, sums: Sums) -> float:
        """Return the sum of the terms, each divided by its own count and times its coefficient."""
        return float(sum(weighted(self.objective, sums.losses()).values()))

    def train_step(self, step: int, stop: StopRequest) -> bool:
        """Do one optimizer step; return whether any rank was asked to stop.

        The counts of all micro-batches and all ranks are known before the first backward, so that any split of the same
        batch gives the same loss and the same gradients.
        """
        start = time.perf_counter()
        seed_everything(self.seed, self.world.rank, step)
        batches = list(self.batches(step))
        counts, stopping = self.total_counts(batches, stop)
        values = [self.forward_backward(batch, counts) for batch in batches]
        self.world.sum_gradients(self.parameters)
        nats = self.total_values(values)
        grad_norm = self.clip()
        self.guard(step, values, nats, grad_norm)
        self.optimizers.step(self.rate_factor(step))
        self.optimizers.zero_grad()
        self.count(nats, counts, grad_norm, self.tokens_in(step, batches), time.perf_counter() - start)
        return stopping

    def first_block(self, step: int, part: int) -> int:
        """Return the place in the sampling order where this rank's micro-batch `part` of a step begins."""
        return (((step - 1) * self.parts + part) * self.world.size + self.world.rank) * self.batch_size

    def blocks_done(self, step: int) -> int:
        """Return how many blocks all ranks together have read after a step."""
        return step * self.parts * self.world.size * self.batch_size

    def batches(self, step: int) -> Iterator[Batch]:
        """Yield this rank's micro-batches of a step; the examples of a step are the same however they are divided."""
        rng = np.random.default_rng((self.seed, self.world.rank, step))
        for part in range(self.parts):
            first = self.first_block(step, part)
            examples = [self.example(i) | {"step": np.int64(step)} for i in range(first, first + self.batch_size)]
            batch = self.objective.batch(examples, rng)
            yield {key: value.to(self.world.device, non_blocking=True) for key, value in batch.items()}

    def example(self, i: int) -> dict[str, Any]:
        """Return the example at place i of the order, which it carries: what is drawn for it depends on that alone."""
        return self.blocks.example(i) | {"index": np.int64(i)}

    def total_counts(self, batches: list[Batch], stop: StopRequest) -> tuple[dict[str, Tensor], bool]:
        """Return Σ weights per term over micro-batches and ranks, and whether any rank wants to stop (one message)."""
        each = [self.objective.counts(batch) for batch in batches]
        summed = [torch.stack([counts[name] for counts in each]).sum(dtype=torch.float64) for name in each[0]]
        flag = torch.tensor(float(bool(stop.requested)), dtype=torch.float64, device=self.world.device)
        *totals, stops = self.world.sum(torch.stack([*summed, flag])).unbind()
        return dict(zip(each[0], totals, strict=True)), bool(stops)

    def forward_backward(self, batch: Batch, counts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the gradients of Σ coefficient·value/N of one micro-batch; return each term's value (nats, summed)."""
        with self.autocast():
            terms = self.objective.terms(self.model, batch)
        means = {name: total.value / _nonzero(counts[name]).to(total.value.dtype) for name, total in terms.items()}
        torch.stack(list(weighted(self.objective, means).values())).sum().backward()
        return {name: total.value.detach() for name, total in terms.items()}

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute matrix products in bfloat16 where that was chosen."""
        return torch.autocast(self.world.device.type, dtype=torch.bfloat16) if self.bf16 else nullcontext()

    def total_values(self, values: list[dict[str, Tensor]]) -> dict[str, float]:
        """Return the nats of each term over micro-batches and ranks."""
        sums = torch.stack([torch.stack([v[name] for v in values]).sum(dtype=torch.float64) for name in values[0]])
        return dict(zip(values[0], self.world.sum(sums).tolist(), strict=True))

    def clip(self) -> float:
        """Clip the gradient to max_grad_norm (0: leave it) and return its L2 norm before that."""
        limit = settled(self.config.max_grad_norm)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if limit and torch.isfinite(norm):  # else every gradient would become NaN, and nobody could say which ones were
            torch.nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
        return float(norm)

    def guard(self, step: int, values: list[dict[str, Tensor]], nats: dict[str, float], grad_norm: float) -> None:
        """Raise NonFiniteError on every rank when anything is not finite, before the optimizer has seen it."""
        if np.isfinite([*nats.values(), grad_norm]).all():
            return
        own = [{name: float(value) for name, value in part.items()} for part in values]
        check_finite(step, own, grad_norm, self.model, lambda index: self.describe(step, index))
        raise NonFiniteError(f"step {step}: the loss on another rank is not finite; its message names the batch")

    def describe(self, step: int, part: int) -> str:
        """Name a micro-batch by its place in the order and its first words."""
        first = self.first_block(step, part)
        text = self.store.tokenizer.decode(self.blocks.example(first)["tokens"][:40])
        return f"blocks {first} to {first + self.batch_size - 1} of the order, beginning {text!r}"

    def rate_factor(self, step: int) -> float:
        """Return this step's learning rate as a fraction of the peak."""
        return learning_rate_factor(
            step - 1,
            self.total_steps,
            kind=settled(self.config.lr_scheduler_type),
            warmup=settled(self.config.warmup_steps),
            min_rate=settled(self.config.min_lr_rate),
            decay_fraction=settled(self.config.decay_fraction),
        )

    def tokens_in(self, step: int, batches: list[Batch]) -> int:
        """Return the tokens of a step, all ranks' together: blocks are full, and padding is no token."""
        if isinstance(self.blocks, Sentences):
            own = torch.stack([batch["attention_mask"].sum(dtype=torch.float64) for batch in batches]).sum()
            return int(self.world.sum(own))
        assert isinstance(self.config, TrainConfig)
        return self.blocks_done(1) * settled(self.config.block_size)

    def count(
        self, nats: dict[str, float], counts: dict[str, Tensor], grad_norm: float, read: int, seconds: float
    ) -> None:
        """Remember what the step did."""
        known = {name: float(count) for name, count in counts.items()}
        self.last = Sums()
        for sums in (self.last, self.window, self.epoch):
            sums.add(nats, known, grad_norm, read, seconds)
        self.tokens += read
        self.seconds += seconds


def _nonzero(count: Tensor) -> Tensor:
    """Where nothing was counted the sum is 0: divide it by 1."""
    return count.where(count != 0, 1)


def seed_everything(seed: int, rank: int, step: int) -> None:
    """Seed torch from (seed, rank, step), so that a resumed step draws what the uninterrupted one drew."""
    torch.manual_seed(int(np.random.SeedSequence((seed, rank, step)).generate_state(1)[0]))
