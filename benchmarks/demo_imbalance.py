"""Demonstration 5: which loss for classes of which one has twenty times the rows of another?

    python benchmarks/demo_imbalance.py [--data definitions|sections] [--body RUN] [--epochs 4]

The 15 kinds of WordNet's definitions with the tail made longer: class k of K keeps a share 1/20^(k/(K−1)) of the
largest's rows. Plain cross-entropy, balanced class weights, focal (γ = 2) and logit adjustment (τ = 1), three seeds
each, from the body that demo_pretraining.py made. Judged on 2,000 rows with the kinds' own frequencies: macro F1 counts
each kind alike. --data sections: Debian's ten sections instead.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

from demo_data import CACHE, write_rows
from demo_pretraining import DATA, SEEDS
from demo_runs import AT_ONCE, RUNS, judged, over_seeds, side_by_side
from rows import keep

LOSSES: dict[str, dict[str, Any]] = {
    "cross_entropy": {},
    "class weights": {"loss": "cross_entropy", "loss_options": ("class_weights=balanced",)},
    "focal, γ = 2": {"loss": "focal", "loss_options": ("gamma=2",)},
    "logit adjustment, τ = 1": {"loss": "logit_adjusted"},
}
RATIO = 20


def main(data: str, body: Path | None, epochs: float) -> None:
    """Fine-tune four losses with three seeds, keep a row each."""
    train, test, _ = DATA[data](CACHE / data)
    body = body or RUNS / f"bert-{data}"
    start = time.perf_counter()
    tails = {seed: long_tailed(train, seed) for seed in SEEDS}
    shared: dict[str, Any] = {"num_train_epochs": epochs, "learning_rate": 1e-3, "per_device_train_batch_size": 32}
    scores = side_by_side({
        name: [
            partial(judged, test, f"tail-{name.split()[0].strip(',')}-{k}", body, rows, seed=k, **shared | options)
            for k, (rows, _) in tails.items()
        ]
        for name, options in LOSSES.items()
    })  # fmt: skip
    plain = [one["f1_macro"] for one in scores["cross_entropy"]]
    for name, each in scores.items():
        figures = {figure: over_seeds([one[figure] for one in each]) for figure in ("f1_macro", "accuracy")}
        gains = [one["f1_macro"] - base for one, base in zip(each, plain, strict=True)]
        keep("demo_imbalance", {
            "loss": name, "epochs": epochs, "figures": figures, "gain_in_f1_macro": over_seeds(gains),
            "data": data, "rows_by_class": tails[1][1], "test_rows": 2000, "body": body.name, **AT_ONCE,
            "seconds_of_all": round(time.perf_counter() - start, 1),
        })  # fmt: skip


def long_tailed(train: Path, seed: int) -> tuple[Path, dict[str, int]]:
    """Write rows of which class k keeps largest·RATIO^(−k/(K−1)), the classes in the order of their size."""
    rows = [json.loads(line) for line in train.open(encoding="utf-8")]
    random.Random(seed).shuffle(rows)
    sizes = collections.Counter(row["label"] for row in rows)
    ordered = sizes.most_common()
    most = ordered[0][1]
    wanted = {
        label: min(size, round(most * RATIO ** (-k / (len(ordered) - 1)))) for k, (label, size) in enumerate(ordered)
    }
    left = collections.Counter(wanted)
    kept = []
    for row in rows:
        if left[row["label"]] > 0:
            left[row["label"]] -= 1
            kept.append(row)
    return write_rows(train.with_name(f"tail-{seed}.jsonl"), kept), wanted


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=tuple(DATA), default="definitions")
    parser.add_argument("--body", type=Path, help="default: the run that demo_pretraining.py made of the same data")
    parser.add_argument("--epochs", type=float, default=4.0)
    options = parser.parse_args()
    main(options.data, options.body, options.epochs)
