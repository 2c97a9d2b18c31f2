"""Rolling log-likelihood: every token of a text scored once, in windows of the model's context, in flat memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lossmith.errors import NAN_LOGITS, NonFiniteError

if TYPE_CHECKING:
    from torch import Tensor

Ints = NDArray[np.int64]
_SORTED = 32  # batches of windows sorted by length together, so that little is padded


@dataclass(frozen=True)
class Window:
    """Hold consecutive tokens of a document, of which the last `predicted` are scored, the others seen only."""

    document: int
    tokens: Ints
    predicted: int


def rolling_windows(
    pieces: Iterable[NDArray[Any]], prefix: int | None, length: int, stride: int, document: int = 0
) -> Iterator[Window]:
    """Yield windows of at most `length` inputs over the tokens of a document, which come in pieces of any size.

    The first window follows `prefix` (None: the first token itself is not scored). Each later one scores `stride` more
    tokens, or what is left, and sees as much before them as fits. With stride = length these are the windows of
    lm-evaluation-harness's loglikelihood_rolling; a smaller stride gives more context and costs more.
    Source: EleutherAI/lm-evaluation-harness, lm_eval/utils.py, get_rolling_token_windows.

    >>> [(w.tokens.tolist(), w.predicted) for w in rolling_windows([np.arange(1, 6)], 0, 2, 2)]
    [([0, 1, 2], 2), ([2, 3, 4], 2), ([3, 4, 5], 1)]
    """
    held = np.array([] if prefix is None else [prefix], np.int64)
    done, want = 1, length
    for piece in chain(pieces, [None]):
        if piece is not None:
            held = np.concatenate([held, piece.astype(np.int64)])
        while len(held) > done and (piece is None or len(held) - done >= want):
            end = min(done + want, len(held))
            yield Window(document, held[max(0, end - 1 - length) : end], end - done)
            kept = max(0, end - length - 1)
            held, done, want = held[kept:], end - kept, stride


class WordCounter:
    """Count words as len(re.split("\\\\s+", text)) would, of a text that comes in pieces.

    >>> counter = WordCounter()
    >>> for piece in ("to be ", " or not"): counter.add(piece)
    >>> counter.words
    4
    """

    def __init__(self) -> None:
        self.words = 1
        self._in_space = False

    def add(self, text: str) -> None:
        """Count the runs of white space in the next piece."""
        if text:
            self.words += len(re.findall(r"\s+", text)) - (self._in_space and text[0].isspace())
            self._in_space = text[-1].isspace()


def score_windows(model: Any, windows: Iterable[Window], batch_size: int) -> Iterator[tuple[Window, float]]:
    """Yield each window with Σ −ln p of what it predicts, in nats, in any order; the model's mode is restored.

    Windows of like length go together, padded on the right, where a causal model never looks. The logits of a batch
    are not stored (where the model lets its head be reached), those of a text never.
    """
    from lossmith.models.mode import evaluating

    stream = iter(windows)
    while held := list(islice(stream, _SORTED * batch_size)):
        held.sort(key=lambda window: -len(window.tokens))
        for start in range(0, len(held), batch_size):
            batch = held[start : start + batch_size]
            with evaluating(model):
                nats = _nats(model, batch)
            if np.isnan(nats).any():
                raise NonFiniteError(NAN_LOGITS)
            yield from zip(batch, nats, strict=True)


def _nats(model: Any, batch: list[Window]) -> list[float]:
    inputs, labels = (part.to(model.device) for part in _padded(batch))
    nats: list[float] = (-log_probs(model, inputs, labels)).double().sum(1).tolist()
    return nats


def _padded(batch: list[Window]) -> tuple[Tensor, Tensor]:
    import torch

    longest = max(len(window.tokens) for window in batch) - 1
    inputs = torch.zeros(len(batch), longest, dtype=torch.int64)
    labels = torch.full((len(batch), longest), -100)
    for row, window in enumerate(batch):
        tokens = torch.from_numpy(np.ascontiguousarray(window.tokens))
        inputs[row, : len(tokens) - 1] = tokens[:-1]
        labels[row, len(tokens) - 1 - window.predicted : len(tokens) - 1] = tokens[-window.predicted :]
    return inputs, labels


def log_probs(model: Any, inputs: Tensor, labels: Tensor) -> Tensor:
    """Return ln p of each label after the inputs up to its place, [B, T]; 0 where the label is −100."""
    from lossmith.losses import token_log_probs
    from lossmith.models.head import hidden_and_head

    states, head = hidden_and_head(model, {"input_ids": inputs})
    if head is not None:
        return token_log_probs(
            states, head.weight, labels, bias=head.bias, softcap=head.softcap, logit_scale=head.logit_scale
        )
    log_p = states.float().log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return log_p.masked_fill(labels == -100, 0.0)
