"""fused_loss under PEFT: adapters in the body, on the head, and heads that are trained beside their original."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_hf import Products, V, batch, llama, same, step
from torch import nn

from lossmith.integrations.hf import fused_loss

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT, of transformers

ADAPTERS: dict[str, Any] = {
    "body": peft.LoraConfig(r=3, target_modules=["q_proj", "v_proj"]),
    "head": peft.LoraConfig(r=3, target_modules=["q_proj", "lm_head"], lora_alpha=32),
    "head, bias": peft.LoraConfig(r=3, target_modules=["lm_head"], lora_bias=True),
    "head, dropout": peft.LoraConfig(r=3, target_modules=["lm_head"], lora_dropout=0.5),
    "head saved": peft.LoraConfig(r=3, target_modules=["q_proj"], modules_to_save=["lm_head"]),
}
OTHERS: dict[str, Any] = {
    "DoRA": peft.LoraConfig(r=3, target_modules=["lm_head"], use_dora=True),
    "IA3": peft.IA3Config(target_modules=["lm_head"], feedforward_modules=[]),
    "AdaLoRA": peft.AdaLoraConfig(target_modules=["lm_head"], total_step=10),
}


def adapted(config: Any) -> Any:
    """A llama with an adapter whose weights have moved: a fresh one adds nothing."""
    base = llama()
    base.lm_head.bias = nn.Parameter(torch.linspace(-1, 1, V))
    config.task_type = "CAUSAL_LM"
    model = peft.get_peft_model(base, config)
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_train_the_same(name: str) -> None:
    model, inputs = adapted(ADAPTERS[name]), batch()
    own = step(model, **inputs)
    with fused_loss(model) as fused, Products() as seen:
        same(step(model, **inputs), own)
        assert fused.loss_path == "hidden states"
        assert seen.count == 0


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_off_and_merged(name: str) -> None:
    model, inputs = adapted(ADAPTERS[name]).eval(), batch()

    def losses() -> list[torch.Tensor]:
        with model.disable_adapter():
            off = model(**inputs).loss.detach()
        on = model(**inputs).loss.detach()
        model.merge_adapter()
        merged = model(**inputs).loss.detach()
        model.unmerge_adapter()
        return [off, on, merged]

    own = losses()
    assert not own[0].isclose(own[1])
    with fused_loss(model) as fused:
        torch.testing.assert_close(losses(), own)
        assert fused.loss_path == "hidden states"


@pytest.mark.parametrize("name", OTHERS)
def test_other_adapters_on_the_head_keep_their_loss(name: str) -> None:
    model, inputs = adapted(OTHERS[name]), batch()
    own = step(model, **inputs)
    with fused_loss(model) as fused, pytest.warns(UserWarning, match="computes its loss from logits"):
        same(step(model, **inputs), own)
    assert fused.loss_path == "logits"


@pytest.mark.parametrize("before", [True, False])
def test_fused_before_or_after_peft(before: bool) -> None:
    own = step(adapted(ADAPTERS["body"]), **batch())
    base = llama()
    base.lm_head.bias = nn.Parameter(torch.linspace(-1, 1, V))
    if before:
        fused = fused_loss(base)
    model = peft.get_peft_model(base, ADAPTERS["body"])
    if not before:
        fused = fused_loss(base)
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    same(step(model, **batch()), own)
    assert fused.loss_path == "hidden states"
