"""Findings inside somebody else's trainer: a real Hugging Face Trainer and a real Lightning Trainer."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers.trainer_callback import TrainerControl

from lossmith.errors import InputError
from lossmith.integrations.hf_callback import DiagnosisCallback, LossWarning


class Words(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Sequences that repeat a pattern, so that there is something to learn."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = (torch.arange(16) + index) % 12
        return {"input_ids": ids, "labels": ids}


def trainer(folder: Path, callback: DiagnosisCallback, **options: Any) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=16, n_embd=16, n_layer=1, n_head=2))
    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=8, logging_steps=1, report_to=[], save_strategy="no",
        disable_tqdm=True, use_cpu=True, seed=1, dataloader_pin_memory=False, **options,
    )  # fmt: skip
    return Trainer(model, arguments, train_dataset=Words(), eval_dataset=Words(), callbacks=[callback])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_trainer_that_runs_well_is_left_alone(tmp_path: Path) -> None:
    callback = DiagnosisCallback(stop_on_error=True)
    running = trainer(tmp_path, callback, max_steps=60, learning_rate=3e-3)
    running.train()
    assert running.state.global_step == 60
    assert callback.found == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_trainer_whose_loss_becomes_nan_is_stopped(tmp_path: Path) -> None:
    heard: list[str] = []
    callback = DiagnosisCallback(stop_on_error=True, on_finding=lambda finding: heard.append(finding.check))
    running = trainer(tmp_path, callback, max_steps=80, learning_rate=1e-3, max_grad_norm=0.0)

    def break_weights(module: nn.Module, args: Any) -> None:
        if running.state.global_step == 30:
            with torch.no_grad():
                next(module.parameters()).fill_(float("nan"))

    running.model.register_forward_pre_hook(break_weights)
    running.train()
    assert heard == ["nan"]
    assert running.state.global_step < 40


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_without_a_listener_it_warns(tmp_path: Path) -> None:
    callback = DiagnosisCallback(lang="zh")
    running = trainer(tmp_path, callback, max_steps=3)
    running.train()
    control = TrainerControl()
    with pytest.warns(LossWarning, match="不是数"):
        callback.on_log(running.args, running.state, control, {"loss": float("nan")})
    assert not control.should_training_stop


def test_an_unknown_language_is_an_error() -> None:
    with pytest.raises(InputError, match="lang must be one of en, zh; got 'fr'"):
        DiagnosisCallback(lang="fr")


def test_lightning_is_stopped_at_an_error(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning

        from lossmith.integrations.lightning import DiagnosisCallback as LightningCallback

        class Model(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(4, 1)

            def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
                loss = nn.functional.mse_loss(self.layer(batch), batch.sum(-1, keepdim=True))
                loss = loss * float("nan") if self.global_step >= 40 else loss
                self.log("train_loss", loss)
                return loss

            def validation_step(self, batch: torch.Tensor, index: int) -> None:
                self.log("val_loss", nn.functional.mse_loss(self.layer(batch), batch.sum(-1, keepdim=True)))

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.SGD(self.parameters(), lr=0.01)

        heard: list[str] = []
        callback = LightningCallback(stop_on_error=True, on_finding=lambda finding: heard.append(finding.check))
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        running = lightning.Trainer(
            max_steps=200, log_every_n_steps=1, callbacks=[callback], accelerator="cpu", logger=False,
            default_root_dir=tmp_path, **quiet,
        )  # fmt: skip
        torch.manual_seed(0)
        data = torch.utils.data.DataLoader(torch.randn(80, 4), batch_size=4)
        running.fit(Model(), data, data)
    assert "nan" in heard
    assert running.global_step < 60
