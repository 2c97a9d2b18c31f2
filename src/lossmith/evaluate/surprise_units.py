"""Which characters each token stands for: a character made of several tokens is one unit, whatever the script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lossmith.data import Tokenizer

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Units:
    """Hold a text cut into the smallest pieces that tokens do not share, all of its characters in one piece each.

    ids int64[n] are the tokens; `bounds` int64[u + 1] are offsets of characters, unit i is text[bounds[i]:bounds[i+1]];
    `first` int64[u + 1] are offsets of tokens, unit i is made of ids[first[i]:first[i+1]].
    """

    ids: Ints
    bounds: Ints
    first: Ints

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of a value per token over the tokens of each unit, float64[u]; NaN counts nothing."""
        total = np.append(0.0, np.cumsum(np.nan_to_num(values)))
        result: NDArray[np.float64] = total[self.first[1:]] - total[self.first[:-1]]
        return result

    def __len__(self) -> int:
        return len(self.bounds) - 1


def units(tokenizer: Tokenizer, text: str) -> Units:
    """Encode a text and say which characters belong to which tokens.

    Text that a tokenizer leaves out (BERT's spaces) belongs to the unit after it.

    >>> from lossmith.data import Tokenizer
    >>> found = units(Tokenizer.byte(), "né")  # é is two bytes, and two tokens
    >>> found.bounds.tolist(), found.first.tolist()
    ([0, 1, 2], [0, 1, 3])
    """
    ids, starts, stops = _spans(tokenizer, text)
    if not len(ids):
        return Units(ids, np.zeros(1, np.int64), np.zeros(1, np.int64))
    reach = np.maximum.accumulate(stops)
    cut = np.flatnonzero(starts[1:] >= reach[:-1])
    # of several cuts at one place only the first is one: a token without text belongs to what comes after it
    at, where = np.unique(reach[cut], return_index=True)
    inside = (at > 0) & (at < len(text))
    first = np.concatenate([[0], cut[where[inside]] + 1, [len(ids)]])
    return Units(ids, np.concatenate([[0], at[inside], [len(text)]]), first)


def _spans(tokenizer: Tokenizer, text: str) -> tuple[Ints, Ints, Ints]:
    """Ids, first character and character after the last of every token."""
    if tokenizer.kind == "hf":
        encoding = tokenizer.backend.encode(text, add_special_tokens=False)
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        return np.array(encoding.ids, np.int64), offsets[:, 0], offsets[:, 1]
    ids = tokenizer.encode(text).astype(np.int64)
    stops = np.cumsum(token_bytes(tokenizer)[ids])
    ends = np.cumsum(_utf8_lengths(text))  # byte after each character
    starts = np.append(0, stops)[:-1]
    return ids, np.searchsorted(ends, starts, "right"), np.searchsorted(ends, stops, "left") + 1


def token_bytes(tokenizer: Any) -> Ints:
    """Return the bytes of UTF-8 of every token of a vocabulary of our own, int64[V]."""
    return np.array([tokenizer.n_bytes([token]) for token in range(tokenizer.vocab_size)], np.int64)


def _utf8_lengths(text: str) -> Ints:
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return 1 + (points > 0x7F).astype(np.int64) + (points > 0x7FF) + (points > 0xFFFF)
