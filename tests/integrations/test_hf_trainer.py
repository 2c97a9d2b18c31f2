"""fused_loss and compute_loss_func inside what trains: the Trainer, PEFT, accelerate, DDP."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
import transformers as hf
from tiny_hf import MODELS, Products, V, batch, llama, same, step
from torch import Tensor, nn

from lossmith.errors import RunError
from lossmith.integrations.hf import compute_loss_func, fused_loss


def test_trainers_label_smoothing_reads_logits() -> None:
    from transformers.trainer_pt_utils import LabelSmoother

    model, inputs = llama(), batch()
    labels = inputs.pop("labels")
    own = LabelSmoother(0.1)(model(**inputs), labels, shift_labels=True)
    with fused_loss(model, without_labels=True) as fused:
        torch.testing.assert_close(LabelSmoother(0.1)(model(**inputs), labels, shift_labels=True), own)
        assert fused.loss_path == "logits"
        ours = compute_loss_func(model(**inputs), labels, label_smoothing=0.1)  # the same, and without logits
        assert fused.loss_path == "hidden states"
    torch.testing.assert_close(ours, own)


@pytest.mark.parametrize("name", ["llama", "modernbert: masked", "gemma2: soft-cap, tied"])
@pytest.mark.parametrize("items", [None, 11])
def test_compute_loss_func_is_the_models_own(name: str, items: int | None) -> None:
    model, inputs = MODELS[name]().eval(), batch()
    labels = inputs["labels"]
    own = model(**inputs, **({} if items is None else {"num_items_in_batch": items})).loss
    del inputs["labels"]
    torch.testing.assert_close(compute_loss_func(model(**inputs), labels, items), own)
    with fused_loss(model.train(), without_labels=True), Products() as seen:
        for module in model.modules():  # dropout off: the same numbers
            module.training = module is model
        outputs = model(**inputs)
        loss = compute_loss_func(outputs, labels, items)
        assert seen.count == 0
        torch.testing.assert_close(loss, own)
        torch.testing.assert_close(
            compute_loss_func((outputs.logits + 0,), labels, items, shift="masked" not in name), own
        )


def test_compute_loss_func_options() -> None:
    model, inputs = MODELS["mixtral: router loss"](), batch()
    labels = inputs.pop("labels")
    outputs = model(**inputs)
    own = model(**inputs, labels=labels)
    aux = functools.partial(compute_loss_func, aux_coefficient=model.router_aux_loss_coef)
    torch.testing.assert_close(aux(outputs, labels), own.loss)
    lse = torch.logsumexp(outputs.logits, -1)[:, :-1][labels[:, 1:] != -100]
    z_loss = compute_loss_func(outputs, labels, z_loss=0.01) - compute_loss_func(outputs, labels)
    torch.testing.assert_close(z_loss, 0.01 * lse.square().mean())


def rows(count: int = 16) -> list[dict[str, Tensor]]:
    """Examples of one length, with different numbers of labels: averages of averages would differ."""
    whole = batch(count, 12, seed=5)
    for i in range(count):
        whole["labels"][i, : i % 11] = -100
    return [{name: x[i] for name, x in whole.items()} for i in range(count)]


def trained(model: Any, folder: Path, **more: Any) -> tuple[list[float], dict[str, Tensor], Any]:
    """Train by the real Trainer: two micro-batches a step, evaluation and checkpoints; losses, weights, trainer."""
    options = {name: more.pop(name) for name in ("compute_loss_func", "compute_metrics") if name in more}
    arguments: dict[str, Any] = {
        "output_dir": str(folder), "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 4,
        "logging_steps": 1, "learning_rate": 0.01, "report_to": [], "use_cpu": True, "disable_tqdm": True, "seed": 1,
        "eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "dataloader_pin_memory": False,
    }  # fmt: skip
    trainer = hf.Trainer(
        model, hf.TrainingArguments(**arguments | more), train_dataset=rows(), eval_dataset=rows(4), **options
    )
    trainer.train()
    history = trainer.state.log_history
    losses = [entry[key] for key in ("loss", "grad_norm", "eval_loss") for entry in history if key in entry]
    return losses, {k: v.clone() for k, v in model.state_dict().items()}, trainer


@pytest.mark.parametrize("name", ["llama", "gemma2: soft-cap, tied", "mixtral: router loss", "bert: masked, bias"])
def test_the_trainer_trains_the_same(name: str, tmp_path: Path) -> None:
    losses, weights, _ = trained(MODELS[name](), tmp_path / "own")
    assert len(losses) == 4 + 4 + 2
    model = MODELS[name]()
    with fused_loss(model) as fused:
        ours = trained(model, tmp_path / "ours")
        assert fused.loss_path == "hidden states"
    assert ours[0] == pytest.approx(losses, rel=1e-4)
    same(ours[1], weights, rtol=2e-3)  # AdamW's first steps are the gradients' signs


@pytest.mark.parametrize("name", ["llama", "modernbert: masked"])
def test_the_trainer_trains_the_same_with_compute_loss_func(name: str, tmp_path: Path) -> None:
    losses, weights, _ = trained(MODELS[name](), tmp_path / "own")
    model = MODELS[name]()
    with fused_loss(model, without_labels=True) as fused, Products() as seen:
        ours = trained(model, tmp_path / "ours", compute_loss_func=compute_loss_func, eval_strategy="no")
        assert fused.loss_path == "hidden states"
    assert seen.count == 0
    assert ours[0] == pytest.approx(losses[:8], rel=1e-4)
    same(ours[1], weights, rtol=2e-3)


def test_bert_ignores_num_items_in_batch_and_compute_loss_func_does_not(tmp_path: Path) -> None:
    own, *_ = trained(MODELS["bert: masked, bias"](), tmp_path / "own", learning_rate=0.0)
    model = MODELS["bert: masked, bias"]()
    with fused_loss(model, without_labels=True):
        ours, *_ = trained(model, tmp_path / "ours", compute_loss_func=compute_loss_func, learning_rate=0.0)
    assert own[:4] == pytest.approx([2 * x for x in ours[:4]], rel=0.02)  # two micro-batches a step


def test_label_smoothing_by_compute_loss_func_is_the_trainers(tmp_path: Path) -> None:
    losses, weights, _ = trained(llama(), tmp_path / "own", label_smoothing_factor=0.1)
    model = llama()
    smoothed = functools.partial(compute_loss_func, label_smoothing=0.1)
    with fused_loss(model, without_labels=True):
        ours = trained(model, tmp_path / "ours", compute_loss_func=smoothed)
    assert ours[0] == pytest.approx(losses, rel=1e-4)
    same(ours[1], weights, rtol=2e-3)


def test_bfloat16_training_metrics_and_unwrapping(tmp_path: Path) -> None:
    seen: list[Any] = []

    def accuracy(predictions: Any) -> dict[str, float]:
        seen.append(predictions.predictions)
        return {"accuracy": float((predictions.predictions.argmax(-1) == predictions.label_ids).mean())}

    losses, *_ = trained(llama(), tmp_path / "own", bf16=True, compute_metrics=accuracy)
    model = llama()
    with fused_loss(model) as fused:
        ours, _, trainer = trained(model, tmp_path / "ours", bf16=True, compute_metrics=accuracy)
        assert fused.loss_path == "hidden states"
        assert ours == pytest.approx(losses, rel=0.02)
        assert seen[-1].shape == seen[1].shape == (4, 12, V)
        unwrapped = trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
        assert step(unwrapped, **batch())["loss"] > 0
    assert step(model, **batch())["loss"] > 0


def ddp_step(rank: int, folder: str) -> None:
    """One of two ranks: its half of the batch; loss and gradients with the fused loss and without."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        model = MODELS["gemma2: soft-cap, tied"]()
        mine = {name: x[rank::2] for name, x in batch(4).items()} | {"num_items_in_batch": 30}
        parallel = nn.parallel.DistributedDataParallel(model)
        own = step(parallel, **mine)
        own = {name: x.clone() for name, x in own.items()}
        with fused_loss(model) as fused:
            for find in (False, True):
                ours = step(nn.parallel.DistributedDataParallel(model, find_unused_parameters=find), **mine)
                assert fused.loss_path == "hidden states"
                same(ours, own)
        labels, items = mine.pop("labels"), mine.pop("num_items_in_batch")
        with fused_loss(model, without_labels=True):
            parallel.zero_grad()
            loss = compute_loss_func(parallel(**mine), labels, items)
            loss.backward()
            same({"loss": loss.detach()} | {k: p.grad for k, p in parallel.named_parameters()}, own)
            finding = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)  # clones its outputs
            with pytest.raises(RunError, match="find_unused_parameters=False"):
                compute_loss_func(finding(**mine), labels, items).backward()
        torch.save(own, f"{folder}/{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:find_unused_parameters=True was specified")
def test_two_ranks_of_ddp(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(ddp_step, (str(tmp_path),), nprocs=2)
    whole = step(MODELS["gemma2: soft-cap, tied"](), **batch(4), num_items_in_batch=60)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for name in whole.keys() - {"loss"}:  # DDP averages: two ranks of 30 items each are one batch of 60
        torch.testing.assert_close(ranks[0][f"module.{name}"], whole[name], rtol=1e-4, atol=1e-6)
        assert ranks[0][f"module.{name}"].equal(ranks[1][f"module.{name}"])
