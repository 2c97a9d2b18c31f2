"""Texts as examples: single sentences, or the rows of a table of pairs, each once in every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lossmith.data.blocks import Blocks
from lossmith.errors import DataError

if TYPE_CHECKING:
    from lossmith.data.store import Split

Example = dict[str, npt.NDArray[Any]]
COLUMNS = ("tokens", "positive", "negative")
"""The keys of an example: the text (of a pair: the anchor), what belongs to it, and what must be told apart."""


class Sentences(Blocks):
    """Give the documents of a split in a seeded order that can be entered anywhere, each once in every epoch.

    The store was made with --sentence-split or --pair-columns, so that a document is a sentence, or a cell of a table;
    `split.columns` of them are an example.
    Shapes: an example holds int64[n] for each column, n at most block_size + 1: what is longer is cut there, and
    counted in `longer`.
    Errors: DataError where there are fewer than two examples.
    """

    def __init__(self, split: Split, block_size: int, *, seed: int = 0, document_mask: bool = False) -> None:
        self._split, self._size, self._seed = split, block_size, seed
        self._length = split.n_documents // split.columns
        if self._length < 2:
            raise DataError(
                f"the training part holds {self._length} text(s), and each must be told apart from others: give more "
                "text, or another --sentence-split"
            )
        lengths = np.diff(split.bounds) - split.marked
        self.texts, self.longer = len(lengths), int((lengths > block_size + 1).sum())
        self._order = None

    def example(self, i: int) -> Example:
        """Return the example at position i of the sampling order: i counts on through the epochs, without end."""
        return texts_of(self._split, self.start(i), self._size + 1)

    def start(self, i: int) -> int:
        """Return which example of the split stands at position i of the sampling order."""
        if i < 0:
            raise IndexError(f"expected i >= 0; got {i}")
        epoch, place = divmod(i, self._length)
        return self._permutation(epoch, self._epoch_seed(epoch))(place)


def texts_of(split: Split, row: int, longest: int) -> Example:
    """Return the tokens of the texts of a row, at most `longest` of each, without the mark that opens a document."""
    example = {}
    for name, document in zip(COLUMNS, range(row * split.columns, (row + 1) * split.columns), strict=False):
        start, stop = int(split.bounds[document]) + split.marked, int(split.bounds[document + 1])
        example[name] = np.asarray(split.tokens[start : min(stop, start + longest)]).astype(np.int64)
    return example


def held_out_texts(split: Split, longest: int, limit: int | None) -> Iterator[Example]:
    """Yield the examples of a split in order, until `limit` tokens of text have been given (None: all)."""
    given = 0
    for row in range(split.n_documents // split.columns):
        example = texts_of(split, row, longest)
        yield example
        given += sum(len(tokens) for tokens in example.values())
        if limit is not None and given >= limit:
            return
