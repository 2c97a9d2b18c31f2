"""Encoder–decoder models: the decoder's last hidden states and the output head, and what the decoder is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lossmith.errors import InputError
from lossmith.models.head import Head
from lossmith.models.mode import probing


@dataclass(frozen=True, slots=True)
class Seq2SeqOut:
    """What an encoder–decoder says: encoder states [B, T, D], decoder states [B, U, D] and the head.

    Where a model hides its head: its logits [B, U, V] and None.
    """

    encoder: Tensor
    decoder: Tensor
    head: Head | None


_HEADS: WeakKeyDictionary[Any, float | None] = WeakKeyDictionary()


def encode_decode(model: Any, inputs: dict[str, Tensor], labels: Tensor) -> Seq2SeqOut:
    """Run encoder and decoder on input_ids (and attention_mask) and labels int64[B, U] (−100 behind their end).

    The decoder is given the labels moved by one: at place t it has seen the labels before t. Whether its states and the
    head give the model's own logits (T5 scales them by 1/√d where the embeddings are tied, BART adds a bias) is not
    believed but tried, once per model, on a few tokens; where they do not, `decoder` holds the logits.
    """
    mask, given = inputs.get("attention_mask"), moved_by_one(model, labels)
    scale = _scale(model)
    if scale is None:
        out = model(input_ids=inputs["input_ids"], attention_mask=mask, decoder_input_ids=given, use_cache=False)
        return Seq2SeqOut(out.encoder_last_hidden_state, out.logits, None)
    seen, said = _states(model, inputs["input_ids"], mask, given)
    return Seq2SeqOut(seen, said, _head(model, scale))


def moved_by_one(model: Any, labels: Tensor) -> Tensor:
    """Return what a decoder is given: its start token, then the labels but for the last, padding where they end.

    Errors: InputError where the model's configuration names no decoder_start_token_id.
    """
    config = model.config
    start = config.decoder_start_token_id
    if start is None:
        raise InputError(
            f'{type(model).__name__} does not say what its decoder begins with: set "decoder_start_token_id" in its '
            "config.json (T5: the padding token, BART: the end token)"
        )
    padding = start if config.pad_token_id is None else config.pad_token_id
    moved = torch.cat([labels.new_full((len(labels), 1), start), labels[:, :-1]], 1)
    return moved.masked_fill(moved == -100, padding)


def seq2seq_path(model: Any) -> str:
    """Say which way the loss takes: "decoder states" (logits never stored) or "logits" (the model hides its head)."""
    return "logits" if _scale(model) is None else "decoder states"


def bodies(model: Any) -> list[Any]:
    """Return the modules that hidden states come from: encoder and decoder, or the model's one body."""
    if getattr(model.config, "is_encoder_decoder", False):
        return [model.get_encoder(), model.get_decoder()]
    return [model.base_model]


def _states(model: Any, ids: Tensor, mask: Tensor | None, given: Tensor) -> tuple[Tensor, Tensor]:
    encoder, decoder = bodies(model)
    seen = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    said = decoder(input_ids=given, encoder_hidden_states=seen, encoder_attention_mask=mask, use_cache=False)
    return seen, said.last_hidden_state


def _head(model: Any, scale: float) -> Head:
    layer, bias = model.get_output_embeddings(), getattr(model, "final_logits_bias", None)
    biases = [each for each in (layer.bias, None if bias is None else bias[0]) if each is not None]
    return Head(layer.weight, sum(biases[1:], biases[0]) if biases else None, None, scale)


def _scale(model: Any) -> float | None:
    """Return the factor under which states and head give the model's logits; None where no known one does."""
    if model not in _HEADS:
        _HEADS[model] = _probe(model)
    return _HEADS[model]


def _probe(model: Any) -> float | None:
    """Compare both ways under a random head: a zero-initialised one would make any two ways agree."""
    layer = model.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        return None
    try:
        with probing(model, [layer.weight]):
            return _agreeing(model)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):  # an interface of its own
        return None


def _agreeing(model: Any) -> float | None:
    config = model.config.get_text_config()
    places = getattr(config, "max_position_embeddings", None) or 8
    ids = torch.arange(min(8, config.vocab_size, places), device=model.device)[None]
    theirs = model(input_ids=ids, decoder_input_ids=ids, use_cache=False).logits.float()
    states = _states(model, ids, None, ids)[1]
    for scale in (1.0, states.shape[-1] ** -0.5):
        # the scale belongs to the product and not to the bias, which only models without a scale have
        head = _head(model, scale)
        ours = head(states).float()
        if ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-2, atol=1e-2, equal_nan=True):
            return scale
    return None
