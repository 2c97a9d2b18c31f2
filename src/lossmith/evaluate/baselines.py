"""What a loss must be compared with: knowing nothing, counting, and compressing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lossmith.data import TokenStore

Ints = NDArray[np.int64]

MAX_TOKENS = 50_000_000  # counted of each split: enough for two digits of any figure here, and seconds, not minutes
_DENSE = 1 << 21  # up to this many possible pairs a table of all of them is the fastest (measured: 1,448 token types)

_LABELS = {
    "uniform": (
        "ln V: every token equally likely",
        "−ln(1/V), V = {vocab:,}: the tokenizer's tokens, with those that the objective adds",
    ),
    "unigram_entropy": (
        "unigram entropy of the training text",
        "H(x) of the training tokens: what their frequencies cost the very text they were counted on",
    ),
    "bigram_entropy": (
        "bigram entropy of the training text",
        "H(x | token before) of the training tokens, counted on that very text: too low for rare pairs",
    ),
    "unigram": (
        "unigram model, held out",
        "cross-entropy of the validation tokens under training counts, add-one smoothing",
    ),
    "bigram": (
        "bigram model, held out",
        "cross-entropy of the validation tokens under training pair counts, Witten–Bell interpolated with the unigram",
    ),
}
_COMPRESSORS = {"gzip": "gzip -9", "xz": "xz -9", "zstd": "zstd -19"}


@dataclass(frozen=True)
class Baseline:
    """Name a figure to compare a loss with, in nats per token and bits per UTF-8 byte, and its definition."""

    name: str
    label: str
    nats_per_token: float
    bits_per_byte: float
    definition: str


def baselines(store: TokenStore, vocab_size: int | None = None) -> list[dict[str, Any]]:
    """Return what the validation loss must be compared with, each as the fields of a `Baseline`, ready for JSON.

    uniform ln V; unigram and bigram entropy of the training tokens (in-sample); unigram (add-one) and bigram
    (Witten–Bell) models counted on the training tokens and scored on the validation tokens; gzip, xz and zstd on the
    validation text. At most the first 50 million tokens of each split are counted. A figure that cannot be had (a split
    of one token, no compressed sizes) is left out. vocab_size: V, the tokens among which the model predicts, where an
    objective adds some to those of the text; counts are smoothed over as many.

    Source: Witten & Bell 1991, https://doi.org/10.1109/18.87000 (method C).
    """
    vocab = store.tokenizer.vocab_size if vocab_size is None else vocab_size
    train = count_pairs(store.train.tokens, vocab)
    validation = count_pairs(store.validation.tokens, vocab)
    per_token = {
        "train": _bytes_per_token(len(store.train.tokens) - 1, store.train.n_bytes),
        "validation": _bytes_per_token(len(store.validation.tokens) - 1, store.validation.n_bytes),
    }
    found = [_counted(name, nats, per_token[part], vocab) for name, part, nats in _nats(train, validation)]
    sizes = store.meta.get("validation_compressed", {})
    found += [_compressed(name, sizes, per_token["validation"]) for name in _COMPRESSORS if sizes.get("of")]
    return [asdict(entry) for entry in found if math.isfinite(entry.bits_per_byte)]


@dataclass(frozen=True)
class PairCounts:
    """Hold how often each pair of neighbouring tokens occurs: keys = before·vocab + after, sorted, and their counts."""

    vocab: int
    keys: Ints
    counts: Ints

    @cached_property
    def total(self) -> int:
        """Number of pairs: the number of predictions."""
        return int(self.counts.sum())

    @cached_property
    def before(self) -> Ints:
        """How often each token stands first in a pair, int64[vocab]."""
        return np.bincount(self.keys // self.vocab, self.counts, self.vocab).astype(np.int64)

    @cached_property
    def after(self) -> Ints:
        """How often each token is predicted, int64[vocab]."""
        return np.bincount(self.keys % self.vocab, self.counts, self.vocab).astype(np.int64)

    @cached_property
    def followers(self) -> Ints:
        """How many different tokens follow each token, int64[vocab]."""
        return np.bincount(self.keys // self.vocab, minlength=self.vocab)

    def unigram_entropy(self) -> float:
        """H(x) in nats of the predicted tokens."""
        return math.log(self.total) - _sum_c_ln_c(self.after) / self.total

    def bigram_entropy(self) -> float:
        """H(x | token before) in nats of the predicted tokens."""
        return (_sum_c_ln_c(self.before) - _sum_c_ln_c(self.counts)) / self.total

    def add_one(self) -> NDArray[np.float64]:
        """Unigram probabilities with add-one smoothing, float64[vocab]: (c + 1) / (N + V)."""
        return (self.after + 1) / (self.total + self.vocab)

    def witten_bell(self, keys: Ints) -> NDArray[np.float64]:
        """p(a | b) of the pairs `keys`: (c(b, a) + T(b)·p(a)) / (c(b) + T(b)), T(b) the kinds of followers of b."""
        before, after = keys // self.vocab, keys % self.vocab
        kinds, fallback = self.followers[before], self.add_one()[after]
        weight = self.before[before] + kinds
        mixed = (self._lookup(keys) + kinds * fallback) / np.maximum(weight, 1)
        return np.where(weight > 0, mixed, fallback)

    def _lookup(self, keys: Ints) -> Ints:
        if not len(self.keys):
            return np.zeros(len(keys), np.int64)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.counts[at], 0)


def count_pairs(tokens: NDArray[Any], vocab: int, *, chunk: int = 1 << 20) -> PairCounts:
    """Count the pairs of neighbouring tokens, at most the first `MAX_TOKENS`, `chunk` pairs in memory at a time.

    >>> table = count_pairs(np.array([0, 1, 0, 1, 1]), 2)
    >>> table.keys.tolist(), table.counts.tolist()
    ([1, 2, 3], [2, 1, 1])
    """
    chunks = _pair_chunks(tokens[:MAX_TOKENS], vocab, chunk)
    keys, counts = _count_dense(chunks, vocab) if vocab * vocab <= _DENSE else _count_sparse(chunks)
    return PairCounts(vocab, keys, counts)


def _pair_chunks(tokens: NDArray[Any], vocab: int, size: int) -> Iterator[Ints]:
    for start in range(0, len(tokens) - 1, size):
        part = tokens[start : start + size + 1].astype(np.int64)
        yield part[:-1] * vocab + part[1:]


def _count_dense(chunks: Iterator[Ints], vocab: int) -> tuple[Ints, Ints]:
    table = np.zeros(vocab * vocab, np.int64)
    for chunk in chunks:
        table += np.bincount(chunk, minlength=vocab * vocab)
    keys = np.flatnonzero(table)
    return keys, table[keys]


def _count_sparse(chunks: Iterator[Ints]) -> tuple[Ints, Ints]:
    keys, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for chunk in chunks:
        new, n = np.unique(chunk, return_counts=True)
        keys, at = np.unique(np.concatenate([keys, new]), return_inverse=True)
        counts = np.bincount(at, np.concatenate([counts, n])).astype(np.int64)
    return keys, counts


def _nats(train: PairCounts, validation: PairCounts) -> Iterator[tuple[str, str, float]]:
    """Yield (name, part whose bytes it is about, nats per token)."""
    yield "uniform", "validation", math.log(train.vocab)
    if train.total:
        yield "unigram_entropy", "train", train.unigram_entropy()
        yield "bigram_entropy", "train", train.bigram_entropy()
    if train.total and validation.total:
        yield "unigram", "validation", -_mean(np.log(train.add_one()), validation.after)
        yield "bigram", "validation", -_mean(np.log(train.witten_bell(validation.keys)), validation.counts)


def _counted(name: str, nats: float, bytes_per_token: float, vocab: int) -> Baseline:
    label, definition = _LABELS[name]
    return Baseline(name, label, nats, nats / math.log(2) / bytes_per_token, definition.format(vocab=vocab))


def _compressed(name: str, sizes: dict[str, int], bytes_per_token: float) -> Baseline:
    bits = 8 * sizes[name] / sizes["of"]
    definition = f"size of the first {sizes['of']:,} bytes of the validation text, compressed alone, ×8 / bytes"
    return Baseline(name, _COMPRESSORS[name], bits * bytes_per_token * math.log(2), bits, definition)


def _bytes_per_token(predictions: int, n_bytes: int) -> float:
    return n_bytes / predictions if predictions > 0 and n_bytes > 0 else math.nan


def _sum_c_ln_c(counts: Ints) -> float:
    counts = counts[counts > 0]
    return float(np.dot(counts, np.log(counts)))


def _mean(values: NDArray[np.float64], counts: Ints) -> float:
    return float(np.dot(values, counts) / counts.sum())
