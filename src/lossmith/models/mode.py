"""A model's mode: evaluation for a while, without gradients, and back to what it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
