"""Hugging Face Trainer: trainer_state.json with checkpoints, printed dicts, a progress bar, and two runs with NaN."""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from golden_common import Seen, captured, text_bytes

NAMES = ("loss", "eval_loss", "learning_rate", "grad_norm")
PACKAGES = ("transformers", "accelerate", "torch")


def blocks(count: int, start: int = 0, length: int = 32) -> list[dict[str, Any]]:
    """Return blocks of bytes as token ids."""
    import torch

    text = text_bytes()[start:]
    rows = [torch.tensor(list(text[i * length : (i + 1) * length])) for i in range(count)]
    return [{"input_ids": row, "labels": row} for row in rows]


def tiny_model() -> Any:
    """Return a GPT-2 of some ten thousand parameters that knows bytes."""
    from transformers import GPT2Config, GPT2LMHeadModel, set_seed

    set_seed(1)
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=256, n_positions=32, n_embd=32, n_layer=1, n_head=2, **ids))


def run(work: Path, seen: Seen, *, break_at: int = 0, **options: Any) -> Any:
    """Train 60 steps; from step `break_at` on the weights hold an inf, as after an overflow."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Watch(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            broken = str(logs.get("grad_norm", 0)) == "nan"
            for name in NAMES:
                if name in (logs or {}):
                    # the Trainer's filter replaces a NaN loss by a mean, then by 0.0; what happened was NaN
                    lost = broken and name == "loss" and logs[name] == 0.0
                    seen.add(name, state.global_step, float("nan") if lost else logs[name])

        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if break_at and state.global_step == break_at:
                model.transformer.h[0].mlp.c_fc.weight.data[0, 0] = float("inf")

    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=60,
        per_device_train_batch_size=8,
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=20,
        learning_rate=5e-3,
        report_to=[],
        use_cpu=True,
        **{"save_strategy": "no", "disable_tqdm": True, **options},
    )
    trainer = Trainer(tiny_model(), arguments, train_dataset=blocks(400), eval_dataset=blocks(40, 300_000))
    trainer.add_callback(Watch())
    trainer.train()
    return trainer


def golden(root: Path, name: str, *, log: str, break_at: int = 0, about: dict[str, Any], **options: Any) -> None:
    """Make one folder: the run's state with its checkpoints, or what it printed."""
    out = root / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    seen = Seen()
    with tempfile.TemporaryDirectory() as work:
        printed = log == "stdout.txt"
        with captured(out / log) if printed else nullcontext():
            trainer = run(Path(work), seen, break_at=break_at, **options)
        if not printed:
            trainer.save_state()
            for state in Path(work).rglob("trainer_state.json"):
                target = out / state.relative_to(work)
                target.parent.mkdir(exist_ok=True)
                shutil.copy(state, target)
    seen.write(out, packages=PACKAGES, **about)


def main(root: Path, prefix: str = "hf_trainer") -> None:
    """Make all folders."""
    state, printed = {"file": "trainer_state.json"}, {"file": "stdout.txt", "steps_in_log": False, "rtol": 1e-3}
    golden(root, prefix, log="trainer_state.json", about=state, save_strategy="steps", save_steps=30)
    golden(root, f"{prefix}_stdout", log="stdout.txt", about=printed)
    golden(root, f"{prefix}_tqdm", log="stdout.txt", about=printed, disable_tqdm=False)
    broken = {"break_at": 32, "log": "trainer_state.json"}
    golden(root, f"{prefix}_nan", about=state, logging_nan_inf_filter=False, **broken)
    golden(root, f"{prefix}_nan_filtered", about=state, **broken)
    golden(root, f"{prefix}_nan_stdout", log="stdout.txt", about=printed, break_at=32)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
