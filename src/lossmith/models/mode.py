"""A model's mode: evaluation for a while, without gradients, or under random tensors; and back to what it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Put a model into evaluation mode, without gradients, and put its mode back.

    Not around a `yield`: whoever takes the values would run without gradients, too.
    """
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


@contextmanager
def probing(model: Any, hidden: Sequence[Tensor], std: float = 1.0) -> Iterator[None]:
    """Evaluate in full precision while some tensors are random: what is zero now would hide what it takes part in.

    `hidden`: parameters that are N(0, std²) meanwhile, and afterwards what they were.
    """
    import torch

    kept = [tensor.detach().clone() for tensor in hidden]
    draw = torch.Generator(model.device).manual_seed(0)
    try:
        with evaluating(model), torch.autocast(model.device.type, enabled=False):
            for tensor in hidden:
                tensor.normal_(std=std, generator=draw)
            yield
    finally:
        with torch.no_grad():
            for tensor, before in zip(hidden, kept, strict=True):
                tensor.copy_(before)
