"""Reach the last hidden states and the output head of any causal Hugging Face model: nobody needs its logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lossmith.models.mode import probing


@dataclass(frozen=True, slots=True)
class Head:
    """The map from hidden states to logits: ``softcap·tanh(logit_scale·(h·weightᵀ + bias)/softcap)``."""

    weight: Tensor
    bias: Tensor | None
    softcap: float | None
    logit_scale: float

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the logits [..., V] of hidden states [..., D]."""
        logits = torch.nn.functional.linear(hidden, self.weight, self.bias) * self.logit_scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


_REACHABLE: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def hidden_and_head(model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Head | None]:
    """Return the last hidden states [B, T, D] and the head; or the logits [B, T, V] and None where a model hides them.

    Whether the pair gives the model's own logits is not believed but tried, once per model, on a few tokens.
    Source: https://huggingface.co/docs/transformers/main_classes/model (get_output_embeddings, base_model).
    """
    inputs = additive_mask(model, inputs)
    if reachable(model):
        return model.base_model(**inputs, use_cache=False).last_hidden_state, _head(model)
    return model(**inputs, use_cache=False).logits, None


def additive_mask(model: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn a boolean [B, 1, T, T] mask into −∞ and 0 for plain attention, which adds whatever it is given."""
    mask = inputs.get("attention_mask")
    if mask is None or mask.dtype != torch.bool or model.config._attn_implementation != "eager":
        return inputs
    dtype = model.get_input_embeddings().weight.dtype
    additive = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
    return inputs | {"attention_mask": additive}


def loss_path(model: Any) -> str:
    """Say which way the loss takes: "hidden states" (logits never stored) or "logits" (the model hides its head)."""
    return "hidden states" if reachable(model) else "logits"


def reachable(model: Any) -> bool:
    """Tell whether hidden states and head give the logits of the model itself (tried once, remembered)."""
    if model not in _REACHABLE:
        _REACHABLE[model] = _probe(model)
    return _REACHABLE[model]


def _probe(model: Any) -> bool:
    """Compare both ways under a random head: a zero-initialised one would make any two ways agree."""
    layer = model.get_output_embeddings()
    if layer is None or model.base_model is model:
        return False
    try:
        with probing(model, [layer.weight]):
            return _agree(model)
    except (AttributeError, RuntimeError, TypeError, ValueError):  # an interface of its own: its logits are used
        return False


def _agree(model: Any) -> bool:
    ids = torch.arange(min(8, model.config.get_text_config().vocab_size), device=model.device)[None]
    ours = _head(model)(model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
    theirs = model(input_ids=ids, use_cache=False).logits
    if ours.shape != theirs.shape:
        return False
    # Broken weights are not a hidden head: NaN agrees with NaN.
    return torch.allclose(ours.float(), theirs.float(), rtol=1e-2, atol=1e-2, equal_nan=True)


def _head(model: Any) -> Head:
    layer, config = model.get_output_embeddings(), model.config.get_text_config()
    return Head(layer.weight, layer.bias, getattr(config, "final_logit_softcapping", None), _logit_scale(config))


def _logit_scale(config: Any) -> float:
    """One number for the three spellings in use: Cohere multiplies, Granite divides, Falcon-H1 multiplies."""
    scale = getattr(config, "logit_scale", None) or getattr(config, "lm_head_multiplier", None) or 1.0
    return float(scale) / float(getattr(config, "logits_scaling", None) or 1.0)
