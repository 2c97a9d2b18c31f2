"""TensorBoard event files: scalars of both forms (simple_value, tensor), read without TensorFlow or tensorboard.

A file is a TFRecord: length (8 bytes), its checksum (4), an Event message, its checksum (4).
Source: tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto and tensor.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from lossmith.errors import DataError
from lossmith.runs import _names
from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._curve import Run
from lossmith.runs._lines import Row
from lossmith.runs._protobuf import fields, signed, varint
from lossmith.runs._table import Builder
from lossmith.runs._text import head

_FORMATS = {1: "<f", 2: "<d", 3: "<i", 9: "<q"}  # tensor data types: float, double, int32, int64
_INLINE = {5: "<f", 6: "<d"}  # the fields of a tensor that hold its numbers outside tensor_content
_BATCH = 20_000


class TensorBoard:
    """Read one event file; in a folder named for validation data every tag is a validation tag."""

    name = "tensorboard"

    def sniff(self, path: Path) -> bool:
        """Return whether the file begins with an event of a plausible length that names the file version."""
        start = head(path)
        return len(start) > 24 and 0 < int.from_bytes(start[:8], "little") < 1 << 16 and b"brain.Event:" in start[:120]

    def read(self, path: Path) -> list[Run]:
        """Return the runs of the file."""
        prefix = "val_" if _names.side(path.parent.name) == "eval" else ""
        build = Builder()
        rows: list[Row] = [{}]
        for step, tag, value in scalars(path):
            if rows[-1].get("step") != step or tag in rows[-1]:
                if len(rows) > _BATCH:
                    build.add_rows(rows[:-1])
                    rows = rows[-1:]
                rows.append({"step": float(step)})
            rows[-1][prefix + tag if not _names.is_step(tag) else tag + " (tag)"] = value
        build.add_rows([row for row in rows if row])
        return runs_of(build.table(), str(path), Form("TensorBoard"))


def scalars(path: Path) -> Iterator[tuple[int, str, float]]:
    """Yield (step, tag, value) of every scalar, in the order of the file; a last event cut off is left out."""
    for event in _events(path):
        step, summary = 0, b""
        try:
            for number, value in fields(event):
                if number == 2 and isinstance(value, int):
                    step = signed(value)
                elif number == 5 and isinstance(value, bytes):
                    summary = value
            for number, value in fields(summary):
                if number == 1 and isinstance(value, bytes) and (found := _scalar(value)):
                    yield step, *found
        except DataError:
            continue  # a damaged event: the length of the next one still stands where it should


def _events(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while len(header := file.read(12)) == 12:
            size = int.from_bytes(header[:8], "little")
            if size > 1 << 28:
                return
            event = file.read(size)
            if len(event) < size or len(file.read(4)) < 4:
                return
            yield event


def _scalar(data: bytes) -> tuple[str, float] | None:
    tag, value = "", None
    for number, item in fields(data):
        if not isinstance(item, bytes):
            continue
        if number == 1:
            tag = item.decode("utf-8", "replace")
        elif number == 2 and len(item) == 4:
            value = struct.unpack("<f", item)[0]
        elif number == 8:
            value = _tensor(item)
    return (tag, float(value)) if tag and value is not None else None


def _tensor(data: bytes) -> float | None:
    """The number of a tensor that holds exactly one."""
    kind, content, value = 0, b"", None
    for number, item in fields(data):
        if number == 1 and isinstance(item, int):
            kind = item
        elif number == 4 and isinstance(item, bytes):
            content = item
        elif number in _INLINE and isinstance(item, bytes) and len(item) == struct.calcsize(_INLINE[number]):
            value = struct.unpack(_INLINE[number], item)[0]
        elif number in (7, 10):
            value = float(signed(item if isinstance(item, int) else varint(item, 0)[0]))
    form = _FORMATS.get(kind)
    if form and len(content) == struct.calcsize(form):
        value = struct.unpack(form, content)[0]
    return value


READER = TensorBoard()
