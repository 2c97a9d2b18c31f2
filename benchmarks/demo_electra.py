"""Demonstration 4: ELECTRA against masked language modelling at equal compute, judged by what they are worth.

    python benchmarks/demo_electra.py [--seconds 150 | --rates]

Both read the same prose (WordNet as a dictionary, without the test rows) with the same tokenizer, the same encoder
shape and the same batch, each with the preset's optimizer for it, for as many steps as fit the same time: short runs of
both in turns say how long a step takes, the faster of two each, since the machine's speed changes while they train.
Then both learn the 15 kinds of demonstration 1 from 1,000 rows, three seeds, as does the untrained shape.

Effective rank: (Σλ)²/Σλ² of the covariance's eigenvalues of the test texts' mean states: how many directions they use.
--rates: what the discriminator learns in 400 steps with which optimizer and rate, and nothing else: its loss against
the entropy of the share of replaced tokens, which is what one pays who knows that share alone.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from demo_data import CACHE, definitions
from demo_pretraining import SEEDS, some
from demo_runs import AT_ONCE, bare, judged, over_seeds, pretrain, side_by_side
from rows import keep

from lossmith.evaluate.encoders import embeddings, open_encoder
from lossmith.models.folder import find_model

EXAMPLES, EPOCHS = 1000, 6.0
SHARED: dict[str, Any] = {"tokenizer": "bpe:4096", "eval_max_tokens": 65536, "sample_tokens": 0, "save_steps": 10**6}
SHARED |= {"model": "nano", "per_device_train_batch_size": 16, "mask_unit": "word"}  # one shape, ModernBERT's, for both
WAYS: dict[str, dict[str, Any]] = {
    "masked": {"objective": "masked"},
    "replaced_token": {"objective": "replaced_token", "generator_size": 0.5},
}


def main(seconds: float) -> None:
    """Pre-train both for as long, fine-tune nine times, keep a row each."""
    start = time.perf_counter()
    train, test, prose = definitions(CACHE / "definitions")
    every = SHARED | {"inputs": (str(prose),)}
    each = [{name: step_seconds(name, options | every) for name, options in WAYS.items()} for _ in range(2)]
    bodies: dict[str, Path] = {}
    told: dict[str, dict[str, Any]] = {}
    for name, options in WAYS.items():
        steps = int(seconds / min(turn[name] for turn in each))
        body = bodies[name] = pretrain(f"equal-{name}", **options, **every, max_steps=steps, eval_steps=steps)
        told[name] = {"steps": steps, "calibrated_step_seconds": [round(turn[name], 4) for turn in each],
                      "seconds_of_steps": round(trained_for(body), 1), **evaluated(body)}  # fmt: skip
    bodies["untrained"] = bare(bodies["masked"], "equal-untrained")
    shared: dict[str, Any] = {"num_train_epochs": EPOCHS, "learning_rate": 1e-3, "per_device_train_batch_size": 32}
    drawn = {seed: some(train, EXAMPLES, seed) for seed in SEEDS}
    found = side_by_side({
        name: [partial(judged, test, f"equal-{name}-{k}", body, rows, seed=k, **shared) for k, rows in drawn.items()]
        for name, body in bodies.items()
    })  # fmt: skip
    texts = [json.loads(line)["text"] for line in test.open(encoding="utf-8")]
    for name, scores in found.items():
        figures = {key: over_seeds([one[key] for one in scores]) for key in ("accuracy", "f1_macro")}
        keep("demo_electra", {"data": "definitions", "objective": name, "examples": EXAMPLES, "epochs": EPOCHS,
                              "figures": figures, "pretraining": told.get(name),
                              "effective_rank": effective_rank(bodies[name], texts),
                              "majority_accuracy": scores[0]["majority_accuracy"], "test_rows": 2000, **AT_ONCE,
                              "seconds_of_all": round(time.perf_counter() - start, 1)})  # fmt: skip


def rates(steps: int = 400) -> None:
    """Train a discriminator with each optimizer and rate, keep a row each."""
    _, _, prose = definitions(CACHE / "definitions")
    every = SHARED | WAYS["replaced_token"] | {"inputs": (str(prose),), "max_steps": steps, "eval_steps": steps}
    muon = [{"optim": "muon", "learning_rate": rate, "adamw_learning_rate": 0.007} for rate in (0.005, 0.01, 0.02)]
    tried = muon + [{"optim": "adamw", "learning_rate": rate} for rate in (1e-3, 1.5e-3, 2e-3, 4e-3)]
    named = {f"rate-{one['optim']}-{one['learning_rate']}": one for one in tried}
    made = side_by_side({name: [partial(pretrain, name, **every, **one)] for name, one in named.items()})
    for name, (body,) in made.items():
        figures = evaluated(body)
        share = figures["eval_original_share"]
        entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
        keep("demo_electra", {"data": "definitions", "objective": "replaced_token", **named[name], "steps": steps,
                              "unit": "nats a token", "entropy_of_replaced_share": round(entropy, 4),
                              "below_it": round(entropy - figures["eval_loss/discriminator"], 4), **figures,
                              **AT_ONCE})  # fmt: skip


def evaluated(body: Path) -> dict[str, float]:
    """Return the figures of a run's last evaluation."""
    result = json.loads((body / "run.json").read_text(encoding="utf-8"))["result"]
    return {key: round(x, 4) for key, x in result.items() if key.startswith("eval_") and isinstance(x, float)}


def effective_rank(body: Path, texts: list[str]) -> float:
    """Return (Σλ)²/Σλ² over the eigenvalues of the covariance of the texts' mean states, of unit length."""
    vectors = embeddings(open_encoder(find_model(body), "AutoModel"), texts, 64, "mean")
    spread = np.linalg.eigvalsh(np.cov(vectors.T))
    return round(float(spread.sum() ** 2 / (spread**2).sum()), 1)


def step_seconds(name: str, options: dict[str, Any]) -> float:
    """Return the seconds that a step takes, from 20 of them."""
    return trained_for(pretrain(f"calibrate-{name}", **options, max_steps=20, eval_steps=20)) / 20


def trained_for(run: Path) -> float:
    """Return the seconds that a run's steps took, without its evaluations."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").open(encoding="utf-8")]
    return float([row["seconds"] for row in rows if "seconds" in row][-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--rates", action="store_true", help="the discriminator's optimizers and rates alone")
    given = parser.parse_args()
    if given.rates:
        rates()
    else:
        main(given.seconds)
