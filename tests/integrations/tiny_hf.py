"""Tiny models of transformers, a batch, one step of training: shared by the tests of the integration."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

V = 211
SMALL: dict[str, Any] = {
    "vocab_size": V, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip


def llama(**more: Any) -> Any:
    torch.manual_seed(0)
    return hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL | more))


def bert(**more: Any) -> Any:
    torch.manual_seed(0)
    plain = {k: v for k, v in SMALL.items() if k not in ("num_key_value_heads", "head_dim")}
    return hf.BertForMaskedLM(hf.BertConfig(**plain | more))


def modernbert() -> Any:
    torch.manual_seed(0)
    plain = {k: v for k, v in SMALL.items() if k not in ("num_key_value_heads", "head_dim")}
    return hf.ModernBertForMaskedLM(hf.ModernBertConfig(**plain, cls_token_id=1, sep_token_id=2))


def made(kind: Any, config: Any, **more: Any) -> Callable[[], Any]:
    def build() -> Any:
        torch.manual_seed(0)
        return kind(config(**SMALL | more))

    return build


MODELS: dict[str, Callable[[], Any]] = {
    "llama": llama,
    "llama, tied": functools.partial(llama, tie_word_embeddings=True),
    "gemma2: soft-cap, tied": made(hf.Gemma2ForCausalLM, hf.Gemma2Config, final_logit_softcapping=0.5),
    "cohere: logit scale, tied": made(hf.CohereForCausalLM, hf.CohereConfig, logit_scale=0.25),
    "granite: divided": made(hf.GraniteForCausalLM, hf.GraniteConfig, logits_scaling=8.0),
    "mixtral: router loss": made(
        hf.MixtralForCausalLM, hf.MixtralConfig, num_local_experts=3, num_experts_per_tok=2, output_router_logits=True
    ),
    "phi: bias": made(hf.PhiForCausalLM, hf.PhiConfig),
    "bert: masked, bias": bert,
    "modernbert: masked": modernbert,
}


def batch(rows: int = 2, length: int = 20, seed: int = 1) -> dict[str, Tensor]:
    """Token ids and labels, some of them ignored."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, V, (rows, length), generator=random)
    labels = torch.where(torch.rand(ids.shape, generator=random) < 0.3, -100, ids)
    return {"input_ids": ids, "labels": labels}


def step(model: Any, **inputs: Any) -> dict[str, Tensor]:
    """The loss and every gradient, by name."""
    model.zero_grad()
    torch.manual_seed(3)
    loss = model(**inputs).loss
    loss.backward()
    return {"loss": loss.detach()} | {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor], rtol: float = 1e-4) -> None:
    """Compare by the largest entry of each, or a hundredth of that of all."""
    assert ours.keys() == theirs.keys()
    floor = max(float(x.detach().abs().max()) for x in theirs.values()) / 100
    for name, x in theirs.items():
        atol = rtol * max(float(x.detach().abs().max()), floor)
        torch.testing.assert_close(ours[name], x, rtol=rtol, atol=atol, msg=lambda m, name=name: f"{name}: {m}")


class Products(TorchDispatchMode):
    """Counts the products that return logits, outside of lossmith's own operators (whose memory has its own tests)."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **kwargs or {})
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm):
            self.count += out.shape[-1] == V
        return out
