"""Protocol buffers' wire format, as far as logs need it: varints, fixed numbers, bytes; no schema.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator

from lossmith.errors import DataError

Field = tuple[int, int | bytes]


def fields(data: bytes) -> Iterator[Field]:
    """Yield (field number, value) of a message: whole numbers as int, everything else as bytes.

    A message that is cut off or is none is a DataError.

    >>> list(fields(bytes([0x08, 0x96, 0x01, 0x12, 0x02, 0x68, 0x69])))
    [(1, 150), (2, b'hi')]
    """
    at, end = 0, len(data)
    while at < end:
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            number, at = varint(data, at)
            yield key >> 3, number
            continue
        if kind == 2:
            size, at = varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise DataError(f"no protocol buffer: wire type {kind}")
        if at + size > end:
            raise DataError("a protocol buffer cut off in the middle")
        yield key >> 3, data[at : at + size]
        at += size


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at a place, and the place after it."""
    number = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    raise DataError("a protocol buffer cut off in the middle")


def signed(number: int) -> int:
    """Return a 64-bit number as a signed one.

    >>> signed(2**64 - 1)
    -1
    """
    return number - (1 << 64) if number >= 1 << 63 else number
