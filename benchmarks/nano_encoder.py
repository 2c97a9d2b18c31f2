"""Which shape of a small encoder learns anything in minutes: the nano preset against a BERT and a pre-norm BERT.

    python benchmarks/nano_encoder.py [--steps 160]

Each of 4 layers of width 128, the preset's batch (32 × 128 tokens), optimizer and rates, on Shakespeare's plays
(bpe:1024), 30 % of the tokens hidden. Nats a hidden token, the mean of the last ten steps; beside it what a unigram
model pays for held-out tokens, knowing nothing of their neighbours.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import transformers
from demo_runs import RUNS, pretrain
from rows import keep

from lossmith.models.presets import ENCODERS

SHAPE = {"num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512}
SHAPE |= {"max_position_embeddings": 128}
PLAIN = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.049}
SHAPES: dict[str, Any] = {
    "nano (ModernBERT)": "nano",
    "BERT": transformers.BertConfig,
    "MegatronBERT (pre-norm)": transformers.MegatronBertConfig,
}


def main(steps: int) -> None:
    """Train each for as many steps, keep a row each."""
    for name, kind in SHAPES.items():
        model, options = kind, dict(ENCODERS["nano"].options)
        if not isinstance(kind, str):
            model = str(RUNS / f"shape-{kind.model_type}")
            kind(**SHAPE, **PLAIN).save_pretrained(model)
            options |= {"block_size": 128}
        options |= {"max_steps": steps, "eval_steps": steps, "save_steps": steps, "sample_tokens": 0}
        run = pretrain(
            f"encoder-{name.split()[0]}", inputs=("shakespeare",), objective="masked", mask_rate=0.3, model=model,
            eval_max_tokens=8192, **options,
        )  # fmt: skip
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
        rows = [json.loads(line) for line in (Path(run) / "metrics.jsonl").open(encoding="utf-8")]
        losses = {row["step"]: round(row["loss"], 3) for row in rows if "loss" in row}
        unigram = next(row["nats_per_token"] for row in record["baselines"] if row["name"] == "unigram")
        keep("nano_encoder", {
            "shape": name, "steps": steps, "parameters": record["model"]["parameters"], "unit": "nats a hidden token",
            "last": losses[steps], "at": {step: loss for step, loss in losses.items() if step % 20 == 0},
            "eval_loss": round(record["result"]["eval_loss"], 3), "unigram": round(unigram, 3),
        })  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=160)
    main(parser.parse_args().steps)
