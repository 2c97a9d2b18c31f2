"""Which tokens belong to one word, for any tokenizer and script: decided by the text, not by how tokens are spelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import regex  # type: ignore[import-untyped]  # \p{M}, which re does not know

Ints = npt.NDArray[np.int64]

# Scripts that write no spaces, where each character is a word: Han; Hiragana, Katakana, Thai, Lao, Myanmar, Khmer.
_UNSPACED = (
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u3041-\u30ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
_FIRST = rf"[\p{{L}}\p{{N}}--[{_UNSPACED}]]"
_NEXT = rf"[\p{{L}}\p{{N}}\p{{M}}\u200c\u200d--[{_UNSPACED}]]"  # vowel signs, accents, joiners of letters
_WORD = regex.compile(rf"(?V1)[{_UNSPACED}]\p{{M}}*|{_FIRST}{_NEXT}*(?:['’]{_FIRST}{_NEXT}*)*")


def word_ids(tokens: npt.NDArray[np.integer], pieces: Sequence[bytes]) -> Ints:
    """Return the number of the word that each token belongs to, int64[T], not decreasing.

    A word is a run of letters and digits with their marks (an apostrophe may stand inside), one character of a script
    without spaces, or one token of anything else. Two neighbouring tokens share a word where their boundary falls
    inside one, or inside the bytes of a character. `pieces[i]`: the UTF-8 bytes of token i, spaces included (special
    tokens: none).

    >>> pieces = [b"The", b" tok", b"en", b"is", b"er", b".", "我".encode()[:1], "我".encode()[1:], "们".encode()]
    >>> word_ids(np.arange(9), pieces).tolist()
    [0, 1, 1, 1, 1, 2, 3, 3, 4]
    """
    parts = [pieces[token] for token in tokens.tolist()]
    ends = np.cumsum([len(part) for part in parts])
    joined = np.zeros(int(ends[-1]) + 1 if len(ends) else 1, bool)  # True: a cut here would be inside a word
    text = b"".join(parts).decode("utf-8", "replace")
    # A broken character (cut by the window) becomes one U+FFFD, whose bytes are counted from the source.
    lengths = _byte_lengths(text, b"".join(parts))
    at = np.concatenate([[0], np.cumsum(lengths)])
    inside = np.ones(len(joined), bool)
    inside[at] = False
    joined |= inside
    for match in _WORD.finditer(text):
        joined[at[match.start()] + 1 : at[match.end()]] = True
    empty = np.array([not part for part in parts], bool)
    starts = ~joined[np.concatenate([[0], ends[:-1]])] if len(ends) else np.zeros(0, bool)
    starts |= empty
    starts[1:] |= empty[:-1]  # a special token ends the word before it
    return np.cumsum(starts) - 1 if len(starts) else np.zeros(0, np.int64)


def _byte_lengths(text: str, data: bytes) -> npt.NDArray[np.int64]:
    """Return how many bytes of `data` each character of its decoded `text` took."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    lengths = 1 + (points > 0x7F).astype(np.int64) + (points > 0x7FF) + (points > 0xFFFF)
    if int(lengths.sum()) == len(data):
        return lengths
    broken, at = [], 0
    for character, length in zip(text, lengths.tolist(), strict=True):
        if character == "\ufffd" and data[at : at + 3] != b"\xef\xbf\xbd":
            length = _broken_length(data, at)
        broken.append(length)
        at += length
    return np.array(broken, np.int64)


def _broken_length(data: bytes, at: int) -> int:
    """Return how many bytes from `at` on Python's decoder replaces together by one U+FFFD."""
    try:
        data[at:].decode()
    except UnicodeDecodeError as error:
        return error.end - error.start
    return 1
