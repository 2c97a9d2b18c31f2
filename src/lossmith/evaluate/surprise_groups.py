"""Sums of surprisal by line, paragraph and passage; where a model pays: by position, by frequency, by its own doubt."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.errors import InputError
from lossmith.evaluate.surprisal import Surprisal

Floats = NDArray[np.float64]
_ENDS = {
    "line": re.compile(r"\n"),
    "paragraph": re.compile(r"\n[ \t\r]*\n\s*"),
    # some 60 to 120 characters, to the end of a word or a clause: most scripts have either
    "passage": re.compile(r"[\s\S]{60,119}?(?:\s|(?<=[。！？，；]))|[\s\S]{120}"),
}


@dataclass(frozen=True)
class Passage:
    """Hold a stretch of a text, text[start:stop], and what it cost: nats over so many tokens and bytes."""

    start: int
    stop: int
    text: str
    nats: float
    tokens: int

    @property
    def bits(self) -> float:
        """−log₂ p of the passage, given what stands before it."""
        return self.nats / math.log(2)

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of UTF-8."""
        return self.bits / len(self.text.encode())

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON carries them."""
        return {
            "start": self.start,
            "stop": self.stop,
            "text": self.text,
            "bits": self.bits,
            "bits_per_byte": self.bits_per_byte,
            "tokens": self.tokens,
        }


def passages(found: Surprisal, kind: str) -> list[Passage]:
    """Return the sums by "line", "paragraph" or "passage" (60 to 120 characters); they add up to the whole.

    A unit that spans an end counts where it begins.
    """
    ends = [match.end() for match in _ENDS[kind].finditer(found.text)]
    edges = np.array(sorted({0, *ends, len(found.text)}), np.int64)
    first = np.searchsorted(found.units.bounds[:-1], edges)  # first unit that begins at or after each edge
    nats = np.append(0.0, np.cumsum(found.units.sums(found.nats)))
    tokens = found.units.first
    return [
        Passage(int(a), int(b), found.text[a:b], float(nats[j] - nats[i]), int(tokens[j] - tokens[i]))
        for a, b, i, j in zip(edges[:-1], edges[1:], first[:-1], first[1:], strict=True)
    ]


def extremes(found: Surprisal, count: int = 5) -> tuple[list[Passage], list[Passage]]:
    """Return the most and the least expected passages, by bits per byte."""
    whole = [p for p in passages(found, "passage") if len(p.text.strip()) >= 20]
    ordered = sorted(whole, key=lambda p: p.bits_per_byte)
    count = min(count, len(ordered) // 2)
    return ordered[:count], ordered[::-1][:count]


@dataclass(frozen=True)
class Means:
    """Hold means of surprisal over classes of tokens: x (the classes' mean), y (nats), n (tokens)."""

    x: Floats
    y: Floats
    n: NDArray[np.int64]


def by_position(found: Surprisal) -> Means:
    """Return mean surprisal by the number of tokens of context that were seen, in classes 2^(1/2) wide."""
    return _means(found, found.position.astype(np.float64), np.floor(2 * np.log2(np.maximum(found.position, 1))))


def by_frequency(found: Surprisal) -> Means:
    """Return mean surprisal by how often the token comes in the text itself, in classes of powers of two."""
    _, index, counts = np.unique(found.ids, return_inverse=True, return_counts=True)
    often = counts[index].astype(np.float64) if len(index) else np.zeros(0)
    return _means(found, often, np.floor(np.log2(np.maximum(often, 1))))


def by_entropy(found: Surprisal) -> Means:
    """Return mean surprisal by entropy, in classes of a quarter nat: equal for a model that knows what it knows.

    E[−ln p(x)] = H where x is drawn from p. Source: Braverman et al. 2020, https://arxiv.org/abs/1906.05664.
    """
    return _means(found, found.entropy, np.floor(4 * np.nan_to_num(found.entropy)))


def _means(found: Surprisal, value: Floats, classes: Floats) -> Means:
    good = np.isfinite(found.nats)
    if not good.any():
        return Means(np.zeros(0), np.zeros(0), np.zeros(0, np.int64))
    _, index, n = np.unique(classes[good], return_inverse=True, return_counts=True)
    x, y = (np.bincount(index, values[good]) / n for values in (value, found.nats))
    return Means(x, y, n.astype(np.int64))


@dataclass(frozen=True)
class Piece:
    """Hold text between two places where both models' tokens end, and what it cost each, in nats."""

    text: str
    ours: float
    theirs: float


def side_by_side(ours: Surprisal, theirs: Surprisal) -> list[Piece]:
    """Return the pieces in which two models, of any tokenizers, can be compared; InputError for different texts."""
    if ours.text != theirs.text:
        raise InputError("two models are compared on the same text; these are two")
    edges = np.intersect1d(ours.units.bounds, theirs.units.bounds)
    a, b = _between(ours, edges), _between(theirs, edges)
    return [
        Piece(ours.text[i:j], x, y) for i, j, x, y in zip(edges[:-1], edges[1:], a.tolist(), b.tolist(), strict=True)
    ]


def _between(found: Surprisal, edges: NDArray[np.int64]) -> Floats:
    total = np.append(0.0, np.cumsum(found.units.sums(found.nats)))
    at = np.searchsorted(found.units.bounds, edges)
    result: Floats = total[at[1:]] - total[at[:-1]]
    return result


def token_rows(found: Surprisal) -> Iterator[dict[str, Any]]:
    """Yield what is known of each unit, as JSON carries it: its characters, tokens, bits, entropy, rank, guesses."""
    bits, entropy = found.units.sums(found.bits), found.units.sums(found.entropy) / math.log(2)
    for i in range(len(found.units)):
        first, last = int(found.units.first[i]), int(found.units.first[i + 1])
        row = {
            "start": int(found.units.bounds[i]),
            "stop": int(found.units.bounds[i + 1]),
            "text": found.unit_text(i),
            "ids": found.ids[first:last].tolist(),
            "bits": None if np.isnan(found.nats[first:last]).all() else float(bits[i]),
            "entropy_bits": float(entropy[i]),
            "ranks": found.rank[first:last].tolist(),
        }
        if found.top_ids.shape[1]:
            row["guesses"] = [guesses(found, token) for token in range(first, last)]
        yield row


def guesses(found: Surprisal, token: int) -> list[dict[str, Any]]:
    """Return the model's first guesses at a place: text and probability."""
    return [
        {"text": found.tokenizer.token_text(int(guess)), "probability": math.exp(-float(nats))}
        for guess, nats in zip(found.top_ids[token], found.top_nats[token], strict=True)
        if guess >= 0
    ]
