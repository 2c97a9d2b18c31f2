"""What defaults of `lossmith finetune` rest on: rate, dropout, parts that are trained; muon and the shape that writes.

    python benchmarks/finetune_choices.py dropout|rate|parts --body RUN [--seeds 1 2 3]
    python benchmarks/finetune_choices.py optimizer|shape [--steps 300]

dropout, rate, parts: 1,000 of the labelled definitions of demo_pretraining.py (drawn by the seed from the training
rows), six epochs, from its pre-trained body, and for dropout from its shape with random weights too. Accuracy on 1,000
other training rows: the test rows of the demonstrations have no part in a choice. (Rows without "data" are of Debian's
sections, from a body without weight decay.)
optimizer: nano from scratch on English titles and their French translations, 64 a step, muon as in the preset and adamw
at 1e-3. Nats a token on rows held out of the training rows.
shape: the same with muon, the same tokenizer and the same sizes, random weights of nano (Pegasus), MBart and T5.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from demo_data import CACHE, definitions, translations, write_rows
from demo_runs import RUNS, bare, classified, finetune, over_seeds
from rows import keep

from lossmith.models.presets import ENCODER_DECODERS

BATCH = "per_device_train_batch_size"
MUON: dict[str, Any] = {
    key: value for key, value in ENCODER_DECODERS["nano"].options.items() if key not in ("max_steps", BATCH)
}
SHAPES: dict[str, dict[str, Any]] = {
    "mbart": {
        "d_model": 128, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 384, "decoder_ffn_dim": 384, "max_position_embeddings": 64,
        "dropout": 0.0, "init_std": 0.049,
    },
    "t5": {
        "d_model": 128, "num_layers": 2, "num_heads": 2, "d_kv": 64, "d_ff": 384, "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0, "tie_word_embeddings": False,
    },
}  # fmt: skip
LABELS: dict[str, dict[str, dict[str, Any]]] = {
    "dropout": {str(rate): {"dropout": rate, "learning_rate": 1e-3} for rate in (0.0, 0.1)},
    "rate": {"default": {}} | {str(rate): {"learning_rate": rate} for rate in (1e-4, 1e-3, 3e-3)},
    "parts": {"all": {}, "head alone": {"freeze": "body"}, "LoRA of rank 8": {"lora_rank": 8}},
}
OPTIMIZERS: dict[str, dict[str, Any]] = {"muon": {}, "adamw": {"optim": "adamw", "learning_rate": 1e-3}}


def labels(what: str, body: Path, seeds: list[int]) -> None:
    """Keep a row for each start and variant."""
    train = definitions(CACHE / "definitions")[0]
    rows = [json.loads(line) for line in train.open(encoding="utf-8")]
    starts: dict[str, Path] = {"pre-trained": body}
    record = json.loads((body / "run.json").read_text(encoding="utf-8"))
    told = {"steps": record["steps"], "weight_decay": record["config"]["weight_decay"]}
    if what == "dropout":
        starts["from scratch"] = bare(body, "choices-bare")
    for start, model in starts.items():
        for name, options in LABELS[what].items():
            scores = []
            for seed in seeds:
                drawn = random.Random(seed).sample(rows, 2000)
                parts = (drawn[:1000], drawn[1000:])
                ours, asked = (write_rows(CACHE / "choices" / f"{i}.jsonl", part) for i, part in enumerate(parts))
                run = finetune(
                    f"choices-{what}", model, ours, num_train_epochs=6.0, seed=seed, per_device_train_batch_size=32,
                    **options,
                )  # fmt: skip
                scores.append(classified(run, asked)["accuracy"])
            rate = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]["learning_rate"]
            keep("finetune_choices", {
                "data": "definitions", "start": start, "body": told, what: name, "learning_rate": rate,
                "examples": 1000, "accuracy": over_seeds(scores),
            })  # fmt: skip


def optimizer(steps: int) -> None:
    """Keep a row for each optimizer."""
    for name, options in OPTIMIZERS.items():
        translator(name, "nano", steps, options)


def translator(name: str, model: str | Path, steps: int, options: dict[str, Any]) -> Path:
    """Train on titles and their translations, keep a row, return the run."""
    run = finetune(
        f"choices-{name}", model, translations(CACHE / "en-fr", "fr")[0], task="seq2seq", source_column="en",
        target_column="fr", max_length=64, max_steps=steps, eval_steps=steps, per_device_train_batch_size=64, seed=1,
        metric="loss", generate_examples=16, **options,
    )  # fmt: skip
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    used = {key: record["config"][key] for key in ("optim", "learning_rate", "adamw_learning_rate")}
    kind = transformers.AutoConfig.from_pretrained(run / "model").model_type
    loss = round(record["result"]["eval_loss"], 4)
    keep("finetune_choices", {"shape": kind, **used, "steps": steps, "unit": "nats a token", "eval_loss": loss})
    return run


def shape(steps: int) -> None:
    """Keep a row for each shape."""
    nano = translator("nano", "nano", steps, {}) / "model"
    given = transformers.AutoConfig.from_pretrained(nano)
    special = {key: getattr(given, key) for key in ("vocab_size", "pad_token_id", "eos_token_id", "bos_token_id")}
    special |= {"decoder_start_token_id": given.decoder_start_token_id, "forced_eos_token_id": None}
    for kind, sizes in SHAPES.items():
        folder = RUNS / f"choices-{kind}-bare"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(nano, folder, ignore=shutil.ignore_patterns("*.safetensors", "*config.json"))
        torch.manual_seed(1)
        config = transformers.AutoConfig.for_model(kind, **sizes, **special)
        transformers.AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
        translator(kind, folder, steps, MUON)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=(*LABELS, "optimizer", "shape"))
    parser.add_argument("--body", type=Path, default=RUNS / "bert-definitions")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    if given.what in LABELS:
        labels(given.what, given.body, given.seeds)
    else:
        {"optimizer": optimizer, "shape": shape}[given.what](given.steps)
