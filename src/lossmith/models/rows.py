"""Run a model's output head on chosen rows only: a masked language model needs logits for one token in seven."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lossmith.models.head import Head, additive_mask
from lossmith.models.mode import probing


@dataclass(frozen=True, slots=True)
class RowsOut:
    """What a model says at M chosen tokens: states [M, D] and the head, or logits [M, V] and None; and its output.

    `first`: the body's state of each row's first token [B, D].
    """

    states: Tensor
    head: Head | None
    output: Any
    """The model's own output object, in which only the chosen rows stand (`seq_relationship_logits` and others)."""
    first: Tensor


class _Given(nn.Module):
    """Stand in for a model's body: return an output that is known already."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, *args: Any, **options: Any) -> Any:
        return self.output


_LINEAR: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def head_on_rows(model: Any, inputs: dict[str, Tensor], rows: Tensor) -> RowsOut:
    """Run the body on all tokens and the head (its transform included) on the tokens `rows`, flat places in [B·T].

    The body's output is handed to the model's own forward with only these rows in it. Its last layer is left out too,
    and returned as `head`, where that gives the model's own logits: tried once per model, on a few tokens.
    """
    body = model.base_model(**additive_mask(model, inputs))
    if model not in _LINEAR:
        _LINEAR[model] = _probe(model)
    chosen = copy.copy(body)
    hidden = body.last_hidden_state
    chosen["last_hidden_state"] = hidden.reshape(1, -1, hidden.shape[-1])[:, rows]
    layer = model.get_output_embeddings() if _LINEAR[model] else None
    output = _head_alone(model, chosen, layer)
    states = _logits(output)[0]
    head = None if layer is None else Head(layer.weight, layer.bias, None, 1.0)
    return RowsOut(states, head, output, hidden[:, 0])


def rows_path(model: Any) -> str:
    """Say which way a masked loss takes: "masked hidden states", or "masked logits" where the model hides its head."""
    if model not in _LINEAR:
        _LINEAR[model] = _probe(model)
    return "masked hidden states" if _LINEAR[model] else "masked logits"


def _logits(output: Any) -> Tensor:
    logits: Tensor = output["logits"] if "logits" in output else output["prediction_logits"]
    return logits


def _head_alone(model: Any, body_output: Any, without: nn.Linear | None) -> Any:
    """Return the model's output for a body output that is given; `without`: a last layer that passes its input on."""
    with _replaced(model, body_output, without):
        return model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device))


@contextmanager
def _replaced(model: Any, body_output: Any, without: nn.Linear | None) -> Iterator[None]:
    name = model.base_model_prefix
    body = model._modules[name]
    model._modules[name] = _Given(body_output)
    if without is not None:
        without.forward = _same  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        model._modules[name] = body
        if without is not None:
            del without.forward


def _same(hidden: Tensor) -> Tensor:
    return hidden


def _probe(model: Any) -> bool:
    """Compare with the model's own logits on a few tokens, under a random bias: one of zeros would hide itself."""
    layer = model.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        return False
    with probing(model, [] if layer.bias is None else [layer.bias]):
        return _agree(model, layer)


def _agree(model: Any, layer: nn.Linear) -> bool:
    ids = torch.arange(min(8, model.config.get_text_config().vocab_size), device=model.device)[None]
    body = model.base_model(input_ids=ids)
    states = _logits(_head_alone(model, body, layer))
    ours, theirs = nn.functional.linear(states, layer.weight, layer.bias), _logits(model(input_ids=ids))
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3, equal_nan=True)
