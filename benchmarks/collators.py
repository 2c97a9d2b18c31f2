"""How fast every objective makes its batches: tokens of text a second on one core, tokenizing left out.

Blocks of --context tokens of Shakespeare's plays, --batch of them in a batch, taken out of the token store as training
does (the reading included); the median of --repeats passes over --blocks blocks: python benchmarks/collators.py
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from rows import keep, median

from lossmith.data import open_store
from lossmith.objectives import OBJECTIVES
from lossmith.train.config import TrainConfig
from lossmith.train.opening import settle_options
from lossmith.train.setup import Task, make_task

CASES: dict[str, dict[str, Any]] = {
    "causal": {"objective": "causal"},
    "masked, tokens": {"objective": "masked"},
    "masked, words": {"objective": "masked", "mask_unit": "word"},
    "masked, spans": {"objective": "masked", "mask_unit": "span"},
    "sentence_pair": {"objective": "sentence_pair"},
    "replaced_token": {"objective": "replaced_token"},
    "prefix": {"objective": "prefix"},
    "causal, fim": {"objective": "causal", "fim_rate": 0.5},
    "contrastive": {"objective": "contrastive"},
    "span, t5": {"objective": "span"},
    "span, ul2": {"objective": "span", "denoiser": "ul2"},
}

SAME = {"distill": "causal", "distill_masked": "masked"}  # whose batches are made by the code of another


def rate(task: Task, blocks: int, batch: int) -> float:
    """Return the tokens of text a second of one pass."""
    rng, tokens, began = np.random.default_rng(0), 0, time.process_time()
    for first in range(0, blocks, batch):
        places = range(first, first + batch)
        rows: list[dict[str, Any]] = [task.blocks.example(i) | {"index": np.int64(i)} for i in places]
        task.objective.batch(rows, rng)
        tokens += sum(len(row["tokens"]) for row in rows)
    return tokens / (time.process_time() - began)


def main() -> None:
    """Measure and keep a row for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("context", 512), ("batch", 32), ("blocks", 512), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    missing = set(OBJECTIVES) - {case["objective"] for case in CASES.values()} - set(SAME)
    assert not missing, f"no case for {missing}"
    found = {}
    for name, options in CASES.items():
        given = TrainConfig(**options, inputs=("shakespeare",), block_size=args.context, tokenizer="bpe:1024")
        config = settle_options(given)
        task = make_task(config, open_store(config.data()))
        rate(task, args.batch, args.batch)  # the first pass makes tables
        found[name] = round(median([rate(task, args.blocks, args.batch) for _ in range(args.repeats)]))
    unit = "tokens of text per second of processor time, one core"
    keep("collators", {"unit": unit, "bar": 200_000, "tokens_per_second": found, **vars(args)})


if __name__ == "__main__":
    main()
