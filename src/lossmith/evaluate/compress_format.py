"""The compressed file, format 1: what it says of itself, and how damage is told from a wrong model."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import Any

from lossmith.errors import DataError

MAGIC = b"\x89LsZ"
VERSION = 1
_PRINT = 8  # bytes of a fingerprint


@dataclass(frozen=True)
class Packed:
    """Hold all that a compressed file says.

    length and digest are those of the original; `runs` are (tokens, bytes kept as they are) of each segment; `streams`
    are (exceptions, code) of each; torch is the version that compressed.
    """

    torch: tuple[int, int]
    model: bytes
    tokenizer: bytes
    digest: bytes
    length: int
    context: int
    stride: int
    runs: tuple[tuple[int, int], ...]
    streams: tuple[tuple[tuple[int, ...], bytes], ...]
    raw: bytes

    @property
    def tokens(self) -> int:
        """Number of tokens of all streams."""
        return sum(count for count, _ in self.runs)

    def lengths(self) -> list[int]:
        """Return the number of tokens of each stream: equal, the first ones by a token longer."""
        return split(self.tokens, len(self.streams))

    def pack(self) -> bytes:
        """Return the file: magic, version, fingerprints, numbers, streams, raw bytes, CRC-32 of all before."""
        numbers = [self.length, self.context, self.stride, len(self.runs)]
        numbers += [value for run in self.runs for value in run]
        numbers.append(len(self.streams))
        for exceptions, code in self.streams:
            gaps = [b - a for a, b in zip((0, *exceptions), exceptions, strict=False)]
            numbers += [len(exceptions), *gaps, len(code)]
        parts = [MAGIC, bytes([VERSION, *self.torch]), self.model, self.tokenizer, self.digest]
        parts += [b"".join(map(_varint, numbers)), *(code for _, code in self.streams), self.raw]
        body = b"".join(parts)
        return body + zlib.crc32(body).to_bytes(4, "little")


def split(count: int, parts: int) -> list[int]:
    """Return `parts` nearly equal numbers that add up to `count`.

    >>> split(7, 3)
    [3, 2, 2]
    """
    return [count // parts + (i < count % parts) for i in range(parts)]


def unpack(data: bytes) -> Packed:
    """Read what `Packed.pack` wrote; DataError for another kind of file, a later version, and any damage."""
    if data[: len(MAGIC)] != MAGIC:
        raise DataError("expected a file that lossmith compress wrote; this one does not begin as they do")
    if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
        raise DataError(f"the file has format {data[len(MAGIC)]} and this lossmith reads format {VERSION}: upgrade it")
    if len(data) < len(MAGIC) + 7 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise DataError("the file is damaged or cut off (its checksum does not fit): nothing was restored")
    reader = _Reader(data[len(MAGIC) + 1 : -4])
    versions = reader.take(2)
    model, tokenizer, original = (reader.take(_PRINT) for _ in range(3))
    length, context, stride, count = (reader.number() for _ in range(4))
    runs = tuple((reader.number(), reader.number()) for _ in range(count))
    heads = [_stream_head(reader) for _ in range(reader.number())]
    streams = tuple((exceptions, reader.take(size)) for exceptions, size in heads)
    raw = reader.take(sum(size for _, size in runs))
    return Packed((versions[0], versions[1]), model, tokenizer, original, length, context, stride, runs, streams, raw)


def digest(*parts: bytes) -> bytes:
    """Return 8 bytes of BLAKE2b over all parts.

    >>> digest(b"a", b"b") == digest(b"ab"), len(digest())
    (True, 8)
    """
    total = hashlib.blake2b(digest_size=_PRINT)
    for part in parts:
        total.update(part)
    return total.digest()


def model_print(model: Any) -> bytes:
    """Return the fingerprint of a model: names, shapes and float64 values of its weights, and its kind."""
    total = hashlib.blake2b(digest_size=_PRINT)
    for name, value in sorted(model.state_dict().items()):
        total.update(f"{name}{tuple(value.shape)}".encode())
        total.update(value.detach().cpu().double().contiguous().numpy().tobytes())
    total.update(type(model).__name__.encode() + _shape(model))
    return total.digest()


def tokenizer_print(tokenizer: Any) -> bytes:
    """Return the fingerprint of a tokenizer: all that decides its ids."""
    return digest(tokenizer.backend.to_str().encode(), str(tokenizer.eos_id).encode())


def _shape(model: Any) -> bytes:
    """What of the configuration decides a model's output; names of files and versions of libraries do not."""
    config = model.config.to_dict() if hasattr(model.config, "to_dict") else vars(model.config)
    skipped = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache")
    return repr(sorted((key, repr(value)) for key, value in config.items() if key not in skipped)).encode()


def _stream_head(reader: _Reader) -> tuple[tuple[int, ...], int]:
    places, at = [], 0
    for _ in range(reader.number()):
        at += reader.number()
        places.append(at)
    return tuple(places), reader.number()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        part = self.data[self.at : self.at + count]
        if len(part) != count:
            raise DataError("the file is damaged or cut off: nothing was restored")
        self.at += count
        return part

    def number(self) -> int:
        value, shift = 0, 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value


def _varint(value: int) -> bytes:
    """A whole number in groups of 7 bits, the lowest first (LEB128).

    >>> _varint(300)
    b'\\xac\\x02'
    """
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
