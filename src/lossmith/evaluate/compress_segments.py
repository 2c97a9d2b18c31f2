"""Any bytes as tokens and the bytes between them that no tokenizer brings back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lossmith.errors import InputError

_INVALID = re.compile("([\udc80-\udcff]+)")
_SHORT = 16  # bytes of text between escaped bytes that are escaped with them: a segment costs some bytes itself


@dataclass(frozen=True)
class Segment:
    """Hold a stretch of a file: tokens that decode to its text, then bytes kept as they are."""

    tokens: tuple[int, ...]
    raw: bytes


def segments(data: bytes, tokenizer: Any) -> list[Segment]:
    """Cut bytes into text that the tokenizer restores exactly and bytes that stay bytes.

    >>> from lossmith.data import Tokenizer
    >>> [(len(s.tokens), s.raw) for s in segments(b"A text of twenty bytes\\xff!", Tokenizer.byte())]
    [(22, b'\\xff!')]
    """
    pieces = _INVALID.split(data.decode("utf-8", "surrogateescape"))
    runs: list[tuple[Any, bytes]] = []
    for i, piece in enumerate(pieces):
        runs += [(None, piece.encode("utf-8", "surrogateescape"))] if i % 2 else _restored(piece, tokenizer)
    return _joined(runs)


def restore(found: list[Segment], tokenizer: Any) -> bytes:
    """Return the bytes that the segments stand for."""
    return b"".join(tokenizer.decode(s.tokens).encode("utf-8", "replace") + s.raw for s in found)


def _restored(text: str, tokenizer: Any) -> list[tuple[Any, bytes]]:
    """(tokens or None, bytes) of a text: all of it where its tokens give it back, else of each half of it."""
    if not text:
        return []
    tokens = _tokens(text, tokenizer)
    if tokens is not None or len(text) == 1:
        return [(tokens, text.encode())]
    half = len(text) // 2
    left, right = _restored(text[:half], tokenizer), _restored(text[half:], tokenizer)
    if left[-1][0] is not None and right[0][0] is not None:  # the cut went through text that is good on both sides
        data = left[-1][1] + right[0][1]
        tokens = _tokens(data.decode(), tokenizer)
        if tokens is not None:
            return [*left[:-1], (tokens, data), *right[1:]]
    return left + right


def _tokens(text: str, tokenizer: Any) -> tuple[int, ...] | None:
    try:
        tokens = tuple(tokenizer.encode(text).tolist())
    except InputError:  # a character that the tokenizer does not know
        return None
    return tokens if tokenizer.decode(tokens) == text else None


def _joined(runs: list[tuple[Any, bytes]]) -> list[Segment]:
    """Pair tokens with the raw bytes after them; a short text among raw bytes is raw too."""
    if any(tokens is None for tokens, _ in runs):
        runs = [(None if len(data) < _SHORT else tokens, data) for tokens, data in runs]
    found: list[Segment] = []
    for tokens, data in runs:
        if tokens is not None:
            found.append(Segment(tokens, b""))
        elif found:
            found[-1] = Segment(found[-1].tokens, found[-1].raw + data)
        else:
            found.append(Segment((), data))
    return found
