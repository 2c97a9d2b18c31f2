"""Output layers: a plain linear one, or one that PEFT has wrapped, as a matrix and what it is multiplied with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lossmith.integrations._rules import Recipe


def output_layer(model: Any) -> Any:
    """Return the layer that makes the logits, or None; of PEFT's modules_to_save the copy that is trained."""
    layer = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if not hasattr(layer, "modules_to_save"):
        return layer
    active = layer.active_adapters
    return layer.modules_to_save[active[0]] if active else layer.original_module


def recipe_of(layer: Any, hidden: Tensor) -> Recipe | None:
    """Return the recipe of layer(hidden), or None where the layer is something else than a product."""
    base = getattr(layer, "base_layer", layer)
    plain = isinstance(base, nn.Linear) and type(base).forward is nn.Linear.forward
    wrapped = base is not layer and "forward" in base.__dict__  # of `layer` itself, that is our own
    if not plain or wrapped or type(base.weight) not in (Tensor, nn.Parameter) or not hidden.is_floating_point():
        return None
    parts = (hidden, base.weight, base.bias) if base is layer else _with_lora(layer, hidden, base.weight, base.bias)
    return None if parts is None else _recipe(*parts)


def _recipe(hidden: Tensor, head: Tensor, bias: Tensor | None) -> Recipe | None:
    device = hidden.device.type
    on = torch.is_autocast_enabled(device) and hidden.dtype != torch.float64
    autocast = torch.get_autocast_dtype(device) if on else None
    if autocast is None and hidden.dtype != head.dtype:
        return None
    return Recipe(hidden, head, bias, autocast or hidden.dtype, autocast)


def _with_lora(
    layer: Any, hidden: Tensor, head: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Return ``[h, s·A·h]`` and ``[W, B]``, whose product is ``h·Wᵀ + s·(A·h)·Bᵀ``; None for other adapters than LoRA.

    Source: https://arxiv.org/abs/2106.09685 (LoRA, 4.1)
    """
    if not hasattr(layer, "lora_A"):
        return None
    if layer.disable_adapters or layer.merged:
        return None if layer.disable_adapters and layer.merged else (hidden, head, bias)
    hiddens, heads = [hidden], [head]
    for name in layer.active_adapters:
        if name in getattr(layer, "lora_variant", {}):
            return None
        if name not in layer.lora_A:
            continue
        down, up = layer.lora_A[name], layer.lora_B[name]
        low = down(layer.lora_dropout[name](hidden.to(down.weight.dtype))) * layer.scaling[name]
        hiddens.append(low.to(hidden.dtype))
        heads.append(up.weight.to(head.dtype))
        if up.bias is not None:
            extra = layer.scaling[name] * up.bias
            bias = extra if bias is None else bias + extra
    return torch.cat(hiddens, -1), torch.cat(heads, 1), bias
