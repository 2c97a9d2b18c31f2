"""A callback of Lightning that reads the loss while it is made, and stops at an error if asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError as error:
        from lossmith.errors import MissingPackageError

        raise MissingPackageError("lossmith.integrations.lightning needs Lightning: pip install lightning") from error

from lossmith.diagnosis import Finding
from lossmith.integrations._diagnosis import LossWarning, Watcher

__all__ = ["DiagnosisCallback", "LossWarning"]


class DiagnosisCallback(Callback):  # type: ignore[misc]
    """Say what is wrong with a running Lightning Trainer: `Trainer(callbacks=[DiagnosisCallback(stop_on_error=True)])`.

    `loss` and `eval_loss` name the metrics to read, as `self.log` was given them ("train_loss", "val_loss"). The
    training loss is read at every `log_every_n_steps`-th step, the eval loss after each validation but the sanity
    check. Each warning and error of `lossmith.diagnose` is said once, as a LossWarning, or handed to `on_finding`;
    `found` holds them.

    Errors: InputError for an unknown `lang` ("en" or "zh"); MissingPackageError where Lightning is not installed.
    Source: https://lightning.ai/docs/pytorch/stable/extensions/callbacks.html
    """

    def __init__(
        self,
        *,
        loss: str = "train_loss",
        eval_loss: str = "val_loss",
        stop_on_error: bool = False,
        lang: str = "en",
        on_finding: Callable[[Finding], None] | None = None,
    ) -> None:
        self.loss, self.eval_loss = loss, eval_loss
        self._watcher = Watcher(stop_on_error=stop_on_error, lang=lang, on_finding=on_finding)

    @property
    def found(self) -> list[Finding]:
        """The warnings and errors said so far."""
        return self._watcher.found

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Watch a new run."""
        total = trainer.estimated_stepping_batches
        self._watcher.begin(int(total) if total != float("inf") else None)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Judge the training loss of a step that is logged."""
        if trainer.global_step % trainer.log_every_n_steps == 0:
            self._hear(trainer, {"loss": self.loss, "learning_rate": "", "grad_norm": "grad_norm"})

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """Judge the eval loss."""
        if not trainer.sanity_checking:
            self._hear(trainer, {"eval_loss": self.eval_loss})

    def _hear(self, trainer: Any, names: dict[str, str]) -> None:
        metrics = trainer.callback_metrics
        row = {ours: float(metrics[theirs]) for ours, theirs in names.items() if theirs in metrics}
        if "learning_rate" in names and trainer.optimizers:
            row["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        if trainer.is_global_zero and (row.keys() & {"loss", "eval_loss"}):
            trainer.should_stop |= self._watcher.hear({"step": trainer.global_step, **row})
