"""The text of all documents in one file of UTF-8, written once: every later pass reads it by offset, in flat memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lossmith.data.config import DataConfig, Progress
from lossmith.data.reading import decoded, raw_blocks
from lossmith.data.rows import pair_texts
from lossmith.data.sources import Source
from lossmith.data.splitting import Piece, cut
from lossmith.data.tables import table_texts

Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Stretches of the spool, in bytes: starts[i] … ends[i] is the text of the part's i-th document."""

    starts: Offsets
    ends: Offsets

    @property
    def n_bytes(self) -> int:
        """Bytes of UTF-8 in the part."""
        return int((self.ends - self.starts).sum())


class Spool:
    """Collect documents in a file; keep for each its end in bytes and in characters, and the characters seen."""

    def __init__(self, path: Path, *, characters: bool = False) -> None:
        self.path = path
        self._file = path.open("wb")
        self._bytes, self._chars = array("q", [0]), array("q", [0])
        self._at_byte = self._at_char = 0
        self._seen = np.zeros(0x110000, bool) if characters else None

    def add(self, pieces: Iterable[Piece]) -> None:
        """Append the pieces of documents; a document without text leaves no trace."""
        for starts, text in pieces:
            if starts:
                self._close_document()
            data = text.encode("utf-8")
            self._file.write(data)
            self._at_byte += len(data)
            self._at_char += len(text)
            if self._seen is not None:
                self._seen[np.frombuffer(text.encode("utf-32-le"), np.uint32)] = True
        self._close_document()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file; from here on it is only read."""
        self.close()

    def close(self) -> None:
        """Close the file, if it is not: what was added can be read."""
        self._file.close()

    def _close_document(self) -> None:
        if self._at_byte > self._bytes[-1]:
            self._bytes.append(self._at_byte)
            self._chars.append(self._at_char)

    def __len__(self) -> int:
        return len(self._bytes) - 1

    @property
    def byte_bounds(self) -> Offsets:
        """Where documents start, in bytes, and after them the end: int64[documents + 1]."""
        return np.array(self._bytes, np.int64)

    @property
    def char_bounds(self) -> Offsets:
        """The same in characters."""
        return np.array(self._chars, np.int64)

    @property
    def characters(self) -> str:
        """Every character seen, in order of code points (only when asked for at the start)."""
        assert self._seen is not None
        return "".join(chr(point) for point in np.flatnonzero(self._seen))

    def byte_of_character(self, index: int) -> int:
        """Return the offset in bytes of the character with this index (counted over all documents)."""
        document = int(np.searchsorted(self.char_bounds, index, side="right")) - 1
        left = index - self._chars[document]
        with self.path.open("rb") as file:
            file.seek(self._bytes[document])
            offset = self._bytes[document]
            while left:
                block = np.frombuffer(file.read(1 << 20), np.uint8)
                starts = np.flatnonzero((block & 0xC0) != 0x80)  # a byte that continues no character
                if left < len(starts):
                    return offset + int(starts[left])
                offset, left = offset + len(block), left - len(starts)
            # the count may run out exactly at the edge of a block, inside a character that began before it
            rest = np.frombuffer(file.read(4), np.uint8)
            return offset + int(np.argmax(np.append((rest & 0xC0) != 0x80, True)))

    def character_at_or_after(self, offset: int) -> int:
        """Return the first offset from here on at which a character starts."""
        with self.path.open("rb") as file:
            file.seek(offset)
            ahead = np.frombuffer(file.read(4), np.uint8)
        return offset + int(np.argmax(np.append((ahead & 0xC0) != 0x80, True)))


def source_pieces(source: Source, config: DataConfig, work: Path) -> Iterator[Piece]:
    """Yield the documents of a source in pieces of about a megabyte.

    A text file is one document. It is read as it is, not through `datasets`, whose text loader turns CRLF into LF,
    drops the last line end, keeps the byte order mark, and reads a file of a single long line in one go.
    With --sentence-split a line or sentence is a document, with --pair-columns a cell is.
    """
    if config.pair_columns and source.path is not None:
        yield from ((True, text) for text in pair_texts(source.path, config.pair_columns, config.encoding))
    elif config.sentence_split:
        yield from cut(_documents(source, config, work), config.sentence_split)
    else:
        yield from _documents(source, config, work)


def _documents(source: Source, config: DataConfig, work: Path) -> Iterator[Piece]:
    if source.corpus is not None:
        yield from ((True, document) for document in source.corpus.documents())
    elif source.kind == "text":
        assert source.path is not None
        texts = decoded(raw_blocks(source.path, source.compression), config.encoding, source.name)
        yield from ((i == 0, text) for i, text in enumerate(texts))
    else:
        yield from ((True, text) for text in table_texts(source, config.text_field, config.encoding, work))


def read_all(spool: Spool, sources: list[Source], config: DataConfig, work: Path, progress: Progress) -> list[int]:
    """Append every source to the spool and return how many documents each gave."""
    total = sum(size_of(source) for source in sources)
    documents, done = [], 0
    for source in sources:
        before = len(spool)
        spool.add(_counted(source_pieces(source, config, work), done, total, progress))
        documents.append(len(spool) - before)
        done += size_of(source)
        progress("reading", done, total)
    return documents


def _counted(pieces: Iterator[Piece], before: int, total: int, progress: Progress) -> Iterator[Piece]:
    done, shown = before, before
    for piece in pieces:
        yield piece
        done += len(piece[1])
        if done - shown >= 1 << 22:
            shown = done
            # what a compressed file holds is not known before its end: the total is what is on disk
            progress("reading", min(done, total), total)


def size_of(source: Source) -> int:
    """Return the bytes that a source has on disk, or about how many it will give."""
    if source.corpus is not None:
        return source.corpus.approx_bytes
    return source.path.stat().st_size if source.path else 0
