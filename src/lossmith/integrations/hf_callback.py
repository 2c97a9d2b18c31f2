"""A callback of the Hugging Face Trainer that reads the loss while it is made, and stops at an error if asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers.trainer_callback import TrainerCallback

from lossmith.diagnosis import Finding
from lossmith.integrations._diagnosis import LossWarning, Watcher

__all__ = ["DiagnosisCallback", "LossWarning"]


class DiagnosisCallback(TrainerCallback):  # type: ignore[misc]
    """Say what is wrong with a running Trainer: `Trainer(..., callbacks=[DiagnosisCallback(stop_on_error=True)])`.

    Rows are what the Trainer logs (logging_steps, eval_steps). Each warning and error of `lossmith.diagnose` is said
    once, as a LossWarning, or handed to `on_finding`; `found` holds them. stop_on_error=True ends training at the next
    step after an error (NaN, divergence, a learning rate that is too large, strong overfitting), as early stopping
    does. A loss of 0.0 beside a gradient norm of NaN, which the Trainer logs for NaN, counts as NaN.

    Errors: InputError for an unknown `lang` ("en" or "zh").
    Source: https://huggingface.co/docs/transformers/main_classes/callback

    >>> DiagnosisCallback(stop_on_error=True, lang="zh").found
    []
    """

    def __init__(
        self, *, stop_on_error: bool = False, lang: str = "en", on_finding: Callable[[Finding], None] | None = None
    ) -> None:
        self._watcher = Watcher(stop_on_error=stop_on_error, lang=lang, on_finding=on_finding)

    @property
    def found(self) -> list[Finding]:
        """The warnings and errors said so far."""
        return self._watcher.found

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Watch a new run; what a resumed one has logged before counts."""
        self._watcher.begin(state.max_steps)
        for row in state.log_history:
            self._watcher.watch.log(row)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **more: Any) -> None:
        """Judge a logged row; the Trainer stops where `control.should_training_stop` is set."""
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            row = {"step": state.global_step, **logs}
            if self._watcher.hear(row):
                control.should_training_stop = True
