"""Lightning's CSVLogger: metrics.csv with step and epoch columns, and the learning rate monitor."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from golden_common import CONTEXT, Seen, text_bytes


def main(root: Path) -> None:
    """Train three epochs, with the loss logged by step and by epoch."""
    import pytorch_lightning as pl
    import torch
    from pytorch_lightning.callbacks import LearningRateMonitor
    from pytorch_lightning.loggers import CSVLogger

    seen, out = Seen(), root / "lightning"
    out.mkdir(parents=True, exist_ok=True)
    pl.seed_everything(0)

    class Bytes(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            parts = torch.nn.Embedding(256, 16), torch.nn.Flatten(), torch.nn.Linear(16 * CONTEXT, 256)
            self.net = torch.nn.Sequential(*parts)

        def loss(self, batch: Any) -> Any:
            return torch.nn.functional.cross_entropy(self.net(batch[0][:, :-1]), batch[0][:, -1])

        def training_step(self, batch: Any, index: int) -> Any:
            loss = self.loss(batch)
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            if (self.global_step + 1) % 5 == 0:  # what log_every_n_steps lets through
                seen.add("loss", self.global_step, loss.item())
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", self.loss(batch))

        def on_validation_epoch_end(self) -> None:
            if not self.trainer.sanity_checking:
                seen.add("eval_loss", self.global_step - 1, self.trainer.callback_metrics["val_loss"].item())

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
            return [optimizer], [schedule]

        def on_train_batch_start(self, batch: Any, index: int) -> None:
            if (self.global_step + 1) % 5 == 0:
                seen.add("learning_rate", self.global_step, self.optimizers().param_groups[0]["lr"])

    tokens = torch.frombuffer(bytearray(text_bytes()), dtype=torch.uint8).long().unfold(0, CONTEXT + 1, 1)
    train = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(tokens[:1280]), 64, shuffle=True)
    held = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(tokens[-512:]), 64)
    with tempfile.TemporaryDirectory() as work:
        trainer = pl.Trainer(
            max_epochs=3,
            logger=CSVLogger(work, name="golden"),
            callbacks=[LearningRateMonitor("step")],
            log_every_n_steps=5,
            accelerator="cpu",
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Bytes(), train, held)
        shutil.copy(next(Path(work).rglob("metrics.csv")), out / "metrics.csv")
    note = "loss is train_loss_step; train_loss_epoch has 3 points more; the step counts from 0"
    seen.write(out, packages=("pytorch-lightning", "torch"), file="metrics.csv", note=note)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
