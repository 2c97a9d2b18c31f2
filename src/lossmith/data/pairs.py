"""Pairs of text segments: a segment, and the one that follows it or one from another document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lossmith.data.blocks import Blocks

if TYPE_CHECKING:
    from lossmith.data.store import Split

Example = dict[str, npt.NDArray[Any]]
REACH = 64  # places tried
FAR = 16  # segments between a pair's parts in a text of one document


class Pairs(Blocks):
    """`Blocks` whose examples are cut in two, with a stranger to the second part: see `pair`."""

    def example(self, i: int) -> Example:
        """Return the pair at position i of the sampling order."""
        return pair(self._split, super().example(i), self.start(i), (self._seed, i))


def pair(split: Split, example: Example, start: int, seed: tuple[int, int]) -> Example:
    """Cut a window that begins at `start` in two, and find a stranger to its second part.

    Adds "first", "second" (which follows it) and "random": as long as "second", begun in another document, or where 64
    tries find none at least 16 times its length away. Both parts begin inside a document, where 64 tries find such
    places, and run on as the text does: nothing in a stranger but its subject tells it from what follows.
    The cut is drawn between a quarter and three quarters of the window. All depends on `seed` alone.
    Source: https://arxiv.org/abs/1810.04805 (BERT, 3.1, task 2).
    """
    tokens = example["tokens"]
    n, rng = len(tokens), np.random.default_rng((*seed, 1))
    cuts = np.minimum(rng.integers(max(1, n // 4), max(2, 3 * n // 4 + 1), REACH), n - 1)
    cut = int(cuts[np.argmax(_inside(split, start + cuts))])
    stranger = _stranger(split, start + cut, n - cut, rng)
    return example | {"first": tokens[:cut], "second": tokens[cut:], "random": stranger}


def _stranger(split: Split, seam: int, size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    places = rng.integers(0, max(1, len(split.tokens) - size + 1), REACH)
    inside, far = _inside(split, places), np.abs(places - seam)
    other = documents_at(split, places) != documents_at(split, np.array([seam]))
    # better than the farthest of all, which comes from the ends of the text: a model gets to know them
    for fits in (inside & other, inside & (far >= FAR * size), far == far.max()):
        if fits.any():
            break
    place = int(places[np.argmax(fits)])
    return np.asarray(split.tokens[place : place + size]).astype(np.int64)


def _inside(split: Split, places: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell of each place whether the token before it is of the same document."""
    same: npt.NDArray[np.bool_] = documents_at(split, places - 1) == documents_at(split, places)
    return same & (places > 0)


def documents_at(split: Split, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the document that each place in a split's tokens belongs to."""
    return np.searchsorted(split.bounds, places, side="right") - 1
