"""MMEngine: vis_data/scalars.json and the text log of a Runner with validation."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from golden_common import CONTEXT, Seen, text_bytes


def main(root: Path) -> None:
    """Train two hundred iterations."""
    import torch
    from mmengine.evaluator import BaseMetric
    from mmengine.hooks import Hook
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    out, seen = root / "mmengine", Seen()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    tokens = torch.frombuffer(bytearray(text_bytes()), dtype=torch.uint8).long().unfold(0, CONTEXT + 1, 1)

    class Bytes(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            parts = torch.nn.Embedding(256, 16), torch.nn.Flatten(), torch.nn.Linear(16 * CONTEXT, 256)
            self.net = torch.nn.Sequential(*parts)

        def forward(self, *rows: Any, mode: str = "tensor") -> Any:
            batch = torch.stack(rows)
            loss = torch.nn.functional.cross_entropy(self.net(batch[:, :-1]), batch[:, -1])
            return {"loss": loss} if mode == "loss" else [loss]

    class Mean(BaseMetric):
        default_prefix = "val"

        def process(self, batch: Any, samples: Any) -> None:
            self.results.extend(float(x) for x in samples)

        def compute_metrics(self, results: list[float]) -> dict[str, float]:
            return {"loss": sum(results) / len(results)}

    class Watch(Hook):
        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            losses.append(float(outputs["loss"]))
            if (batch_idx + 1) % 10 == 0:
                seen.add("loss", batch_idx + 1, sum(losses[-10:]) / 10)

        def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
            evals.append(metrics["val/loss"])  # what is called a loss is averaged over the window, here as in training
            seen.add("eval_loss", runner.iter, sum(evals[-10:]) / len(evals[-10:]))

    losses: list[float] = []
    evals: list[float] = []
    loader = {"batch_size": 64, "num_workers": 0, "sampler": {"type": "DefaultSampler", "shuffle": False}}
    with tempfile.TemporaryDirectory() as work:
        runner = Runner(
            Bytes(),
            work,
            train_dataloader={**loader, "dataset": tokens[:12800]},
            val_dataloader={**loader, "dataset": tokens[-512:]},
            train_cfg={"by_epoch": False, "max_iters": 200, "val_interval": 50},
            val_cfg={},
            val_evaluator=[Mean()],
            optim_wrapper={"optimizer": {"type": "AdamW", "lr": 1e-2}, "clip_grad": {"max_norm": 1.0}},
            default_hooks={"logger": {"type": "LoggerHook", "interval": 10}, "checkpoint": None},
            custom_hooks=[Watch()],
            log_processor={"by_epoch": False, "window_size": 10},
            randomness={"seed": 0},
        )
        runner.train()
        shutil.copy(next(Path(work).rglob("vis_data/scalars.json")), out / "scalars.json")
        shutil.copy(next(Path(work).glob("*/*.log")), out / "train.log")
    note = "means over the last 10 (the tool's window); scalars.json gives evaluations the step 0; train.log: 4 digits"
    seen.write(out, packages=("mmengine", "torch"), file="scalars.json", rtol=1e-4, eval_steps_in_log=False, note=note)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
