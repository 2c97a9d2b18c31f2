"""Documents cut into lines or sentences, in any script, while they are read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

Piece = tuple[bool, str]  # does a document start here, text
SPLITS = ("line", "sentence", "document")
LONGEST = 1 << 20  # characters after which a sentence without an end is cut

_CLOSING = "\"'”’»)\\]）」』】》〉"
_FULL = "。！？｡।॥။។።۔؟"  # ends of sentences that no space need follow
_ABBREVIATED = re.compile(r"(?:^|[\s(\"'“‘])(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|vs|cf|No|Vol|pp|e\.g|i\.e|etc)$")
_END = re.compile(rf"(?P<full>[{_FULL}]+[{_CLOSING}]*)|(?P<stop>[.!?…]+[{_CLOSING}]*)(?=\s)|(?P<blank>\n\s*\n)")
_BREAK = re.compile(r"\s*\n\s*")
_NO_SPACES = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")  # scripts that write no space between words


def cut(pieces: Iterable[Piece], how: str) -> Iterator[Piece]:
    """Yield each line or sentence of the documents as a document of its own; "document" leaves them as they are.

    `how`: one of SPLITS. Memory: a piece, and the unfinished sentence before it. What holds no letter or digit is left
    out.

    >>> [text for _, text in cut([(True, "Dr. No came. He sa"), (False, "w.\\n\\n天下大勢。分久必合！")], "sentence")]
    ['Dr. No came.', 'He saw.', '天下大勢。', '分久必合！']
    """
    if how == "document":
        yield from pieces
        return
    kept = ""
    for starts, text in pieces:
        if starts:
            yield from _said([kept])
            kept = ""
        *whole, kept = _lines(kept + text) if how == "line" else sentences(kept + text)
        if len(kept) > LONGEST:
            whole, kept = [*whole, kept], ""
        yield from _said(whole)
    yield from _said([kept])


def sentences(text: str) -> list[str]:
    """Return the sentences of a text; joined they are the text.

    A sentence ends at . ! ? … before white space (not before a small letter, nor after an initial or one of some
    abbreviations), at 。！？ and the stops of other scripts, and at an empty line.

    >>> sentences('He said: "Go!" and J. Doe went. 好。走吧')
    ['He said: "Go!" and J. Doe went.', ' 好。', '走吧']
    """
    found, start = [], 0
    for match in _END.finditer(text):
        if match["stop"] and not _ends(text, match):
            continue
        found.append(text[start : match.end()])
        start = match.end()
    return [*found, text[start:]]


def _ends(text: str, match: re.Match[str]) -> bool:
    following = text[match.end() : match.end() + 64].lstrip()[:1]
    if following.islower():
        return False
    before = text[max(0, match.start() - 12) : match.start()]
    return not (match["stop"] == "." and _ABBREVIATED.search(before))


def _lines(text: str) -> list[str]:
    return text.split("\n")


def _said(texts: Iterable[str]) -> Iterator[Piece]:
    for text in texts:
        joined = _BREAK.sub(_joint, text.strip())
        if any(character.isalnum() for character in joined):
            yield True, joined


def _joint(match: re.Match[str]) -> str:
    """A line break inside a sentence is a space, but not between letters that are written without."""
    text, before, after = match.string, match.start() - 1, match.end()
    between = before >= 0 and after < len(text) and _NO_SPACES.match(text[before]) and _NO_SPACES.match(text[after])
    return "" if between else " "
