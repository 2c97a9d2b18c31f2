"""Demonstration 5: which loss for classes of which one has ten times the rows of another?

    python benchmarks/demo_imbalance.py [--body RUN] [--epochs 4]

Debian's sections (932 rows of the largest, 95 of the smallest) with the tail made longer: class k of ten keeps a share
1/20^(k/9) of the largest's rows. Plain cross-entropy, balanced class weights, focal (γ = 2) and logit adjustment
(τ = 1), three seeds each, from the body that demo_pretraining.py made. Judged on 2,000 rows with the sections' own
frequencies: macro F1 counts each section alike.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
from pathlib import Path
from typing import Any

from demo_data import CACHE, SECTIONS, sections, write_rows
from demo_runs import RUNS, classified, finetune, over_seeds
from rows import keep

LOSSES: dict[str, dict[str, Any]] = {
    "cross_entropy": {},
    "class weights": {"loss": "cross_entropy", "loss_options": ("class_weights=balanced",)},
    "focal, γ = 2": {"loss": "focal", "loss_options": ("gamma=2",)},
    "logit adjustment, τ = 1": {"loss": "logit_adjusted"},
}
SEEDS = (1, 2, 3)
RATIO = 20


def main(body: Path, epochs: float) -> None:
    """Fine-tune four losses with three seeds, keep a row each."""
    train, test, _ = sections(CACHE / "sections")
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in LOSSES}
    counts: dict[str, int] = {}
    for seed in SEEDS:
        rows, counts = long_tailed(train, seed)
        for name, options in LOSSES.items():
            run = finetune(
                f"tail-{name.split()[0].strip(',')}-{seed}", body, rows, num_train_epochs=epochs, seed=seed,
                learning_rate=1e-3, per_device_train_batch_size=32, **options,
            )  # fmt: skip
            scores[name].append(classified(run, test))
    plain = [one["f1_macro"] for one in scores["cross_entropy"]]
    for name, each in scores.items():
        figures = {figure: over_seeds([one[figure] for one in each]) for figure in ("f1_macro", "accuracy")}
        gains = [one["f1_macro"] - base for one, base in zip(each, plain, strict=True)]
        keep("demo_imbalance", {
            "loss": name, "epochs": epochs, "figures": figures, "gain_in_f1_macro": over_seeds(gains),
            "rows_by_class": counts, "test_rows": 2000,
        })  # fmt: skip


def long_tailed(train: Path, seed: int) -> tuple[Path, dict[str, int]]:
    """Write rows of which class k keeps largest·RATIO^(−k/9), the classes in the order of their size."""
    rows = [json.loads(line) for line in train.open(encoding="utf-8")]
    random.Random(seed).shuffle(rows)
    sizes = collections.Counter(row["label"] for row in rows)
    ordered = sizes.most_common()
    most = ordered[0][1]
    wanted = {
        label: min(size, round(most * RATIO ** (-k / (len(SECTIONS) - 1)))) for k, (label, size) in enumerate(ordered)
    }
    left = collections.Counter(wanted)
    kept = []
    for row in rows:
        if left[row["label"]] > 0:
            left[row["label"]] -= 1
            kept.append(row)
    return write_rows(CACHE / "sections" / f"tail-{seed}.jsonl", kept), wanted


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--body", type=Path, default=RUNS / "bert")
    parser.add_argument("--epochs", type=float, default=4.0)
    options = parser.parse_args()
    main(options.body, options.epochs)
