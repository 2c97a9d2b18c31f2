"""What a preset would cost on this machine: parameters counted, memory and time estimated from a measured GEMM rate."""

from __future__ import annotations

import time
from typing import Any

import torch

from lossmith.models.presets import Preset, presets_for
from lossmith.precision import fast_bf16

ASSUMPTIONS = (
    "memory: weights, gradients and two AdamW moments in float32 (16 bytes a parameter), 4-byte activations of one "
    "forward pass (34 × width + 2 × heads × context values a token and layer, a block at a time in the loss). "
    "time: 6 × parameters + 12 × layers × width × context FLOPs a token at half the rate of matrix products "
    "measured here just now"
)


def estimates(
    architecture: str = "causal", *, vocab_size: int | None = None, batch_size: int | None = None
) -> list[dict[str, Any]]:
    """Return for every preset of an architecture parameters, memory_bytes, seconds_per_1000_steps, … as a dict.

    Source of the formulas: https://arxiv.org/abs/2205.05198 (activations), https://arxiv.org/abs/2001.08361 (FLOPs).
    """
    rate = gemm_rate()
    given = (architecture, vocab_size, batch_size, rate)
    return [_estimate(name, preset, *given) for name, preset in presets_for(architecture).items()]


def gemm_rate(size: int = 2048, repeats: int = 5) -> float:
    """Measure matrix products in the precision that training takes here: FLOPs a second (best of `repeats`)."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16 if fast_bf16(device) else torch.float32)
    best = float("inf")
    for _ in range(repeats + 1):  # the first one warms up, and is never the best
        start = time.perf_counter()
        (a @ a)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _estimate(
    name: str, preset: Preset, architecture: str, vocab_size: int | None, batch_size: int | None, rate: float
) -> dict[str, Any]:
    from lossmith.models.build import preset_config

    vocab_size = vocab_size or preset.vocab_size
    config = preset_config(preset, vocab_size, preset.block_size, None)
    batch = batch_size or preset.options.get("per_device_train_batch_size", 8)
    tokens, parameters = batch * preset.block_size, count_parameters(config, architecture)
    layers = config.num_hidden_layers * (2 if config.is_encoder_decoder else 1)
    flops = 6 * parameters + 12 * layers * config.hidden_size * preset.block_size
    per_layer = 34 * config.hidden_size + 2 * config.num_attention_heads * preset.block_size
    return {
        "name": name,
        "description": preset.description,
        "parameters": parameters,
        "memory_bytes": 16 * parameters + 4 * tokens * layers * per_layer,
        "seconds_per_1000_steps": 1000 * tokens * flops / (rate / 2),
        "batch_size": batch,
        "block_size": preset.block_size,
        "vocab_size": vocab_size,
        "gemm_flops_per_second": rate,
        "assumptions": ASSUMPTIONS,
    }


def count_parameters(config: Any, architecture: str = "causal") -> int:
    """Return the number of parameters of a configuration, without allocating them."""
    from lossmith.models.build import auto_class

    with torch.device("meta"):
        model = auto_class(config, architecture).from_config(config)
    return sum(p.numel() for p in model.parameters())
