"""Tiny Shakespeare on two cores: our best recipe against nanoGPT's CPU recipe, whole processes, interleaved.

    python benchmarks/shakespeare.py [--repeats 5] [--text tinyshakespeare.txt]

First 90 % of the characters train, the rest validates, all of it (nats per character). Everything from the start of the
process to its end counts: imports, tokenizing (the cache is emptied each time), training, evaluation, samples, report.
`reach`: our run with as many steps as it takes to end at or below the baseline's loss, its time over the baseline's.
`within`: our run with as many steps as fit into the baseline's time, its loss.
Floor: the matrix products of our `reach` run at the GEMM rate measured just before.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rows import TINY_SHAKESPEARE, keep, median

REACH_STEPS, WITHIN_STEPS = 115, 950
HERE = Path(__file__).parent


def timed(command: list[str]) -> tuple[float, str]:
    """Run a process; return its seconds from start to end, and its output."""
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, done.stdout


def baseline(text: Path, seed: int) -> dict[str, float]:
    """Run nanoGPT's recipe."""
    seconds, output = timed([sys.executable, str(HERE / "nanogpt_recipe.py"), str(text), "--seed", str(seed)])
    return {"seconds": seconds, "loss": json.loads(output)["validation_loss"]}


def ours(text: Path, seed: int, steps: int) -> dict[str, float]:
    """Run lossmith train as a user would, with a fresh cache."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--tokenizer", "char", "--max-steps", str(steps), "--seed", str(seed), "--json"]
        options += ["--eval-steps", str(steps), "--save-steps", str(steps)]  # one evaluation, of everything, at the end
        places = ["--output-dir", f"{folder}/run", "--cache-dir", f"{folder}/cache"]
        seconds, output = timed([sys.executable, "-m", "lossmith", "train", str(text), *options, *places])
    last = json.loads(output.splitlines()[-1])
    return {"seconds": seconds, "loss": last["eval_loss"], "trained_tokens": last["tokens"]}


def main() -> None:
    """Measure and keep one row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--text", type=Path, default=TINY_SHAKESPEARE)
    parser.add_argument("--reach-steps", type=int, default=REACH_STEPS)
    parser.add_argument("--within-steps", type=int, default=WITHIN_STEPS)
    args = parser.parse_args()
    base, reach, within = [], [], []
    for seed in range(args.repeats):
        base.append(baseline(args.text, seed))
        reach.append(ours(args.text, seed, args.reach_steps))
        within.append(ours(args.text, seed, args.within_steps))
        print(base[-1], reach[-1], within[-1], file=sys.stderr)
    keep("shakespeare", row(base, reach, within))


def row(base: list[dict[str, float]], reach: list[dict[str, float]], within: list[dict[str, float]]) -> dict[str, Any]:
    """Return medians, worst losses, and the ratios of the pairs that ran after each other."""
    pairs = list(zip(base, reach, within, strict=True))
    return {
        "unit": "nats per character over the whole validation part; seconds of a whole process",
        "repeats": len(base),
        "baseline_loss": median([r["loss"] for r in base]),
        "baseline_seconds": median([r["seconds"] for r in base]),
        "reach_loss": median([r["loss"] for r in reach]),
        "reach_loss_worst": max(r["loss"] for r in reach),
        "reach_seconds": median([r["seconds"] for r in reach]),
        "reach_ratio": median([r["seconds"] / b["seconds"] for b, r, _ in pairs]),
        "bar_reach_ratio": 0.30,
        "within_loss": median([r["loss"] for r in within]),
        "within_loss_worst": max(r["loss"] for r in within),
        "within_seconds": median([r["seconds"] for r in within]),
        "within_ratio": median([w["seconds"] / b["seconds"] for b, _, w in pairs]),
        "bar_within_loss": 1.60,
        "floor_reach_seconds": round(6 * 0.8e6 * reach[0]["trained_tokens"] / _gemm_rate(), 2),
    }


def _gemm_rate() -> float:
    from lossmith.models.estimate import gemm_rate

    return gemm_rate()


if __name__ == "__main__":
    main()
