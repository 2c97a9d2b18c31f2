"""Pairs of text segments: a segment, and the one that follows it or one from another document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lossmith.data.blocks import Blocks

if TYPE_CHECKING:
    from lossmith.data.store import Split

Example = dict[str, npt.NDArray[Any]]
REACH = 64  # places tried for a segment of another document, before one far away in the same text is taken


class Pairs(Blocks):
    """`Blocks` whose examples are cut in two, with a stranger to the second part: see `pair`."""

    def example(self, i: int) -> Example:
        """Return the pair at position i of the sampling order."""
        return pair(self._split, super().example(i), self.start(i), (self._seed, i))


def pair(split: Split, example: Example, start: int, seed: tuple[int, int]) -> Example:
    """Cut a window that begins at `start` in two, and find a stranger to its second part.

    Adds "first", "second" (which follows it) and "random": as long as "second", out of one other document, where one of
    64 places drawn from the split falls into one; else, in a text of one document, out of the farthest of these places.
    The cut is drawn between a quarter and three quarters of the window. All depends on `seed` alone.
    Source: https://arxiv.org/abs/1810.04805 (BERT, 3.1, task 2).
    """
    tokens = example["tokens"]
    rng = np.random.default_rng((*seed, 1))
    cut = int(rng.integers(max(1, len(tokens) // 4), max(2, 3 * len(tokens) // 4 + 1)))
    cut = min(cut, len(tokens) - 1)
    stranger = _stranger(split, start, len(tokens) - cut, rng)
    return example | {"first": tokens[:cut], "second": tokens[cut:], "random": stranger}


def _stranger(split: Split, start: int, size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    places = rng.integers(0, max(1, len(split.tokens) - size + 1), REACH)
    own = documents_at(split, np.array([start]))[0]
    firsts, lasts = (documents_at(split, places + shift) for shift in (0, size - 1))
    other = np.flatnonzero((firsts == lasts) & (firsts != own))
    place = int(places[other[0]] if len(other) else places[np.argmax(np.abs(places - start))])
    return np.asarray(split.tokens[place : place + size]).astype(np.int64)


def documents_at(split: Split, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the document that each place in a split's tokens belongs to."""
    return np.searchsorted(split.bounds, places, side="right") - 1
