"""Demonstration 4: ELECTRA against masked language modelling at equal compute, judged by what they are worth.

    python benchmarks/demo_electra.py [--seconds 180]

Both read the same prose (WordNet as a dictionary, without the test rows) with the same tokenizer, the same encoder
shape and the same batch, each until its steps have taken the same time (a calibration run of 20 steps sets the number
of steps). Then both learn the 15 kinds of demonstration 1 from 1,000 rows, three seeds, as does the untrained shape.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

from demo_data import CACHE, definitions
from demo_pretraining import SEEDS, some
from demo_runs import bare, judged, over_seeds, pretrain, side_by_side
from rows import keep

EXAMPLES, EPOCHS = 1000, 6.0
SHARED: dict[str, Any] = {"tokenizer": "bpe:4096", "eval_max_tokens": 65536, "sample_tokens": 0, "save_steps": 10**6}
SHARED |= {"model": "nano", "per_device_train_batch_size": 16, "mask_unit": "word"}  # one shape, ModernBERT's, for both
WAYS: dict[str, dict[str, Any]] = {
    "masked": {"objective": "masked"},
    "replaced_token": {"objective": "replaced_token", "generator_size": 0.5},
}


def main(seconds: float) -> None:
    """Pre-train both for as long, fine-tune nine times, keep a row each."""
    train, test, prose = definitions(CACHE / "definitions")
    every = SHARED | {"inputs": (str(prose),)}
    bodies, told = {}, {}
    for name, options in WAYS.items():
        steps = int(seconds / step_seconds(name, options | every))
        body = bodies[name] = pretrain(f"equal-{name}", **options, **every, max_steps=steps, eval_steps=steps)
        result = json.loads((body / "run.json").read_text(encoding="utf-8"))["result"]
        kept = {key: round(x, 4) for key, x in result.items() if key.startswith("eval_") and isinstance(x, float)}
        told[name] = {"steps": steps, "seconds_of_steps": round(trained_for(body), 1), **kept}
    bodies["untrained"] = bare(bodies["masked"], "equal-untrained")
    shared: dict[str, Any] = {"num_train_epochs": EPOCHS, "learning_rate": 1e-3, "per_device_train_batch_size": 32}
    drawn = {seed: some(train, EXAMPLES, seed) for seed in SEEDS}
    found = side_by_side({
        name: [partial(judged, test, f"equal-{name}-{k}", body, rows, seed=k, **shared) for k, rows in drawn.items()]
        for name, body in bodies.items()
    })  # fmt: skip
    for name, scores in found.items():
        figures = {key: over_seeds([one[key] for one in scores]) for key in ("accuracy", "f1_macro")}
        keep("demo_electra", {"data": "definitions", "objective": name, "examples": EXAMPLES, "epochs": EPOCHS,
                              "figures": figures, "pretraining": told.get(name),
                              "majority_accuracy": scores[0]["majority_accuracy"], "test_rows": 2000})  # fmt: skip


def step_seconds(name: str, options: dict[str, Any]) -> float:
    """Return the seconds that a step takes, from 20 of them."""
    return trained_for(pretrain(f"calibrate-{name}", **options, max_steps=20, eval_steps=20)) / 20


def trained_for(run: Path) -> float:
    """Return the seconds that a run's steps took, without its evaluations."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").open(encoding="utf-8")]
    return float([row["seconds"] for row in rows if "seconds" in row][-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=180.0)
    began = time.perf_counter()
    main(parser.parse_args().seconds)
    print(f"{time.perf_counter() - began:.0f} s")
