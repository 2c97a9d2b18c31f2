"""A masked-LM training step against the Hugging Face Trainer's: tokens/s, same BERT, batch, precision, optimizer.

Both train BertForMaskedLM (--layers, --width, --vocab) from the same weights on blocks of --context tokens of the same
text with --mask-rate of them hidden, AdamW (fused), float32 on a CPU, and do all that a step does: making the batch,
forward, backward, clipping, update. Theirs: Trainer with DataCollatorForLanguageModeling; logging, saving and
evaluation off. Runs alternate, and the medians of --repeats are compared: python benchmarks/mlm_step.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from rows import keep

import lossmith
from lossmith.data import DataConfig, open_store


def tokens_of(context: int, vocabulary: int, folder: Path) -> tuple[Any, np.ndarray]:
    """Return the token store of Shakespeare's plays and its training text in rows of `context` tokens."""
    store = open_store(DataConfig(inputs=("shakespeare",), tokenizer=f"bpe:{vocabulary}"))
    tokenizer = store.tokenizer.with_special(["pad", "cls", "sep", "mask"])
    tokenizer.save(folder)
    ids = np.asarray(store.train.tokens).astype(np.int64)
    rows = ids[: len(ids) // (context - 2) * (context - 2)].reshape(-1, context - 2)
    frame = (tokenizer.special("cls"), tokenizer.special("sep"))
    ends = [np.full((len(rows), 1), token) for token in frame]
    return tokenizer, np.concatenate([ends[0], rows, ends[1]], 1)


def theirs(args: argparse.Namespace, model: Path, tokenizer: Path, rows: np.ndarray, work: str) -> float:
    """Return the tokens a second of the Hugging Face Trainer, its first steps left out."""
    auto = transformers.AutoTokenizer.from_pretrained(tokenizer)
    collator = transformers.DataCollatorForLanguageModeling(auto, mlm=True, mlm_probability=args.mask_rate)
    times: list[float] = []

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]  # has no types
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    options = transformers.TrainingArguments(
        output_dir=work, per_device_train_batch_size=args.batch, max_steps=args.steps, learning_rate=1e-4,
        optim="adamw_torch_fused", report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
        use_cpu=True, max_grad_norm=1.0, seed=0,
    )  # fmt: skip
    data = [{"input_ids": row} for row in rows[: args.steps * args.batch].tolist()]
    bert = transformers.AutoModelForMaskedLM.from_pretrained(model)
    trainer = transformers.Trainer(
        bert, options, train_dataset=data, data_collator=collator, callbacks=[Clock()], processing_class=auto
    )
    trainer.train()
    return rate(args, np.diff(times))


def ours(args: argparse.Namespace, model: Path, tokenizer: Path, work: str) -> float:
    """Return the tokens a second of lossmith train --objective masked, its first steps left out."""
    run = lossmith.train(
        "shakespeare", objective="masked", model=str(model), tokenizer=str(tokenizer), mask_rate=args.mask_rate,
        block_size=args.context, per_device_train_batch_size=args.batch, max_steps=args.steps, optim="adamw",
        learning_rate=1e-4, bf16=False, logging_steps=1, eval_steps=10**6, save_steps=10**6, eval_max_tokens=1,
        sample_tokens=0, seed=0, output_dir=f"{work}/run", validation_fraction=0.001,
    )  # fmt: skip
    lines = map(json.loads, (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    seconds = [line["seconds"] for line in lines if "loss" in line]
    return rate(args, np.diff(seconds))


def rate(args: argparse.Namespace, seconds: np.ndarray) -> float:
    """Return tokens a second of the median step, the first quarter of the steps (warm-up) left out."""
    return float(args.batch * args.context / statistics.median(seconds[len(seconds) // 4 :].tolist()))


def main() -> None:
    """Measure and keep the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("layers", 4), ("width", 128), ("vocab", 8192), ("context", 128), ("batch", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--mask-rate", type=float, default=0.15)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    found: dict[str, list[float]] = {"theirs": [], "ours": []}
    with tempfile.TemporaryDirectory() as work:
        folders = {name: Path(work) / name for name in ("model", "tokenizer")}
        tokenizer, rows = tokens_of(args.context, args.vocab, folders["tokenizer"])
        config = transformers.BertConfig(
            vocab_size=tokenizer.vocab_size, num_hidden_layers=args.layers, hidden_size=args.width,
            num_attention_heads=max(1, args.width // 64), intermediate_size=4 * args.width,
            max_position_embeddings=args.context, pad_token_id=tokenizer.special("pad"),
        )  # fmt: skip
        torch.manual_seed(0)
        transformers.BertForMaskedLM(config).save_pretrained(folders["model"])
        for index in range(args.repeats):
            places = folders["model"], folders["tokenizer"]
            found["theirs"].append(theirs(args, *places, rows, f"{work}/theirs{index}"))
            found["ours"].append(ours(args, *places, f"{work}/ours{index}"))
    medians = {name: statistics.median(values) for name, values in found.items()}
    shape = {name: value for name, value in vars(args).items() if name != "repeats"}
    ratio = round(medians["ours"] / medians["theirs"], 3)
    row = {"unit": "tokens per second; ratio: lossmith / HF Trainer", "ratio": ratio, "bar": 1.5, **medians, **shape}
    keep("mlm_step", row | {"repeats": args.repeats, "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
