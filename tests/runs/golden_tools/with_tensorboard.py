"""TensorBoard event files: simple_value and tensor scalars, and train/ beside validation/ as Keras lays them out."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from golden_common import Seen, train_tiny

ABOUT = {"packages": ("tensorboard", "torch"), "rtol": 1e-6, "note": "values are float32 in the file"}


def main(root: Path) -> None:
    """Write the same run three times."""
    from torch.utils.tensorboard import SummaryWriter

    for name in ("tensorboard_v1", "tensorboard_v2", "tensorboard_siblings"):
        shutil.rmtree(root / name, ignore_errors=True)
    for name, new_style in (("tensorboard_v1", False), ("tensorboard_v2", True)):
        seen = Seen()
        with SummaryWriter(str(root / name)) as writer:

            def log(step: int, row: dict[str, float], *, writer=writer, seen=seen, new_style=new_style) -> None:
                seen.add_row(step, row)
                for key, value in row.items():
                    tag = key.replace("eval_", "eval/") if key.startswith("eval_") else f"train/{key}"
                    writer.add_scalar(tag, value, step, new_style=new_style)

            train_tiny(log)
        seen.write(root / name, file=".", **ABOUT)
    siblings(root / "tensorboard_siblings")


def siblings(out: Path) -> None:
    """One tag, epoch_loss, in two folders."""
    from torch.utils.tensorboard import SummaryWriter

    seen = Seen()
    with SummaryWriter(str(out / "train")) as train, SummaryWriter(str(out / "validation")) as held:

        def log(step: int, row: dict[str, float]) -> None:
            if "eval_loss" in row:
                held.add_scalar("epoch_loss", row["eval_loss"], step, new_style=True)
                seen.add("eval_loss", step, row["eval_loss"])
            elif step % 20 == 0:
                train.add_scalar("epoch_loss", row["loss"], step, new_style=True)
                train.add_scalar("epoch_learning_rate", row["learning_rate"], step, new_style=True)
                seen.add_row(step, {"loss": row["loss"], "learning_rate": row["learning_rate"]})

        train_tiny(log)
    seen.write(out, file=".", **ABOUT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
