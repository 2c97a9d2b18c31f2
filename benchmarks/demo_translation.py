"""Demonstration 3: span corruption on text of both languages, then translation, against the same from scratch.

    python benchmarks/demo_translation.py [--language fr] [--text pairs|prose] [--steps 1800] [--rows 2000]
                                          [--epochs 10] [--body RUN]

A nano encoder–decoder reads Debian's package descriptions in English and in the other language, without those of the
test rows: sentence by sentence, each beside its translation (--text pairs), or each language for itself (--text prose).
Then it is fine-tuned on titles and their translations; the same shape with the same tokenizer starts from random
weights beside it. BLEU and chrF of what they write greedily for 500 titles of other packages, with bootstrap
intervals over the titles, beside the source copied; the difference of the two by the paired bootstrap. --rows takes so
many training rows, drawn at random; 0: all.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from demo_data import CACHE, translations
from demo_runs import AT_ONCE, bare, finetune, pretrain, side_by_side
from rows import keep

# As in the nano preset's own training (finetune_choices.jsonl: adamw beside it).
MUON: dict[str, Any] = {"optim": "muon", "learning_rate": 0.02, "adamw_learning_rate": 0.007, "weight_decay": 0.0}
# Half of the text in spans of 8: T5's 15 % in spans of 3 ask for 19 of 127 tokens.
SPANS: dict[str, Any] = {"noise_rate": 0.5, "mean_span": 8.0}
TEXTS = ("prose", "pairs")


def main(language: str, text: str, steps: int, epochs: float, rows: int, body: Path | None) -> None:
    """Pre-train, fine-tune twice, keep a row."""
    train, test, *texts = translations(CACHE / f"en-{language}", language)
    read = dict(zip(TEXTS, texts, strict=True))[text]
    if rows:
        lines = random.Random(1).sample(train.read_text(encoding="utf-8").splitlines(), rows)
        train = train.with_name(f"train-{rows}.jsonl")
        train.write_text("\n".join(lines) + "\n", encoding="utf-8")
    start = time.perf_counter()
    body = body or pretrain(
        f"t5-{language}-{text}", inputs=(str(read),), objective="span", tokenizer="bpe:4096", max_steps=steps,
        per_device_train_batch_size=16, eval_max_tokens=8192, sample_tokens=0, eval_steps=steps // 2, **SPANS,
    )  # fmt: skip
    models = {"from scratch": bare(body, f"titles-{language}-bare", "AutoModelForSeq2SeqLM"), "pre-trained": body}
    shared = MUON | {"task": "seq2seq", "source_column": "en", "target_column": language, "num_train_epochs": epochs}
    shared |= {"per_device_train_batch_size": 64, "max_length": 64, "seed": 1, "metric": "loss"}
    shared |= {"generate_examples": 16, "max_eval_examples": 512}
    shared |= {"load_best_model_at_end": False, "dropout": 0.1}  # BLEU still rises where the loss no longer falls
    made = side_by_side({
        name: [partial(finetune, f"titles-{language}-{name.split()[0]}-{rows}", model, train, **shared)]
        for name, model in models.items()
    })  # fmt: skip
    runs = {name: run for name, (run,) in made.items()}
    found = {name: told(run, test, language, runs["from scratch"]) for name, run in runs.items()}
    record = json.loads((body / "run.json").read_text(encoding="utf-8"))
    trained = {"steps": record["steps"], "eval_loss": round(record["result"]["eval_loss"], 4), **SPANS}
    trained["seconds"] = round(record["seconds"], 1)
    keep("demo_translation", {
        "language": language, "text": text, "body": body.name, "epochs": epochs, "dropout": shared["dropout"],
        "train_rows": sum(1 for _ in train.open()), "test_rows": sum(1 for _ in test.open()),
        "figures": {name: each["figures"] for name, each in found.items()},
        "baseline": found["from scratch"]["baselines"],
        "pre-trained minus from scratch": found["pre-trained"]["differences"],
        "validation_loss": {name: each["loss"] for name, each in found.items()},
        "finetuning_seconds": {name: each["seconds"] for name, each in found.items()}, "pretraining": trained,
        **AT_ONCE, "seconds": round(time.perf_counter() - start, 1),
    })  # fmt: skip


def told(run: Path, test: Path, language: str, other: Path) -> dict[str, Any]:
    """Return what `lossmith eval` says of a run, alone and against another: {name: [figure, low, high]}."""
    command = [sys.executable, "-m", "lossmith", "eval", str(run), str(test), "--task", "generation", "--json"]
    command += ["--source-column", "en", "--label-column", language, "--max-new-tokens", "48", "--compare", str(other)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return {
        "figures": {f["name"]: [round(f[key], 2) for key in ("value", "low", "high")] for f in said["figures"]},
        "differences": {
            d["name"]: [round(d[key], 2) for key in ("difference", "low", "high")] for d in said["differences"]
        },
        "baselines": said["baselines"],
        "loss": round(record["result"]["eval_loss"], 4),
        "seconds": round(record["seconds"], 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--language", default="fr")
    parser.add_argument("--text", choices=TEXTS, default="pairs", help="what is read before: texts, or sentence pairs")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--epochs", type=float, default=10.0)
    parser.add_argument("--rows", type=int, default=2000, help="so many training rows; 0: all")
    parser.add_argument("--body", type=Path, help="a run of an earlier call, instead of pre-training anew")
    options = parser.parse_args()
    main(options.language, options.text, options.steps, options.epochs, options.rows, options.body)
