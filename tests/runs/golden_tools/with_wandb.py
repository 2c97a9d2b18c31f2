"""Weights & Biases offline: a .wandb file whose rows are counted by _step and whose steps are in train/global_step."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from golden_common import Seen, train_tiny


def main(root: Path) -> None:
    """Log the way the Hugging Face integration does: every row a log call, the step as a column of its own."""
    import wandb

    out, seen = root / "wandb", Seen()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as work:
        settings = wandb.Settings(console="off", x_disable_stats=True, disable_git=True, save_code=False)
        run = wandb.init(mode="offline", dir=work, project="golden", config={"learning_rate": 5e-3}, settings=settings)

        def log(step: int, row: dict[str, float]) -> None:
            seen.add_row(step, row)
            tags = {("eval/loss" if key == "eval_loss" else f"train/{key}"): value for key, value in row.items()}
            run.log(tags | {"train/global_step": step})

        train_tiny(log)
        run.finish()
        shutil.copy(next(Path(work).rglob("*.wandb")), out / "run-golden.wandb")
    seen.write(out, packages=("wandb", "torch"), file="run-golden.wandb")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
