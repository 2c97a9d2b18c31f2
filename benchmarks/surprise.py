"""Surprisal of 1 MB of text beside the bare forward passes over the same windows.

    python benchmarks/surprise.py --model RUN --text FILE [--repeats 3]

Bare: `model(input_ids).logits` of the same windows in the same batches, and nothing else. Ours: `lossmith.surprisal`
with tokenizing, units, entropy and rank. In turns; processor seconds (other processes share the machine) and wall.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import keep, median

from lossmith.evaluate.surprisal import surprisal
from lossmith.evaluate.surprise_model import Scorer, open_scorer
from lossmith.evaluate.surprise_windows import windows


def bare(scorer: Scorer, ids: Any, batch: int) -> None:
    """Run the model over the windows of a text."""
    context = scorer.context
    sequence = np.append(scorer.start_id or 0, ids)
    full = [w for w in windows(len(sequence), context, context // 2) if w.stop - w.start == context]
    with torch.no_grad():
        for i in range(0, len(full), batch):
            rows = np.stack([sequence[w.start : w.stop] for w in full[i : i + batch]])
            assert scorer.model(input_ids=torch.from_numpy(rows), use_cache=False).logits is not None


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the processor and the wall seconds of a piece of work."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    """Measure and keep one row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    scorer = open_scorer(options.model)
    text = options.text.read_bytes()[:1_000_000].decode("utf-8", "ignore")
    found = surprisal(scorer, text[:10_000])
    ids = scorer.tokenizer.encode(text)
    rows: list[tuple[float, ...]] = []
    for _ in range(options.repeats):
        there = timed(lambda: bare(scorer, ids, 8192 // scorer.context))
        here = timed(lambda: surprisal(scorer, text))
        rows.append((*there, *here, here[0] / there[0]))
    names = ("bare_cpu", "bare_wall", "ours_cpu", "ours_wall", "ratio_cpu")
    row: dict[str, Any] = {name: median([r[i] for r in rows]) for i, name in enumerate(names)}
    keep(
        "surprise",
        row
        | {"unit": "seconds", "bytes": len(text.encode()), "tokens": len(ids), "context": found.context, "bar": 1.3},
    )


if __name__ == "__main__":
    main()
