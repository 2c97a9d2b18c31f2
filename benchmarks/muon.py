"""What a step of Muon costs: torch's, which multiplies in bfloat16, against ours in float32, on nano's matrices.

    python benchmarks/muon.py [--repeats 5]

The hidden matrices of the causal nano preset with random gradients, steps of both in turns, medians of wall-clock
milliseconds with the threads of training. lossmith takes its own where the CPU does not multiply bfloat16 fast.
"""

from __future__ import annotations

import argparse
import time

import torch
from rows import keep, median

from lossmith.models import build_model
from lossmith.precision import fast_bf16
from lossmith.train.muon import WideMuon


def main(repeats: int) -> None:
    """Time steps of both in turns and keep a row."""
    model = build_model("nano", vocab_size=1024, context=128, seed=0, end_id=0)
    shapes = [
        p.shape for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name and "head" not in name
    ]
    made = {}
    for name, kind in (("torch", torch.optim.Muon), ("lossmith", WideMuon)):
        matrices = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
        for matrix in matrices:
            matrix.grad = torch.randn_like(matrix)
        made[name] = kind(matrices, lr=0.02)
    milliseconds: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(repeats + 1):  # the first warms up
        for name, optimizer in made.items():
            start = time.perf_counter()
            optimizer.step()
            if turn:
                milliseconds[name].append(1000 * (time.perf_counter() - start))
    found = {name: round(median(each), 2) for name, each in milliseconds.items()}
    keep("muon", {"unit": "ms a step", "milliseconds": found, "ratio": round(found["torch"] / found["lossmith"], 1),
                  "matrices": len(shapes), "threads": torch.get_num_threads(), "repeats": repeats,
                  "taken_here": "torch" if fast_bf16(torch.device("cpu")) else "lossmith"})  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    main(parser.parse_args().repeats)
