"""Bytes of a log as plain lines: unpacked, UTF-8, one kind of line end, no colours, progress bars as lines."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO

BLOCK = 8 << 20
HEAD = 1 << 16

_ANSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x08\x1b"))
_BACKSPACES = re.compile(rb"\x08+")
_PACKED = {b"\x1f\x8b": "gz", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst", b"BZh": "bz2"}


def packing(start: bytes) -> str:
    """Return how a file that begins with `start` is packed: gz, xz, zst, bz2 or nothing.

    >>> packing(b"\\x1f\\x8b\\x08"), packing(b"step,loss")
    ('gz', '')
    """
    return next((kind for magic, kind in _PACKED.items() if start.startswith(magic)), "")


def open_packed(path: Path, kind: str) -> IO[bytes]:
    """Open a packed file for reading what is in it."""
    if kind == "gz":
        return gzip.GzipFile(path)  # type: ignore[return-value]
    if kind == "xz":
        return lzma.LZMAFile(path)
    if kind == "bz2":
        return bz2.BZ2File(path)
    import zstandard

    return zstandard.open(path, "rb")  # type: ignore[no-any-return]


def wide_encoding(start: bytes) -> str:
    """Return the UTF-16 or UTF-32 encoding of a text that begins with `start`, nothing for bytes of any other kind.

    Windows PowerShell's `>` writes UTF-16. Without a byte-order mark, every second byte of an English log is 0.

    >>> wide_encoding("step".encode("utf-16")), wide_encoding("step 1: loss 5.0".encode("utf-16-be"))
    ('utf-16', 'utf-16-be')
    """
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    sample = start[: len(start) // 2 * 2]
    if len(sample) < 16:
        return ""
    for encoding, zeros, letters in (
        ("utf-16-le", sample[1::2], sample[::2]),
        ("utf-16-be", sample[::2], sample[1::2]),
    ):
        if zeros.count(0) > 0.9 * len(zeros) and letters.count(0) < 0.02 * len(letters):
            return encoding
    return ""


def clean(block: bytes) -> bytes:
    """Return a block of a log with Unix line ends and without colours; what a progress bar overwrote becomes lines.

    >>> clean(b"\\x1b[31mstep 1\\x1b[0m\\r\\n 5%\\r10%")
    b'step 1\\n 5%\\n10%'
    """
    if b"\x1b" in block:
        block = _ANSI.sub(b"", block)
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\x08" in block:
        block = _BACKSPACES.sub(b"\n", block)
    return block


@lru_cache(maxsize=64)
def _head(path: Path, size: int, modified: int, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def head(path: Path, count: int = HEAD) -> bytes:
    """Return the first bytes of a file as they stand."""
    state = path.stat()
    return _head(path, state.st_size, state.st_mtime_ns, count)


def head_text(path: Path) -> bytes:
    """Return the first bytes of a text file, cleaned, without its byte-order mark."""
    return clean(head(path).removeprefix(codecs.BOM_UTF8))


def is_binary(start: bytes) -> bool:
    """Return whether a file that begins so is no text: 2 % of control characters or more.

    Zeros at either end do not count: a log that was truncated while a process wrote to it begins with a hole of them,
    and a crash of the machine leaves some at the end.

    >>> is_binary(b"step 1: loss 5.0"), is_binary(bytes(100) + b"step 1"), is_binary(bytes(range(256)))
    (False, False, True)
    """
    inner = start.strip(b"\x00")
    return len(inner) - len(inner.translate(None, _CONTROL)) > len(inner) // 50


def blocks(path: Path, size: int = BLOCK) -> Iterator[bytes]:
    """Yield a text file in cleaned blocks of whole lines of about `size` bytes; the last line may lack its end.

    A file that is binary by its beginning has no lines: weights of many gigabytes are not searched for logs.
    """
    if is_binary(head(path)):
        return
    with path.open("rb") as file:
        rest = [file.read(3).removeprefix(codecs.BOM_UTF8)]
        while read := file.read(size):
            cut = max(read.rfind(b"\n"), read.rfind(b"\r")) + 1
            rest.append(read[:cut] if cut else read)
            if cut:
                yield clean(b"".join(rest))
                rest = [read[cut:]]
        if any(rest):
            yield clean(b"".join(rest))


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a text file, cleaned, without their ends."""
    for block in blocks(path):
        yield from block.removesuffix(b"\n").split(b"\n")
