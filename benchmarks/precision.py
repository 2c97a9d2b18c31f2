"""What half precision is worth on this machine: matrix products and training, against float32.

    python benchmarks/precision.py [--rounds 5] [--models nano 10m]

Products of a language-model head (448 rows, width 512, 32,000 entries) in GFLOP/s of one thread's CPU seconds; tokens/s
of `lossmith train` with --bf16 and --no-bf16 on the threads that torch takes. In turns, medians.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from demo_runs import pretrain
from losses_cpu import turns
from rows import keep, median

from lossmith.precision import fast_bf16

ROWS, WIDTH, VOCABULARY = 448, 512, 32_000
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def products(rounds: int) -> dict[str, dict[str, float]]:
    """Return GFLOP/s of the three products of a head in each dtype."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    hidden, head = torch.randn(ROWS, WIDTH), torch.randn(VOCABULARY, WIDTH) / WIDTH**0.5
    gradient = torch.softmax(hidden @ head.T, 1)
    runs: dict[str, Callable[[], Any]] = {}
    for dtype in DTYPES:
        x, w, g = (each.to(dtype) for each in (hidden, head, gradient))
        name = str(dtype).removeprefix("torch.")
        runs[f"{name} logits"] = partial(torch.mm, x, w.T)
        runs[f"{name} gradient of hidden"] = partial(torch.mm, g, w)
        runs[f"{name} gradient of head"] = partial(torch.mm, g.T, x)
    out: dict[str, dict[str, float]] = {}
    for run, seconds in turns(runs, rounds).items():
        name, _, product = run.partition(" ")
        out.setdefault(name, {})[product] = round(2 * ROWS * WIDTH * VOCABULARY / seconds / 1e9, 1)
    return out


def training(model: str, rounds: int, threads: int) -> dict[str, float]:
    """Return tokens/s of training a preset on Shakespeare's plays, with bfloat16 autocast and without."""
    torch.set_num_threads(threads)
    rates: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(rounds):
        for bf16, found in rates.items():
            run = pretrain(
                "precision", inputs=("shakespeare",), model=model, bf16=bf16, max_steps=40 if model == "nano" else 6,
                eval_steps=1000, save_steps=1000, sample_tokens=0, eval_max_tokens=1024, logging_steps=1,
            )  # fmt: skip
            lines = [json.loads(line) for line in (run / "metrics.jsonl").open(encoding="utf-8")]
            found.append(median([line["tokens_per_second"] for line in lines if "tokens_per_second" in line][1:]))
    return {name: round(median(rates[bf16]), 1) for name, bf16 in (("bfloat16", True), ("float32", False))}


def main(rounds: int, models: list[str]) -> None:
    """Keep a row of products and one a model."""
    threads = torch.get_num_threads()
    chosen = "bfloat16" if fast_bf16(torch.device("cpu")) else "float32"
    keep("precision", {"case": "products", "unit": "GFLOP/s of a thread", "figures": products(rounds),
                       "chosen": chosen, "rounds": rounds})  # fmt: skip
    for model in models:
        figures = training(model, rounds, threads)
        keep("precision", {"case": "training", "model": model, "unit": "tokens/s", "figures": figures,
                           "ratio": round(figures["bfloat16"] / figures["float32"], 3), "chosen": chosen,
                           "threads": threads, "rounds": rounds})  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="*", default=["nano", "10m"])
    options = parser.parse_args()
    main(options.rounds, options.models)
