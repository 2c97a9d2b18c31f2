"""ELECTRA's generator: a narrower masked language model that shares the discriminator's embedding tables."""

from __future__ import annotations

import copy
from typing import Any

from lossmith.models.build import instantiate

TIED = ("word_embeddings", "position_embeddings", "token_type_embeddings")
"""The tables that generator and discriminator have in common; all have the width `embedding_size`."""


def build_generator(discriminator: Any, size: float, seed: int = 0) -> Any:
    """Return a new ElectraForMaskedLM with `size` of the discriminator's width, and the discriminator's own tables.

    As many layers, heads of the same width where that goes, MLP and initial spread in proportion. Tokens, positions and
    types are the same nn.Embedding modules in both, and the output layer has the token table's weight: trained by both,
    held once. Where the widths differ from `embedding_size`, each has its own projection from the tables.
    Source: https://arxiv.org/abs/2003.10555 (3.2, weight sharing and smaller generators).
    """
    import torch

    torch.manual_seed(seed)
    generator = instantiate(generator_config(discriminator.config, size), "masked")
    for name in TIED:
        setattr(generator.electra.embeddings, name, getattr(discriminator.electra.embeddings, name))
    generator.generator_lm_head.weight = discriminator.electra.embeddings.word_embeddings.weight
    return generator


def generator_config(config: Any, size: float) -> Any:
    """Return the configuration of a generator with `size` of a discriminator's width.

    >>> from transformers import ElectraConfig
    >>> small = generator_config(ElectraConfig(hidden_size=256, num_attention_heads=4, intermediate_size=1024), 0.25)
    >>> small.hidden_size, small.num_attention_heads, small.intermediate_size, small.embedding_size
    (64, 1, 256, 128)
    """
    made, heads = copy.deepcopy(config), max(1, round(config.num_attention_heads * size))
    made.hidden_size = heads * max(1, round(config.hidden_size * size / heads))
    made.num_attention_heads = heads
    made.intermediate_size = max(1, round(config.intermediate_size * size))
    made.initializer_range = config.initializer_range * (config.hidden_size / made.hidden_size) ** 0.5
    made.architectures = None
    return made
