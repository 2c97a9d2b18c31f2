"""Demonstration 1: masked and next-sentence pre-training on prose, then classification, against the same from scratch.

    python benchmarks/demo_pretraining.py [--steps 1250] [--body RUN] [--data NAME] [--yardstick]

A nano ModernBERT reads WordNet as a dictionary (11 MB, without the definitions of the test rows), then learns from 100,
1,000 and all 6,000 labelled definitions which of 15 kinds of thing each defines; three seeds each draw the rows and the
weights. The same shape with the same tokenizer starts from random weights beside it. Judged on 2,000 other definitions.
--data sections: Debian's package descriptions (14.7 MB) and ten sections instead (4,872 rows). --data reviews: Chinese,
the People's Daily and reviews (9 MB), and whether these praise or complain. --yardstick keeps rows of what a logistic
regression on tf-idf makes of the same rows, and trains nothing else.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from demo_data import CACHE, definitions, sections, write_rows
from demo_data_chinese import reviews
from demo_runs import AT_ONCE, bare, judged, over_seeds, pretrain, side_by_side
from rows import keep

SEEDS = (1, 2, 3)
EPOCHS = {100: 20.0, 1000: 6.0, None: 3.0}
DATA: dict[str, Callable[[Path], tuple[Path, Path, Path]]] = {
    "definitions": definitions, "sections": sections, "reviews": reviews,
}  # fmt: skip


def main(data: str, steps: int, body: Path | None) -> None:
    """Pre-train once, fine-tune 18 times, keep a row per number of examples."""
    start = time.perf_counter()
    train, test, prose = DATA[data](CACHE / data)
    body = body or pretrained(f"bert-{data}", prose, steps)
    record = json.loads((body / "run.json").read_text(encoding="utf-8"))
    told = {key: round(value, 4) for key, value in record["result"].items() if key.startswith("eval_loss")}
    used = record["config"]
    told |= {"steps": record["steps"], "seconds": round(record["seconds"], 1), "mask_unit": used["mask_unit"]}
    told["weight_decay"] = used["weight_decay"]
    scratch = bare(body, f"bert-{data}-bare")
    bodies = {"pre-trained": body, "from scratch": scratch}
    for size, epochs in EPOCHS.items():
        shared: dict[str, Any] = {"num_train_epochs": epochs, "learning_rate": 1e-3}
        shared["per_device_train_batch_size"] = 16 if size == 100 else 32
        shared["load_best_model_at_end"] = False  # of 100 rows nine would choose
        drawn = {seed: some(train, size, seed) for seed in SEEDS}
        scores = side_by_side({
            name: [
                partial(judged, test, f"{data}-{name.split()[0]}-{size}-{seed}", model, rows, seed=seed, **shared)
                for seed, rows in drawn.items()
            ]
            for name, model in bodies.items()
        })  # fmt: skip
        figures = {
            name: {figure: over_seeds([one[figure] for one in each]) for figure in ("accuracy", "f1_macro")}
            for name, each in scores.items()
        }
        gains = [a["accuracy"] - b["accuracy"] for a, b in zip(*scores.values(), strict=True)]
        keep("demo_pretraining", {
            "data": data, "examples": size or sum(1 for _ in train.open()), "epochs": epochs, "figures": figures,
            "gain_in_accuracy": over_seeds(gains), "majority_accuracy": scores["pre-trained"][0]["majority_accuracy"],
            "test_rows": 2000, "pretraining": told, **AT_ONCE,
            "seconds_since_start": round(time.perf_counter() - start, 1),
        })  # fmt: skip


def pretrained(name: str, prose: Path, steps: int) -> Path:
    """Return the run of a nano ModernBERT that reads prose: hidden words and next sentences."""
    return pretrain(
        name, inputs=(str(prose),), objective="sentence_pair", mask_rate=0.3, mask_unit="word", tokenizer="bpe:4096",
        max_steps=steps, per_device_train_batch_size=16, eval_steps=steps // 5, eval_max_tokens=65536, sample_tokens=0,
    )  # fmt: skip


def yardstick(data: str) -> None:
    """Keep a row per number of examples for a logistic regression (C = 10) on tf-idf (1 + ln of counts).

    Of words; of Chinese, whose words no blank parts, of characters and their pairs.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]

    train, test, _ = DATA[data](CACHE / data)
    parts: dict[str, Any] = {"analyzer": "char", "ngram_range": (1, 2)} if data == "reviews" else {}
    asked = [json.loads(line) for line in test.open(encoding="utf-8")]
    for size in EPOCHS:
        scores = []
        for seed in SEEDS:
            rows = [json.loads(line) for line in some(train, size, seed).open(encoding="utf-8")]
            model = make_pipeline(TfidfVectorizer(sublinear_tf=True, **parts), LogisticRegression(C=10, max_iter=500))
            model.fit([row["text"] for row in rows], [row["label"] for row in rows])
            scores.append(float(model.score([row["text"] for row in asked], [row["label"] for row in asked])))
        keep("demo_pretraining", {
            "data": data, "examples": len(rows), "model": "logistic regression on tf-idf", "test_rows": len(asked),
            "accuracy": over_seeds(scores),
        })  # fmt: skip


def some(train: Path, size: int | None, seed: int) -> Path:
    """Write `size` rows drawn by the seed, two of each class among them (None: all, in another order)."""
    rows = [json.loads(line) for line in train.open(encoding="utf-8")]
    random.Random(seed).shuffle(rows)
    place: collections.Counter[str] = collections.Counter()
    for row in rows:
        place[row["label"]] += 1
        row["later"] = place[row["label"]] > 2
    rows.sort(key=lambda row: bool(row.pop("later")))
    return write_rows(train.with_name(f"train-{size}-{seed}.jsonl"), rows[:size])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1250)
    parser.add_argument("--body", type=Path, help="a run of an earlier call, instead of pre-training anew")
    parser.add_argument("--data", choices=tuple(DATA), default="definitions")
    parser.add_argument("--yardstick", action="store_true", help="the logistic regression alone")
    options = parser.parse_args()
    if options.yardstick:
        yardstick(options.data)
    else:
        main(options.data, options.steps, options.body)
