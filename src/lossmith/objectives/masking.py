"""What is hidden from a masked language model: tokens, whole words or spans, and what stands in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lossmith.objectives.words import word_ids

Ints = npt.NDArray[np.int64]
UNITS = ("token", "word", "span")


@dataclass(frozen=True)
class Masking:
    """Choose `rate` of the tokens that may be hidden, by `unit`, and hide 80 % behind [MASK], 10 % behind other tokens.

    token: tokens independently of each other. word: whole words (`word_ids`), in random order, until the rate is met.
    span: runs of whole words, of geometric length (p = 0.2, at most 10 words, mean 3.8), until the rate is met.
    Exactly round(rate·n) tokens are chosen of n (at least 1), but for words and spans that would go beyond: one that
    does is left out where the rate is nearer without it. 80/10/10 is drawn for each token; for a span as a whole.
    `hidden`: the ids that are never hidden (special tokens), nor drawn as a random token.
    Source: https://arxiv.org/abs/1810.04805 (BERT, 3.1), https://arxiv.org/abs/1907.10529 (SpanBERT, 3.1).

    >>> masking = Masking(vocab_size=10, mask_id=9, special=frozenset({8, 9}), rate=0.5)
    >>> seen, labels = masking(np.array([8, 1, 2, 3, 4]), np.random.default_rng(0))
    >>> seen.tolist(), labels.tolist()
    ([8, 9, 2, 9, 4], [-100, 1, -100, 3, -100])
    """

    vocab_size: int
    mask_id: int
    special: frozenset[int]
    rate: float = 0.15
    unit: str = "token"
    pieces: Sequence[bytes] = ()
    mask_share: float = 0.8
    random_share: float = 0.1
    ordinary: Ints = field(init=False, repr=False)
    may: npt.NDArray[np.bool_] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        may = np.ones(self.vocab_size, bool)
        may[sorted(self.special)] = False
        object.__setattr__(self, "may", may)
        object.__setattr__(self, "ordinary", np.flatnonzero(may))

    def __call__(self, tokens: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Return what the model sees and the labels (−100 where nothing is asked), both int64[T]."""
        places = np.flatnonzero(self.may[tokens])
        seen, labels = tokens.copy(), np.full(len(tokens), -100, np.int64)
        if not len(places):
            return seen, labels
        groups = self._choose(tokens, places, rng)
        chosen = np.concatenate(groups)
        labels[chosen] = tokens[chosen]
        sizes = [len(group) for group in groups] if self.unit == "span" else np.ones(len(chosen), np.int64)
        draw = np.repeat(rng.random(len(sizes)), sizes)
        seen[chosen[draw < self.mask_share]] = self.mask_id
        random = chosen[(draw >= self.mask_share) & (draw < self.mask_share + self.random_share)]
        seen[random] = self.ordinary[rng.integers(0, len(self.ordinary), len(random))]
        return seen, labels

    def _choose(self, tokens: Ints, places: Ints, rng: np.random.Generator) -> list[Ints]:
        """Return the chosen places, in groups that are hidden together."""
        wanted = max(1, round(self.rate * len(places)))
        if self.unit == "token":
            return [rng.permutation(places)[:wanted]]
        words = word_ids(tokens, self.pieces)[places]
        groups = np.split(places, np.flatnonzero(np.diff(words)) + 1)
        order = [[index] for index in rng.permutation(len(groups)).tolist()]
        if self.unit == "span":
            order = self._spans(len(groups), rng)
        return _until(groups, order, wanted)

    def _spans(self, n: int, rng: np.random.Generator) -> list[list[int]]:
        """Return n spans of words that begin anywhere, with geometric lengths cut at 10 (drawn anew beyond)."""
        odds = 0.2 * 0.8 ** np.arange(10)
        lengths = rng.choice(10, size=n, p=odds / odds.sum()) + 1
        return [list(range(at, min(at + size, n))) for at, size in zip(rng.permutation(n), lengths, strict=True)]


def _until(groups: list[Ints], order: list[list[int]], wanted: int) -> list[Ints]:
    """Take spans of groups in order until `wanted` places are chosen; the last is left out where that is nearer."""
    taken = np.zeros(len(groups), bool)
    chosen: list[Ints] = []
    count = 0
    for span in order:
        fresh = [index for index in span if not taken[index]]
        if not fresh:
            continue
        places = np.concatenate([groups[index] for index in fresh])
        over = count + len(places) - wanted
        if chosen and over > 0 and over > wanted - count:
            continue
        taken[fresh] = True
        chosen.append(places)
        count += len(places)
        if count >= wanted:
            break
    return chosen
