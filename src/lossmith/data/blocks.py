"""Windows of tokens: in a seeded order for training, in the order of the text for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lossmith.data.order import Permutation, mix
from lossmith.errors import DataError, InputError

if TYPE_CHECKING:
    from lossmith.data.store import Split

Example = dict[str, npt.NDArray[Any]]


class Blocks:
    """Cut a split into disjoint windows of `block_size` predictions, in a seeded order that can be entered anywhere.

    One epoch covers the split once, from an offset in [0, block_size) of its own, so that the cuts fall elsewhere in
    every epoch; what an offset leaves over (less than two blocks) is not seen in that epoch.
    Shapes: an example holds "tokens" int64[block_size + 1], and with `document_mask` "documents"
    int32[block_size + 1], the index of the document that each token belongs to.
    Errors: DataError when the split holds no block; InputError for block_size < 1.
    """

    def __init__(self, split: Split, block_size: int, *, seed: int = 0, document_mask: bool = False) -> None:
        if block_size < 1:
            raise InputError(f"--block-size must be at least 1; got {block_size}")
        self._split, self._size, self._seed, self._mask = split, block_size, seed, document_mask
        tokens = len(split.tokens)
        if tokens < block_size + 1:
            raise DataError(
                f"the text is too short: a block of {block_size} predictions needs {block_size + 1} tokens, and the "
                f"training part has {tokens}. Give more text, or --block-size {max(tokens - 1, 1)} at most"
            )
        self._length = blocks_in(tokens, block_size)
        self._offsets = min(block_size, tokens - self._length * block_size)
        self._order: tuple[int, Permutation] | None = None

    def __len__(self) -> int:
        return self._length

    def example(self, i: int) -> Example:
        """Return the block at position i of the sampling order: i counts on through the epochs, without end."""
        return window(self._split, self.start(i), self._size, self._mask)

    def start(self, i: int) -> int:
        """Return where in the split the block at position i of the sampling order begins."""
        if i < 0:
            raise IndexError(f"expected i >= 0; got {i}")
        epoch, place = divmod(i, self._length)
        seed = self._epoch_seed(epoch)
        return seed % self._offsets + self._permutation(epoch, seed)(place) * self._size

    def epoch(self, i: int) -> float:
        """Return how many epochs have passed before position i."""
        return i / self._length

    def _epoch_seed(self, epoch: int) -> int:
        return mix(mix(self._seed & (2**64 - 1)) ^ epoch)

    def _permutation(self, epoch: int, seed: int) -> Permutation:
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, Permutation(self._length, seed))
        return self._order[1]


def blocks_in(tokens: int, block_size: int) -> int:
    """Return how many blocks of `block_size` predictions an epoch has.

    >>> blocks_in(1000, 128)
    6
    """
    return max(1, (tokens - block_size) // block_size)


def window(split: Split, start: int, size: int, document_mask: bool) -> Example:
    """Return tokens start … start + size (inclusive: `size` predictions) of a split, with their documents if asked."""
    stop = start + size + 1
    example: Example = {"tokens": np.asarray(split.tokens[start:stop]).astype(np.int64)}
    if document_mask:
        example["documents"] = _documents(split.bounds, start, stop)
    return example


def _documents(bounds: npt.NDArray[np.int64], start: int, stop: int) -> npt.NDArray[np.int32]:
    # side="right" skips documents of no token, which a tokenizer without a start token can produce
    first = int(np.searchsorted(bounds, start, side="right")) - 1
    last = int(np.searchsorted(bounds, stop - 1, side="right")) - 1
    edges = np.clip(bounds[first : last + 2], start, stop)
    return np.repeat(np.arange(first, last + 1, dtype=np.int32), np.diff(edges))


def windows(
    split: Split, block_size: int, *, limit: int | None = None, document_mask: bool = False
) -> Iterator[Example]:
    """Yield disjoint windows in order, so that each of the first `limit` predictions (or all) comes exactly once.

    Shapes: as `Blocks.example`; the last window may be shorter.
    Errors: InputError for block_size or limit < 1.
    """
    if block_size < 1 or (limit is not None and limit < 1):
        raise InputError(f"expected block_size and limit of at least 1; got {block_size} and {limit}")
    predictions = max(len(split.tokens) - 1, 0)
    predictions = predictions if limit is None else min(limit, predictions)
    for start in range(0, predictions, block_size):
        yield window(split, start, min(block_size, predictions - start), document_mask)
