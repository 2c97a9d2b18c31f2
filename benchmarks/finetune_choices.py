"""What defaults of `lossmith finetune` rest on: dropout for labels; muon and the shape of a small encoder–decoder.

    python benchmarks/finetune_choices.py dropout --body RUN [--seeds 1 2 3]
    python benchmarks/finetune_choices.py optimizer [--steps 300]
    python benchmarks/finetune_choices.py shape [--steps 300]

dropout: 1,000 rows of Debian's sections (drawn by the seed from the training rows), six epochs, with --dropout 0 and
0.1, from a pre-trained body (that of demo_pretraining.py) and from its shape with random weights. Accuracy on 1,000
other training rows: the test rows of the demonstrations have no part in a choice.
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
from demo_data import CACHE, sections, translations, write_rows
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
OPTIMIZERS: dict[str, dict[str, Any]] = {"muon": {}, "adamw": {"optim": "adamw", "learning_rate": 1e-3}}


def dropout(body: Path, seeds: list[int]) -> None:
    """Keep a row for each start and rate."""
    train = sections(CACHE / "sections")[0]
    rows = [json.loads(line) for line in train.open(encoding="utf-8")]
    for name, model in (("pre-trained", body), ("from scratch", bare(body, "choices-bare"))):
        for rate in (0.0, 0.1):
            scores = []
            for seed in seeds:
                drawn = random.Random(seed).sample(rows, 2000)
                parts = (drawn[:1000], drawn[1000:])
                ours, asked = (write_rows(CACHE / "choices" / f"{i}.jsonl", part) for i, part in enumerate(parts))
                run = finetune(
                    "choices-dropout", model, ours, num_train_epochs=6.0, seed=seed, learning_rate=1e-3, dropout=rate,
                    per_device_train_batch_size=32,
                )  # fmt: skip
                scores.append(classified(run, asked)["accuracy"])
            keep("finetune_choices", {"start": name, "dropout": rate, "examples": 1000, "accuracy": over_seeds(scores)})


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
    parser.add_argument("what", choices=("dropout", "optimizer", "shape"))
    parser.add_argument("--body", type=Path, default=RUNS / "bert")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    if given.what == "dropout":
        dropout(given.body, given.seeds)
    else:
        {"optimizer": optimizer, "shape": shape}[given.what](given.steps)
