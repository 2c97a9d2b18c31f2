"""The generator of replaced token detection: a smaller masked language model with the discriminator's embeddings."""

from __future__ import annotations

import copy
from typing import Any

from lossmith.errors import InputError
from lossmith.models.build import instantiate


def build_generator(discriminator: Any, size: float, seed: int = 0) -> Any:
    """Return a new masked language model of a discriminator's kind, `size` of it, with the discriminator's own tables.

    Tokens, positions and types are the same nn.Embedding modules in both, and the output layer has the token table's
    weight: trained by both, held once. What is smaller: see generator_config.
    Errors: InputError for a kind of model whose tables are not found.
    Source: https://arxiv.org/abs/2003.10555 (3.2, weight sharing and smaller generators).
    """
    import torch

    torch.manual_seed(seed)
    generator = instantiate(generator_config(discriminator.config, size), "masked")
    shared = tables(discriminator)
    for name, table in shared.items():
        setattr(generator.base_model.embeddings, name, table)
    head = generator.get_output_embeddings()
    if discriminator.get_input_embeddings() not in shared.values() or head is None:
        raise InputError(
            f"--objective replaced_token shares embeddings with its generator; those of {type(discriminator).__name__} "
            "were not found: take a preset, or a model of kind electra, bert, modernbert, deberta-v2 or roberta"
        )
    head.weight = discriminator.get_input_embeddings().weight
    return generator


def tables(model: Any) -> dict[str, Any]:
    """Return the embedding tables of a model by their names: tokens, positions, types."""
    from torch import nn

    named = getattr(model.base_model, "embeddings", nn.Module()).named_children()
    return {name: module for name, module in named if isinstance(module, nn.Embedding)}


def generator_config(config: Any, size: float) -> Any:
    """Return the configuration of a generator with `size` of a discriminator.

    Where embeddings have a width of their own (ELECTRA's `embedding_size`), the width: as many layers, heads of the
    same width where that goes, MLP and initial spread in proportion. Elsewhere tables can only be shared at the same
    width: fewer layers, as in DeBERTaV3 (https://arxiv.org/abs/2111.09543, half of them).

    >>> from transformers import BertConfig, ElectraConfig
    >>> small = generator_config(ElectraConfig(hidden_size=256, num_attention_heads=4, intermediate_size=1024), 0.25)
    >>> small.hidden_size, small.num_attention_heads, small.intermediate_size, small.embedding_size
    (64, 1, 256, 128)
    >>> generator_config(BertConfig(num_hidden_layers=12), 0.25).num_hidden_layers
    3
    """
    made = copy.deepcopy(config)
    made.architectures = None
    if not hasattr(config, "embedding_size"):
        made.num_hidden_layers = max(1, round(config.num_hidden_layers * size))
        if getattr(config, "layer_types", None):
            made.layer_types = list(config.layer_types)[: made.num_hidden_layers]
        return made
    heads = max(1, round(config.num_attention_heads * size))
    made.hidden_size = heads * max(1, round(config.hidden_size * size / heads))
    made.num_attention_heads = heads
    made.intermediate_size = max(1, round(config.intermediate_size * size))
    made.initializer_range = config.initializer_range * (config.hidden_size / made.hidden_size) ** 0.5
    return made
