"""Model shapes by name, Llama-style; sizes are those without the embeddings' share of an unusual vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A model shape: a Hugging Face model type, its configuration, and the options that suit it.

    `zero_init` starts the projections back into the residual stream at zero, so that every block begins as identity.
    """

    model_type: str
    config: dict[str, Any]
    description: str
    block_size: int
    zero_init: bool = True
    options: dict[str, Any] = field(default_factory=dict)


def _llama(layers: int, width: int, heads: int, kv_heads: int, mlp: int, *, tied: bool) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": mlp,
        "tie_word_embeddings": tied,
    }


PRESETS: dict[str, Preset] = {
    "nano": Preset("llama", _llama(4, 128, 4, 4, 352, tied=False), "two CPU cores, minutes", 256),
    "10m": Preset("llama", _llama(6, 384, 6, 6, 1024, tied=False), "a laptop, an hour", 512),
    "125m": Preset("llama", _llama(12, 768, 12, 12, 2048, tied=True), "one GPU, a day (the size of GPT-2)", 1024),
    "350m": Preset("llama", _llama(24, 1024, 16, 16, 2816, tied=True), "one big GPU, days", 1024),
    "1b": Preset("llama", _llama(22, 2048, 32, 8, 5632, tied=False), "several big GPUs, weeks", 2048),
}
