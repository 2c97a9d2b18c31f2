"""What half precision is worth on this machine: matrix products and training, against float32.

    python benchmarks/precision.py [--rounds 5] [--models nano 10m]

Products of a language-model head (448 rows, width 512, 32,000 entries) in GFLOP/s of one thread's CPU seconds; tokens/s
of `lossmith train` with --bf16 and --no-bf16 on the threads that torch takes. In turns, medians.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch
from demo_runs import pretrain
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
    runs: dict[tuple[str, str], Callable[[], Any]] = {}
    for dtype in DTYPES:
        x, w, g = (each.to(dtype) for each in (hidden, head, gradient))
        name = str(dtype).removeprefix("torch.")
        runs[name, "logits"] = lambda x=x, w=w: torch.mm(x, w.T)  # type: ignore[misc]
        runs[name, "gradient of hidden"] = lambda g=g, w=w: torch.mm(g, w)  # type: ignore[misc]
        runs[name, "gradient of head"] = lambda g=g, x=x: torch.mm(g.T, x)  # type: ignore[misc]
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for turn in range(rounds + 1):
        for key, run in runs.items():
            start = time.process_time()
            run()
            if turn:
                seconds[key].append(time.process_time() - start)
    out: dict[str, dict[str, float]] = {}
    for (name, product), each in seconds.items():
        out.setdefault(name, {})[product] = round(2 * ROWS * WIDTH * VOCABULARY / median(each) / 1e9, 1)
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
