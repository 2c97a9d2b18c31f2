"""Bytes → text: decompression and exact decoding, in pieces, so that memory stays flat for a file of any size."""

from __future__ import annotations

import codecs
import gzip
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lossmith.errors import DataError, InputError

PIECE = 1 << 20
# Zstandard may expand a byte 8,000-fold and more: small bites keep what one of them becomes small
_ZSTD_BITE = 1 << 10
_BOM = "\ufeff"


def raw_blocks(path: Path, compression: str) -> Iterator[bytes]:
    """Yield the bytes of a file after decompression; DataError when it is damaged, cut short or unreadable."""
    try:
        yield from _zstd_blocks(path) if compression == ".zst" else _plain_blocks(path, compression)
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise DataError(
            f"{str(path)!r} is damaged or cut short: it does not decompress as {compression} ({error}). "
            f"Copy or compress it again"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


def _plain_blocks(path: Path, compression: str) -> Iterator[bytes]:
    with _opened(path, compression) as file:
        while block := file.read(PIECE):
            yield block


def _opened(path: Path, compression: str) -> BinaryIO | gzip.GzipFile | lzma.LZMAFile:
    if compression == ".gz":
        return gzip.open(path, "rb")
    return lzma.open(path, "rb") if compression == ".xz" else path.open("rb")


def _zstd_blocks(path: Path) -> Iterator[bytes]:
    # stream_reader says nothing about a file that is cut short; a decompression object knows
    import zstandard

    frame = None
    with path.open("rb") as file:
        while bite := file.read(_ZSTD_BITE):
            while bite:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                try:
                    yield frame.decompress(bite)
                except zstandard.ZstdError as error:
                    raise EOFError(str(error)) from error
                bite, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame is not None:
        raise EOFError("the last frame has no end")


def check_encoding(encoding: str) -> None:
    """Raise InputError for what is no encoding of text that Python knows."""
    try:
        "".encode(encoding)
    except (LookupError, TypeError) as error:
        raise InputError(
            f"--encoding must be a text encoding that Python knows, such as utf-8, gb18030, latin-1 or utf-16; "
            f"got {encoding!r}"
        ) from error


def decoded(blocks: Iterator[bytes], encoding: str, name: str) -> Iterator[str]:
    """Yield the text of these bytes exactly, line ends included; a byte order mark at the start is dropped.

    Errors: DataError naming the file and the offset (after decompression) of the first byte that is no text.
    """
    check_encoding(encoding)
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    consumed, first = 0, True
    for block in _with_last(blocks):
        pending = _pending(decoder)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeError as error:
            raise DataError(_undecodable(name, encoding, consumed - pending, error)) from error
        consumed += len(block)
        if text and first:
            text, first = text.removeprefix(_BOM), False
        if text:
            yield text


def _with_last(blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield from (block for block in blocks if block)
    yield b""  # the decoder must say whether the last character is whole


def _pending(decoder: codecs.IncrementalDecoder) -> int:
    return len(decoder.getstate()[0])


def _undecodable(name: str, encoding: str, start: int, error: UnicodeError) -> str:
    place, what = start, str(error)
    if isinstance(error, UnicodeDecodeError):
        place += error.start
        what = f"0x{error.object[error.start]:02x}, {error.reason}"
    return (
        f"{name!r} is not {encoding} text: the byte at offset {place} cannot be decoded ({what}). "
        f"Say which encoding it has with --encoding (for example gb18030, latin-1 or utf-16), or repair the file"
    )
