"""What bits per byte are worth: beside counts and compressors, given the training text too, with the model sent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lossmith.data import Tokenizer
from lossmith.data.encoding import safe_cut
from lossmith.evaluate.adaptive_counts import bigram_nats, unigram_nats
from lossmith.evaluate.baselines import count_pairs
from lossmith.evaluate.compress_rivals import Progress, available, rivals
from lossmith.evaluate.outcome import Outcome, Worth, Yardstick
from lossmith.evaluate.training_text import Known
from lossmith.models.folder import model_bytes

if TYPE_CHECKING:
    from lossmith.evaluate.opening import CausalModel

COMPRESS_AT_MOST = 16 * 2**20
SLOW = ("xz", "brotli")  # not run where there is more than this to read before, which would take minutes …
SLOW_AT_MOST = 8 * 2**20  # … and PPMd is ahead of them anyway
_PAIRS = 1 << 20  # tokens whose pairs are counted on the way: three seconds, and 60 MB


@dataclass(frozen=True)
class Rate:
    """Hold what one way to code a text comes to in bits per byte; `given`: after having read the training text."""

    name: str
    label: str
    bits_per_byte: float
    given: bool = False

    def figures(self, bytes_per_token: float) -> dict[str, float]:
        """Return the rate as figures of an evaluation: nats per token of the model, and bits per byte."""
        return {"loss": self.bits_per_byte * math.log(2) * bytes_per_token, "bits_per_byte": self.bits_per_byte}


def add_worth(outcome: Outcome, given: CausalModel, data: bytes, known: Known | None, progress: Any = None) -> None:
    """Add to the outcome of a causal model what counts and compressors make of the beginning of the text, `data`.

    `known`: the training text, which they may also read first. Notes say how much of each was taken.
    """
    counts = outcome.counts
    found = rates(given.tokenizer, data, known, progress)
    outcome.yardsticks += [
        Yardstick(rate.name, rate.label, rate.figures(counts["bytes"] / counts["tokens"])) for rate in found
    ]
    alone, told = best(found, given=False), best(found, given=True)
    assert alone is not None, "a text always has its pairs counted"
    outcome.worth = Worth(
        outcome["bits_per_byte"],
        counts["bytes"],
        len(data),
        model_bytes(Path(given.name)),
        alone.name,
        alone.bits_per_byte,
    )
    if known is not None and told is not None:
        outcome.worth = replace(
            outcome.worth,
            given=len(known.data),
            given_of=known.total,
            given_from=known.source,
            rival_given=told.name,
            rival_given_bits_per_byte=told.bits_per_byte,
        )
    outcome.notes += _notes(data, known, counts["bytes"])


def _notes(data: bytes, known: Known | None, n_bytes: int) -> Iterator[str]:
    if len(data) < n_bytes:
        yield f"compressors had the first {_mib(len(data))} of the {_mib(n_bytes)} of text, the model all of it"
    if known is None:
        return
    if len(known.data) < known.total:
        yield f"given: the last {_mib(len(known.data))} of {known.source} ({_mib(known.total)})"
    if len(known.data) > SLOW_AT_MOST:
        slow = " and ".join(SLOW)
        yield f"{slow} were given nothing: above {_mib(SLOW_AT_MOST)} they take minutes, and PPMd is ahead of them"
    if data[:4096] in known.data:
        yield "the text given to compressors contains the text evaluated: what they make of it then is copying"


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


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
