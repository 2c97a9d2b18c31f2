"""Tokens a second of our training loop against a bare torch loop: same model, batches, optimizer and precision.

    python benchmarks/loop_overhead.py [--rounds 9] [--steps 30]

Both train the nano preset on the same tokens in one process, in turns of `steps` steps; the row holds the median of the
ratios of neighbouring turns. The bare loop is what one writes by hand: batch, forward, loss, backward, clip, step.
Floor: 6 × parameters × tokens FLOPs at the GEMM rate measured in the same process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import keep, median

from lossmith.data import Blocks, open_store
from lossmith.models import build_model
from lossmith.models.estimate import gemm_rate
from lossmith.objectives import CausalObjective
from lossmith.precision import fast_bf16
from lossmith.train.config import TrainConfig, resolve, settled
from lossmith.train.distributed import World
from lossmith.train.folder import RunFolder
from lossmith.train.hardware import keep_freed_memory
from lossmith.train.loop import Loop
from lossmith.train.optim import build_optimizers
from lossmith.train.signals import StopRequest
from lossmith.train.step import Trainer

CPU = torch.device("cpu")


def make(config: TrainConfig, folder: Path) -> Loop:
    """Return a loop with a model of its own."""
    store = open_store(config.data())
    model = build_model("nano", vocab_size=store.tokenizer.vocab_size, context=settled(config.block_size), seed=1)
    blocks = Blocks(store.train, settled(config.block_size), seed=1)
    trainer = Trainer(
        model.train(), CausalObjective(), build_optimizers(model, config), store, blocks, config, World(0, 1, CPU),
        total_steps=10**6, bf16=fast_bf16(CPU),
    )  # fmt: skip
    return Loop(trainer, RunFolder(folder), [])


def ours(loop: Loop, first: int, steps: int) -> float:
    """Seconds that our loop takes for `steps` steps, its log included, its checkpoints not."""
    start = time.perf_counter()
    for step in range(first, first + steps):
        loop.trainer.train_step(step, StopRequest())
        if step % settled(loop.config.logging_steps) == 0:
            loop.log(step)
    return time.perf_counter() - start


def bare(
    model: Any, optimizers: list[torch.optim.Optimizer], tokens: Any, batch: int, context: int, steps: int
) -> float:
    """Seconds that a bare loop takes for `steps` steps: random windows, the model's own loss."""
    start = time.perf_counter()
    for _ in range(steps):
        starts = torch.randint(len(tokens) - context - 1, (batch,))
        rows = np.stack([tokens[i : i + context + 1].astype(np.int64) for i in starts.tolist()])
        window = torch.from_numpy(rows)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast_bf16(CPU)):
            logits = model(input_ids=window[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), window[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and keep one row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=30)
    args = parser.parse_args()
    keep_freed_memory()
    config = resolve(TrainConfig(tokenizer="char", max_steps=10**6))
    with tempfile.TemporaryDirectory() as folder:
        mine, theirs = make(config, Path(folder)), make(config, Path(folder))
        batch, context = settled(config.per_device_train_batch_size), settled(config.block_size)
        other = theirs.trainer
        given = (other.model, other.optimizers.optimizers, other.store.train.tokens, batch, context)
        ratios, speeds = [], []
        for turn in range(args.rounds + 1):
            a = ours(mine, 1 + turn * args.steps, args.steps)
            b = bare(*given, args.steps)
            if turn:  # the first turn warms up
                ratios.append(b / a)
                speeds.append(args.steps * batch * context / a)
    parameters = sum(p.numel() for p in other.model.parameters())
    keep(
        "loop_overhead",
        {
            "unit": "tokens per second, ours / bare",
            "ratio": median(ratios),
            "bar": 0.97,
            "tokens_per_second": median(speeds),
            "floor_tokens_per_second": round(gemm_rate() / (6 * parameters)),
            "rounds": args.rounds,
            "steps_per_round": args.steps,
            "tokens_per_step": batch * context,
            "parameters": parameters,
        },
    )


if __name__ == "__main__":
    main()
