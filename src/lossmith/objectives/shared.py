"""What most objectives need: their own random numbers, padded rows, what a model may see, and what tokens cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossmith.losses import cross_entropy, linear_cross_entropy
from lossmith.models.head import Head
from lossmith.total import Total


def rng_of(example: Mapping[str, Any], seed: int, otherwise: np.random.Generator, *stream: int) -> np.random.Generator:
    """Return the generator of an example: by (seed, its "index", stream) where it has one, else the one given.

    The index counts on through the epochs, so that what is drawn is another choice in every epoch, the same for any
    number of ranks, and again after a resumption.
    """
    return np.random.default_rng((seed, int(example["index"]), *stream)) if "index" in example else otherwise


def padded(rows: Sequence[np.ndarray], fill: int) -> Tensor:
    """Return rows of ids as one int64[B, T], filled up at the right to the longest of them.

    >>> padded([np.array([5, 6]), np.array([7])], 0)
    tensor([[5, 6],
            [7, 0]])
    """
    out = torch.full((len(rows), max(map(len, rows))), fill, dtype=torch.long)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.from_numpy(np.asarray(row, np.int64))
    return out


def text_inputs(rows: Sequence[np.ndarray], pad_id: int) -> dict[str, Tensor]:
    """Return input_ids and attention_mask int64[B, T] of rows of ids."""
    ids = padded(rows, pad_id)
    lengths = torch.tensor([len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long()}


def inputs_of(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what of a batch the model may see."""
    seen = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
    return {key: batch[key] for key in seen if key in batch}


def number_of(labels: Tensor) -> Tensor:
    """Return how many labels are asked (are not −100), float32."""
    return (labels != -100).sum().to(torch.float32)


def token_loss(states: Tensor, head: Head | None, labels: Tensor, **options: Any) -> Total:
    """Return the cross-entropy of labels [...] in nats, from states [..., D] and head, or from logits (head None).

    `options`: class_weights, label_smoothing, z_loss.
    """
    if head is None:
        return cross_entropy(states, labels, **options)
    return linear_cross_entropy(
        states, head.weight, labels, bias=head.bias, softcap=head.softcap, logit_scale=head.logit_scale, **options
    )


def pool(states: Tensor, mask: Tensor, how: str) -> Tensor:
    """Return one vector a text, [B, D] of states [B, T, D]: the mean over its tokens (mask 1), the first, or the last.

    `how`: mean, cls or last. Padding may stand on either side.

    >>> states, mask = torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]])
    >>> [pool(states, mask, how).tolist() for how in ("mean", "cls", "last")]
    [[[2.0]], [[1.0]], [[3.0]]]
    """
    if how == "mean":
        weights = mask[..., None].to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1)
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device) * mask
    place = places.argmax(1) if how == "last" else mask.argmax(1)
    return states[torch.arange(len(states), device=states.device), place]
