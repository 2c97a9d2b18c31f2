"""Score every token of a long text once, in overlapping windows, by a causal or a masked model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses import token_statistics
from lossmith.models.head import Head, hidden_and_head
from lossmith.models.mode import evaluating
from lossmith.objectives.scoring import alike

Ints = NDArray[np.int64]
Progress = Callable[[int, int], None]
_TOKENS = 8192  # in one forward pass: full speed on a CPU, small in memory beside a model
_LOGITS = 1 << 24  # held at once where logits are needed for the first guesses


@dataclass(frozen=True)
class Window:
    """Hold a window of a sequence: the model reads [start, stop), and what follows each from `scored` on is scored."""

    start: int
    stop: int
    scored: int


def windows(length: int, context: int, stride: int) -> Iterator[Window]:
    """Yield the windows in which the tokens 1 … length − 1 of a sequence are each predicted once.

    A window holds at most `context` tokens and begins `stride` after the one before it, so that all but the first
    `context` tokens are predicted from context − stride + 1 tokens at least; stride 1 gives every token all there is.

    >>> list(windows(8, 4, 2))  # the last predicts only token 7: what follows token 6
    [Window(start=0, stop=4, scored=0), Window(start=2, stop=6, scored=4), Window(start=4, stop=7, scored=6)]
    """
    start, done = 0, 0
    while done < length - 1:
        stop = min(start + context, length - 1)
        yield Window(start, stop, done)
        start, done = start + stride, stop


class Rows:
    """Collect what is known of each token: nats, entropy (float64[n]), rank and position (int64[n]), first guesses."""

    def __init__(self, length: int, top: int) -> None:
        self.nats, self.entropy = np.full(length, np.nan), np.full(length, np.nan)
        self.rank, self.position = np.full(length, -1, np.int64), np.zeros(length, np.int64)
        self.top_ids = np.full((length, top), -1, np.int64)
        self.top_nats = np.full((length, top), np.inf)

    def score(self, at: Ints, hidden: Tensor, head: Head | None, targets: Tensor) -> None:
        """Fill the rows `at` from hidden states [R, D] and a head, or from logits [R, V] where there is none."""
        top = self.top_ids.shape[1]
        if head is not None and not top:
            found = token_statistics(
                hidden, head.weight, targets, bias=head.bias, softcap=head.softcap, logit_scale=head.logit_scale
            )
            self._keep(at, -found.log_probs, found.entropy, found.rank)
            return
        rows = max(1, _LOGITS // (hidden.shape[-1] if head is None else len(head.weight)))
        for i in range(0, len(at), rows):
            part = slice(i, i + rows)
            z = hidden[part] if head is None else head(hidden[part])
            self._from_logits(at[part], z.to(torch.promote_types(z.dtype, torch.float32)), targets[part])

    def _from_logits(self, at: Ints, z: Tensor, targets: Tensor) -> None:
        log_p = z.log_softmax(-1)
        wanted = log_p.gather(1, targets[:, None])
        rank = (log_p > wanted).sum(1)
        self._keep(at, -wanted[:, 0], torch.special.entr(log_p.exp()).sum(1), rank)
        if top := self.top_ids.shape[1]:
            values, ids = log_p.topk(min(top, log_p.shape[-1]))
            self.top_ids[at, : ids.shape[1]] = ids.cpu().numpy()
            self.top_nats[at, : ids.shape[1]] = -values.double().cpu().numpy()

    def _keep(self, at: Ints, nats: Tensor, entropy: Tensor, rank: Tensor) -> None:
        self.nats[at] = nats.double().cpu().numpy()
        self.entropy[at] = entropy.double().cpu().numpy()
        self.rank[at] = rank.cpu().numpy()


def score_causal(
    model: Any, sequence: Ints, *, context: int, stride: int, top: int = 0, progress: Progress | None = None
) -> Rows:
    """Return what a causal model thinks of every token of a sequence, given those before it; of the first, nothing."""
    rows = Rows(len(sequence), top)
    device = next(model.parameters()).device
    with evaluating(model):
        found = windows(len(sequence), context, stride)
        for batch in alike(found, max(1, _TOKENS // context), lambda window: window.stop - window.start):
            ids = np.stack([sequence[w.start : w.stop] for w in batch])
            hidden, head = hidden_and_head(model, {"input_ids": torch.from_numpy(ids).to(device)})
            at = np.concatenate([np.arange(w.scored, w.stop) for w in batch]) + 1
            picked = torch.cat([row[w.scored - w.start :] for row, w in zip(hidden, batch, strict=True)])
            rows.position[at] = np.concatenate([np.arange(w.scored, w.stop) - w.start for w in batch]) + 1
            rows.score(at, picked, head, torch.from_numpy(sequence[at]).to(device))
            if progress:
                progress(batch[-1].stop, len(sequence) - 1)
    return rows


def score_masked(
    model: Any, ids: Ints, mark: tuple[list[int], int, list[int]], *, context: int, top: int, progress: Progress | None
) -> Rows:
    """Return what a masked model thinks of every token when it alone is hidden; `mark`: tokens before, mask, after.

    One row of a forward pass for each token. A token is scored in the window in whose middle it lies.
    Formula: −ln p(xᵢ | x without i). Source: Salazar et al. 2020, https://arxiv.org/abs/1910.14659.
    """
    before, mask, after = mark
    rows, device = Rows(len(ids), top), next(model.parameters()).device
    width = min(context - len(before) - len(after), len(ids))
    with evaluating(model):
        for chunk in np.array_split(np.arange(len(ids)), -(-len(ids) * context // _TOKENS) or 1):
            if not len(chunk):
                continue
            start = np.clip(chunk - width // 2, 0, len(ids) - width)
            seen = ids[start[:, None] + np.arange(width)]
            place = chunk - start
            seen[np.arange(len(chunk)), place] = mask
            full = np.hstack([np.tile(before, (len(chunk), 1)), seen, np.tile(after, (len(chunk), 1))]).astype(np.int64)
            logits = model(input_ids=torch.from_numpy(full).to(device)).logits
            picked = logits[torch.arange(len(chunk)), torch.from_numpy(place + len(before))]
            rows.position[chunk] = width - 1
            rows.score(chunk, picked, None, torch.from_numpy(ids[chunk]).to(device))
            if progress:
                progress(int(chunk[-1]) + 1, len(ids))
    return rows


def check_window(context: int, stride: int, limit: int | None) -> None:
    """Raise InputError where a window cannot be."""
    if context < 1 or (limit and context > limit):
        most = f" and at most {limit}, the positions of the model" if limit else ""
        raise InputError(f"--context must be at least 1{most}; got {context}")
    if not 1 <= stride <= context:
        raise InputError(f"--stride must be at least 1 and at most the context, {context}; got {stride}")
