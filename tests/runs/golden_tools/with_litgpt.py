"""LitGPT: the lines that pretraining prints, and the metrics.csv of its CSV logger."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from golden_common import Seen, captured, text_bytes


def main(root: Path) -> None:
    """Pretrain a Pythia of a few thousand parameters on bytes."""
    import lightning
    import torch
    from litgpt import Config
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.data import DataModule
    from litgpt.pretrain import setup

    out, seen = root / "litgpt", Seen()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    rows = torch.frombuffer(bytearray(text_bytes()), dtype=torch.uint8).long().unfold(0, 33, 33)

    class Bytes(DataModule):
        def connect(self, tokenizer: Any = None, batch_size: int = 1, max_seq_length: int = 0, **_: Any) -> None:
            self.batch_size = batch_size

        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(rows[:4000], self.batch_size)

        def val_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(rows[-64:], self.batch_size)

    kept = lightning.Fabric.log_dict

    def watch(self: Any, metrics: Any, step: Any = None) -> None:
        for name, key in (("loss", "loss"), ("eval_loss", "val_loss"), ("learning_rate", "learning_rate")):
            if key in metrics:
                seen.add(name, int(step), float(metrics[key]))
        kept(self, metrics, step)

    lightning.Fabric.log_dict = watch
    config = Config(name="golden", block_size=32, vocab_size=256, padded_vocab_size=256, n_layer=1, n_head=2, n_embd=32)
    options: dict[str, Any] = {"global_batch_size": 8, "micro_batch_size": 8, "lr_warmup_steps": 5, "min_lr": 1e-5}
    with tempfile.TemporaryDirectory() as work, captured(out / "stdout.txt"):
        setup(
            "golden",
            model_config=config,
            out_dir=Path(work),
            precision="32-true",
            data=Bytes(),
            train=TrainArgs(save_interval=None, log_interval=1, max_tokens=8 * 32 * 60, max_norm=1.0, **options),
            eval=EvalArgs(interval=20, max_iters=4, final_validation=True),
            optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 5e-3}},
            devices=1,
            logger_name="csv",
        )
        shutil.copy(next(Path(work).rglob("metrics.csv")), out / "metrics.csv")
    note = "stdout.txt counts iterations from 1 and has 3 decimals, metrics.csv counts from 0"
    seen.write(out, packages=("litgpt", "torch"), file="metrics.csv", also="stdout.txt", note=note)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
