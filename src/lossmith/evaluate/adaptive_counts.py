"""What counting costs a text when the counts are learned on the way: unigrams and bigrams as honest codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def unigram_nats(counts: NDArray[Any]) -> float:
    """Return what tokens cost, in nats, under their own counts so far and add-one smoothing; `counts` by token, int[V].

    Formula: Σₜ −ln((cₜ(xₜ) + 1) / (t + V)), cₜ the counts of the t tokens before: whatever the order, that is
    ln Γ(n + V) − ln Γ(V) − Σᵥ ln Γ(cᵥ + 1). Source: Laplace's rule of succession (1774).

    >>> import math
    >>> math.isclose(unigram_nats(np.array([2, 0])), math.log(2 / 1) + math.log(3 / 2))
    True
    """
    from scipy.special import gammaln  # type: ignore[import-untyped]

    counts = np.asarray(counts, np.float64)
    return float(gammaln(counts.sum() + len(counts)) - gammaln(len(counts)) - gammaln(counts + 1).sum())


def bigram_nats(tokens: NDArray[Any], vocab: int) -> float:
    """Return what tokens [n] cost, in nats, under the pairs counted so far.

    Formula: p(a | b) = (c(b, a) + T(b)·p(a)) / (c(b) + T(b)), c(b) how often b has stood before another token, T(b) the
    kinds that have followed it, p(a) the unigram of `unigram_nats`, which also codes the first token and what follows
    a token for the first time. Source: Witten & Bell 1991, https://doi.org/10.1109/18.87000 (method C).

    >>> round(bigram_nats(np.array([0, 1, 0, 1, 0, 1]), 2), 3)
    3.341
    """
    tokens = np.asarray(tokens, np.int64)
    unigram = (_seen_before(tokens) + 1) / (np.arange(len(tokens)) + vocab)
    before, pairs = tokens[:-1], tokens[:-1] * vocab + tokens[1:]
    times, again = _seen_before(before), _seen_before(pairs)
    kinds = _kinds_before(before, again == 0)
    mixed = (again + kinds * unigram[1:]) / np.maximum(times + kinds, 1)
    p = np.where(times > 0, mixed, unigram[1:])
    return float(-np.log(unigram[:1]).sum() - np.log(p).sum())


def _seen_before(keys: Ints) -> Ints:
    """How often each key has occurred before its place: int64[n]."""
    order, starts, sizes = _grouped(keys)
    out = np.empty(len(keys), np.int64)
    out[order] = np.arange(len(keys)) - np.repeat(starts, sizes)
    return out


def _kinds_before(keys: Ints, fresh: NDArray[np.bool_]) -> Ints:
    """How many fresh places of the same key come before each place: int64[n]."""
    order, starts, sizes = _grouped(keys)
    so_far = np.concatenate([[0], np.cumsum(fresh[order])])[:-1]
    out = np.empty(len(keys), np.int64)
    out[order] = so_far - np.repeat(so_far[starts], sizes)
    return out


def _grouped(keys: Ints) -> tuple[Ints, Ints, Ints]:
    """Places ordered by key and then as they come, where each key's begin in that order, and how many it has."""
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    return order, starts, np.diff(np.append(starts, len(keys)))
