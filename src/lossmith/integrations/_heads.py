"""Output layers: a plain linear one, or one that PEFT has wrapped, as a matrix and what it is multiplied with."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.integrations._rules import Recipe, version

LORA = ("peft.tuners.lora.layer", "Linear")


def output_layers(model: Any) -> list[nn.Module]:
    """Return the layer that makes the logits, or none; of PEFT's modules_to_save the original and its copies."""
    layer = model.get_output_embeddings()
    if layer is None:
        return []
    return [layer.original_module, *layer.modules_to_save.values()] if hasattr(layer, "modules_to_save") else [layer]


def recipe_of(layer: Any, hidden: Tensor) -> Recipe | None:
    """Return the recipe of layer(hidden), or None where the layer is something else than a product."""
    lora = (type(layer).__module__, type(layer).__name__) == LORA
    base = layer.base_layer if lora else layer
    wrapped = lora and overridden(base, base.__dict__.get("forward"))  # of `layer` itself, ours is
    linear = isinstance(base, nn.Linear) and type(base).forward is nn.Linear.forward
    if not linear or wrapped or type(base.weight) not in (Tensor, nn.Parameter) or not hidden.is_floating_point():
        return None
    parts = _with_lora(layer, hidden, base.weight, base.bias) if lora else (hidden, base.weight, base.bias)
    return None if parts is None else _recipe(*parts)


def overridden(module: nn.Module, forward: Any) -> bool:
    """Tell whether `forward`, found in an instance (None: nothing there), is another than its class's."""
    return forward is not None and forward != MethodType(type(module).forward, module)


def _recipe(hidden: Tensor, head: Tensor, bias: Tensor | None) -> Recipe | None:
    device = hidden.device.type
    on = torch.is_autocast_enabled(device) and hidden.dtype != torch.float64
    autocast = torch.get_autocast_dtype(device) if on else None
    if autocast is None and hidden.dtype != head.dtype:
        return None
    read = tuple((x, version(x)) for x in (hidden, head, bias) if x is not None)
    return Recipe(hidden, head, bias, autocast or hidden.dtype, autocast, read)


def _with_lora(
    layer: Any, hidden: Tensor, head: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Return ``[h, s·A·h]`` and ``[W, B]``, whose product is ``h·Wᵀ + s·(A·h)·Bᵀ``; None for variants of LoRA.

    Source: https://arxiv.org/abs/2106.09685 (LoRA, 4.1)
    """
    if layer.disable_adapters or layer.merged:
        return None if layer.disable_adapters and layer.merged else (hidden, head, bias)
    hiddens, heads = [hidden], [head]
    for name in (name for name in layer.active_adapters if name in layer.lora_A):
        if name in getattr(layer, "lora_variant", {}):
            return None
        down, up = layer.lora_A[name], layer.lora_B[name]
        low = down(layer.lora_dropout[name](hidden.to(down.weight.dtype))) * layer.scaling[name]
        hiddens.append(low.to(hidden.dtype))
        heads.append(up.weight.to(head.dtype))
        if up.bias is not None:
            extra = layer.scaling[name] * up.bias
            bias = extra if bias is None else bias + extra
    return (torch.cat(hiddens, -1), torch.cat(heads, 1), bias) if len(heads) > 1 else (hidden, head, bias)
