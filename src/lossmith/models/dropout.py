"""Dropout of a finished model: set it, and tell whether it does anything."""

from __future__ import annotations

from typing import Any

from lossmith.models.mode import evaluating

_NOT_OF_THE_BODY = ("classifier", "layerdrop", "summary", "head", "drop_path")


def set_dropout(model: Any, rate: float) -> None:
    """Give every dropout of a model's layers this rate, in its modules and in its config, and so in what is saved.

    Names with "dropout" or "pdrop" and a number for a value are rates; those of heads and of whole layers stay.

    >>> from transformers import BertConfig, BertModel
    >>> model = BertModel(BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1))
    >>> set_dropout(model, 0.25)
    >>> model.config.hidden_dropout_prob, model.embeddings.dropout.p, model.encoder.layer[0].attention.self.dropout.p
    (0.25, 0.25, 0.25)
    """
    from torch import nn

    for holder in (model.config, *model.modules()):
        for name in [name for name, value in vars(holder).items() if _is_rate(name, value)]:
            setattr(holder, name, rate)
        if isinstance(holder, nn.Dropout):
            holder.p = rate


def _is_rate(name: str, value: Any) -> bool:
    named = ("dropout" in name or "pdrop" in name) and not any(part in name for part in _NOT_OF_THE_BODY)
    return named and isinstance(value, int | float) and not isinstance(value, bool)


def drops(model: Any) -> bool:
    """Tell whether a model in training mode says two things of one text: tried, on 128 tokens."""
    import torch

    ids = torch.zeros(64, 2, dtype=torch.long, device=model.device)
    devices = [model.device] if model.device.type == "cuda" else []
    with evaluating(model), torch.random.fork_rng(devices):
        torch.manual_seed(0)
        model.train()
        one, two = (model.base_model(input_ids=ids).last_hidden_state for _ in range(2))
    return not torch.equal(one, two)
