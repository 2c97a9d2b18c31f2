"""What a model's bits per byte are worth: counts and compressors on the same text, also given what it was trained on,
and the model's own size counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.data import Tokenizer
from lossmith.data.encoding import safe_cut
from lossmith.evaluate.adaptive_counts import bigram_nats, unigram_nats
from lossmith.evaluate.baselines import count_pairs
from lossmith.evaluate.compress_rivals import Progress, available, rivals
from lossmith.evaluate.training_text import Known

COMPRESS_AT_MOST = 16 * 2**20
SLOW = ("xz", "brotli")  # not run where there is more than this to read before, which would take minutes …
SLOW_AT_MOST = 8 * 2**20  # … and PPMd is ahead of them anyway
_PAIRS = 1 << 22  # tokens whose pairs are counted on the way: 32 bytes each in memory


@dataclass(frozen=True)
class Rate:
    """Hold what one way to code a text comes to in bits per byte; `given`: after having read the training text."""

    name: str
    label: str
    bits_per_byte: float
    given: bool = False


@dataclass(frozen=True)
class Worth:
    """Hold what a model is worth on a text beside its rivals, and with its own size counted.

    compressed: bytes of the text that the rivals had; given: bytes they could read first, of `given_of`, from
    `given_from`. with_model: bits per byte where the model (model_bytes on disk) is sent too. `pays_after`: bytes of
    such text from which on model and code are smaller than the best rival that was given nothing; None: never.
    """

    bits_per_byte: float
    text_bytes: int
    compressed: int
    model_bytes: int
    given: int
    given_of: int
    given_from: str | None
    rival: str
    rival_bits_per_byte: float
    rival_given: str | None
    rival_given_bits_per_byte: float | None

    @property
    def with_model(self) -> float:
        """Bits per byte of this text with the model's bytes counted."""
        return self.bits_per_byte + 8 * self.model_bytes / self.text_bytes

    @property
    def pays_after(self) -> int | None:
        """Bytes of text at which 8·model_bytes / bytes is what the model saves against the best rival."""
        saved = self.rival_bits_per_byte - self.bits_per_byte
        return math.ceil(8 * self.model_bytes / saved) if saved > 0 else None

    def to_json(self) -> dict[str, Any]:
        """Return all fields, and what follows from them."""
        return {**asdict(self), "bits_per_byte_with_model": self.with_model, "pays_after": self.pays_after}


def rates(tokenizer: Tokenizer, data: bytes, known: Known | None, progress: Progress | None = None) -> list[Rate]:
    """Return what counting and compressing make of a text, alone and given what a model was trained on.

    Alone, counts are learned on the way; given a text, they are its counts (add-one; Witten–Bell), which the evaluated
    text does not change. Tokens are the model's. See `rivals` for the compressors.
    """
    tokens = encoded(tokenizer, data)
    few = tokens[:_PAIRS]
    size = len(data) if len(few) == len(tokens) else tokenizer.n_bytes(few)
    vocab = tokenizer.vocab_size
    found = [Rate("bigram", "bigram counts, learned on the way", _bits(bigram_nats(few, vocab), size))]
    parts = 1 + (known is not None)
    found += _compressed(data, b"", _part(progress, 0, parts))
    if known is not None:
        found += _counted(tokens, encoded(tokenizer, known.data), vocab, len(data))
        found += _compressed(data, known.data, _part(progress, 1, parts))
    return found


def unigram_rate(counts: NDArray[Any], n_bytes: float) -> Rate:
    """Return what the token counts of a text, learned on the way, come to."""
    return Rate("unigram", "unigram counts, learned on the way", _bits(unigram_nats(counts), n_bytes))


def encoded(tokenizer: Tokenizer, data: bytes) -> NDArray[np.uint32]:
    """Return the tokens of a text, encoded in pieces of a megabyte."""
    text, parts = data.decode(), []
    while text:
        piece = text[: 1 << 20]
        piece = piece if len(piece) == len(text) else piece[: safe_cut(piece)]
        parts.append(tokenizer.encode(piece))
        text = text[len(piece) :]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint32)


def best(found: list[Rate], *, given: bool) -> Rate | None:
    """Return the rate that needs the fewest bits."""
    return min((rate for rate in found if rate.given == given), key=lambda rate: rate.bits_per_byte, default=None)


def _counted(tokens: NDArray[Any], known: NDArray[Any], vocab: int, n_bytes: int) -> Iterator[Rate]:
    """Unigram and bigram models of the known text, on the tokens of the other."""
    table, own = count_pairs(known, vocab), count_pairs(tokens, vocab)
    log_p = np.log(table.add_one())
    first = -float(log_p[tokens[:1]].sum())
    single = first - float(np.dot(log_p, own.after))
    double = first - float(np.dot(np.log(table.witten_bell(own.keys)), own.counts))
    yield Rate("unigram_given", "unigram counts of the training text", _bits(single, n_bytes), True)
    yield Rate("bigram_given", "bigram counts of the training text", _bits(double, n_bytes), True)


def _compressed(data: bytes, known: bytes, progress: Progress | None) -> Iterator[Rate]:
    left_out = SLOW if len(known) > SLOW_AT_MOST else ()
    chosen = [rival for rival in available() if rival.name not in left_out]
    sizes = rivals(data, known, progress, chosen)
    tail, note = ("_given", ", given the training text") if known else ("", "")
    for rival in chosen:
        yield Rate(rival.name + tail, rival.label + note, 8 * sizes[rival.label] / len(data), bool(known))


def _bits(nats: float, n_bytes: float) -> float:
    return nats / math.log(2) / n_bytes if n_bytes else math.nan


def _part(progress: Progress | None, done: int, parts: int) -> Progress | None:
    """Report one of several passes as a part of the whole."""
    if progress is None:
        return None
    return lambda here, total: progress(done * total + here, parts * total)
