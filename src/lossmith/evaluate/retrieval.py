"""Embeddings of pairs: does a query find its document, how near are pairs, how evenly are all spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lossmith.errors import DataError
from lossmith.evaluate.bootstrap import Floats, Resampling
from lossmith.evaluate.outcome import Figure, Outcome, Yardstick, mean_outcome

CUTS = (1, 5, 10)
FIGURES = (*(f"recall_at_{k}" for k in CUTS), "mrr", "alignment")
PAIRED = 5000  # texts whose pairs uniformity is taken over: a seeded sample where there are more
_ROWS = 512


def ranks(queries: Floats, documents: Floats, own: Sequence[int]) -> Floats:
    """Return the place, from 0, of document own[i] among all documents by cosine with query i, float64[n].

    Documents that are just as near share their mean place, so that an encoder that says the same of everything finds
    nothing. Memory: 512 rows of the table of cosines at a time.

    >>> ranks(np.eye(2), np.eye(2), [0, 1]).tolist(), ranks(np.ones((1, 1)), np.ones((3, 1)), [0]).tolist()
    ([0.0, 0.0], [1.0])
    """
    found = []
    for start in range(0, len(queries), _ROWS):
        near = queries[start : start + _ROWS] @ documents.T
        mine = near[np.arange(len(near)), np.asarray(own[start : start + _ROWS])][:, None]
        same = np.isclose(near, mine, rtol=0, atol=1e-12)
        found.append(((near > mine) & ~same).sum(1) + (same.sum(1) - 1) / 2)
    return np.concatenate(found)


def uniformity(vectors: Floats, seed: int = 0) -> float:
    """Return ln mean exp(−2‖u − v‖²) over pairs of different rows: 0 where all are one point; less is more even.

    Source: Wang & Isola 2020, https://arxiv.org/abs/2005.10242

    >>> round(uniformity(np.array([[1.0, 0.0], [1.0, 0.0]])), 6), round(uniformity(np.array([[1.0], [-1.0]])), 6)
    (0.0, -8.0)
    """
    if len(vectors) > PAIRED:
        vectors = vectors[np.random.default_rng(seed).choice(len(vectors), PAIRED, replace=False)]
    total, n = 0.0, len(vectors)
    for start in range(0, n, _ROWS):
        total += float(np.exp(-4 * (1 - vectors[start : start + _ROWS] @ vectors.T)).sum())
    return float(np.log((total - n) / (n * (n - 1))))


def distinct(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the different texts in order, and for each text its place among them.

    >>> distinct(["a", "b", "a"])
    (['a', 'b'], [0, 1, 0])
    """
    place: dict[str, int] = {}
    own = [place.setdefault(text, len(place)) for text in texts]
    return list(place), own


def retrieval_units(queries: Floats, documents: Floats, own: Sequence[int]) -> Floats:
    """Return recall at 1, 5, 10, 1/rank and ‖query − document‖² of each query, and ones: float64[n, 6]."""
    place = ranks(queries, documents, own)
    apart = ((queries - documents[np.asarray(own)]) ** 2).sum(1)
    hits = [(place < k).astype(float) for k in CUTS]
    return np.stack([*hits, 1 / (place + 1), apart, np.ones(len(place))], 1)


def retrieval_outcome(
    queries: Floats, documents: Floats, own: Sequence[int], how: Resampling
) -> tuple[Outcome, Floats]:
    """Return the outcome and its units; query i belongs to document own[i], all rows of unit length.

    Errors: DataError for fewer than two different documents.
    """
    n = len(documents)
    if n < 2:
        raise DataError("retrieval needs two different documents or more: with one there is nothing to find")
    units = retrieval_units(queries, documents, own)
    outcome = mean_outcome("retrieval", FIGURES, units, how)
    outcome.figures.append(Figure("uniformity", uniformity(np.concatenate([queries, documents]), how.seed)))
    harmonic = float((1 / np.arange(1, n + 1)).mean())
    chance = {f"recall_at_{k}": min(1.0, k / n) for k in CUTS} | {"mrr": harmonic}
    outcome.yardsticks = [Yardstick("chance", "documents in random order", chance)]
    outcome.counts |= {"documents": n}
    repeated = len(own) - n
    if repeated:
        outcome.notes.append(
            f"{repeated:,} documents occur more than once: each is looked for among {n:,} different ones"
        )
    return outcome, units
