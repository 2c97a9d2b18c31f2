"""The laws of an objective on an encoder–decoder: the encoder sees no label, the decoder none that is still to come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossmith.models.seq2seq import bodies
from lossmith.testing._objective_error import ObjectiveError, unmoved

FRAME = 2  # tokens of a row that may stand in input and labels beside those of the text: the end of both


def paired(model: Any) -> bool:
    """Tell whether a model is an encoder–decoder."""
    return bool(getattr(model.config, "is_encoder_decoder", False))


def check_encoder_leak(
    objective: Any, model: Any, examples: Sequence[dict[str, np.ndarray]], batch: dict[str, Tensor]
) -> None:
    """Raise where tokens of an example stand in input and labels, or where other labels move an encoder state."""
    for row, example in enumerate(examples):
        twice = _twice(example["tokens"].tolist(), batch["input_ids"][row].tolist(), batch["labels"][row].tolist())
        if twice > FRAME:
            raise ObjectiveError("leak", f"row {row}: {twice} tokens stand in the input and in the labels")
    other = batch | {"labels": _others(batch["labels"], 0, model)}
    before, after = (_states(objective, model, each)[0] for each in (batch, other))
    unmoved("leak", "with other labels the encoder's states", before, after)


def check_decoder_future(objective: Any, model: Any, batch: dict[str, Tensor]) -> None:
    """Raise where labels from a place on move a decoder state up to that place, which must predict the first of them.

    What comes before the last label of the shortest row is looked at; the place is in its middle.
    """
    later = max(1, int((batch["labels"] != -100).sum(1).min()) // 2)
    other = batch | {"labels": _others(batch["labels"], later, model)}
    before, after = (_states(objective, model, each)[1][:, : later + 1] for each in (batch, other))
    unmoved("future", f"with other labels from place {later} on, the decoder's states up to it", before, after)


def _twice(text: list[int], seen: list[int], asked: list[int]) -> int:
    """Count the tokens of a text that input and labels together hold more often than the text does."""
    known, held = Counter(text), Counter(seen) + Counter(asked)
    return sum(max(0, held[token] - count) for token, count in known.items())


def _others(labels: Tensor, start: int, model: Any) -> Tensor:
    other = labels.clone()
    other[:, start:] = (other[:, start:] + 1) % model.config.get_text_config().vocab_size
    return torch.where(labels == -100, labels, other)


def _states(objective: Any, model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the last hidden states of encoder and decoder that the objective makes the model compute."""
    objective.terms(model, batch)  # whatever is tried once per model is tried here
    seen: list[list[Tensor]] = [[], []]
    handles = [
        body.register_forward_hook(lambda _, __, output, kept=kept: kept.append(output[0]))
        for body, kept in zip(bodies(model), seen, strict=True)
    ]
    try:
        objective.terms(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return seen[0][-1], seen[1][-1]
