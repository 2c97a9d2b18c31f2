"""Which shape of a small encoder learns anything in minutes: ModernBERT against a BERT and a pre-norm BERT.

    python benchmarks/nano_encoder.py [--size nano|10m] [--steps 160]

nano: 4 layers of width 128, the preset's batch (32 × 128 tokens), optimizer and rates, on Shakespeare's plays
(bpe:1024), 30 % of the tokens hidden. 10m: 6 layers of width 384, batches of 8 × 128, with the defaults of a preset
without options of its own (adamw) and with nano's muon. Nats a hidden token, the mean of the last ten steps; beside it
what a unigram model pays for held-out tokens, knowing nothing of their neighbours.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import transformers
from demo_runs import RUNS, pretrain
from rows import keep

from lossmith.models.presets import ENCODERS, modern_bert

SIZES = {"nano": (4, 128, 2), "10m": (6, 384, 6)}
PLAIN = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 128}
MUON = dict(ENCODERS["nano"].options)
OPTIMIZERS: dict[str, dict[str, dict[str, Any]]] = {
    "nano": {"muon": MUON},
    "10m": {"adamw": {"per_device_train_batch_size": 8}, "muon": MUON | {"per_device_train_batch_size": 8}},
}


def shapes(size: str) -> dict[str, Any]:
    """Return configurations of one size by the name of their kind."""
    layers, width, heads = SIZES[size]
    modern = modern_bert(layers, width, heads)
    plain = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads, **PLAIN}
    plain |= {"intermediate_size": 4 * width, "initializer_range": modern["initializer_range"]}
    return {
        "ModernBERT": transformers.ModernBertConfig(max_position_embeddings=128, **modern),
        "BERT": transformers.BertConfig(**plain),
        "MegatronBERT (pre-norm)": transformers.MegatronBertConfig(**plain),
    }


def main(size: str, steps: int) -> None:
    """Train each for as many steps, keep a row each."""
    for name, config in shapes(size).items():
        config.save_pretrained(RUNS / f"shape-{config.model_type}")
        for optimizer, options in OPTIMIZERS[size].items():
            run = pretrain(
                f"encoder-{config.model_type}", inputs=("shakespeare",), objective="masked", mask_rate=0.3,
                model=str(RUNS / f"shape-{config.model_type}"), eval_max_tokens=8192, block_size=128,
                **options | {"max_steps": steps, "eval_steps": steps, "save_steps": steps, "sample_tokens": 0},
            )  # fmt: skip
            record = json.loads((run / "run.json").read_text(encoding="utf-8"))
            rows = [json.loads(line) for line in (Path(run) / "metrics.jsonl").open(encoding="utf-8")]
            losses = {row["step"]: round(row["loss"], 3) for row in rows if "loss" in row}
            unigram = next(row["nats_per_token"] for row in record["baselines"] if row["name"] == "unigram")
            used = record["config"]
            keep("nano_encoder", {
                "shape": name, "size": size, "optim": optimizer, "learning_rate": used["learning_rate"], "steps": steps,
                "parameters": record["model"]["parameters"], "unit": "nats a hidden token", "last": losses[steps],
                "at": {step: loss for step, loss in losses.items() if step % 20 == 0},
                "eval_loss": round(record["result"]["eval_loss"], 3), "unigram": round(unigram, 3),
                "seconds": round(record["seconds"], 1),
            })  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=tuple(SIZES), default="nano")
    parser.add_argument("--steps", type=int, default=160)
    options = parser.parse_args()
    main(options.size, options.steps)
