"""W&B's own file of an offline (or any) run, run-ID.wandb: records in LevelDB's log form, protocol buffers in them.

Source: https://github.com/google/leveldb/blob/main/doc/log_format.md and wandb/proto/wandb_internal.proto.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lossmith.errors import DataError
from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._curve import Run
from lossmith.runs._protobuf import fields
from lossmith.runs._table import Builder, flat
from lossmith.runs._text import head

_BLOCK = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_HISTORY, _RUN = 2, 17
_BATCH = 20_000
_CONFIG = ("max_steps", "num_train_epochs", "gradient_accumulation_steps", "vocab_size")


class WandbFile:
    """Read the history of a .wandb file without the wandb package."""

    name = "wandb"

    def sniff(self, path: Path) -> bool:
        """Return whether the file begins with W&B's mark."""
        return head(path).startswith(b":W&B")

    def read(self, path: Path) -> list[Run]:
        """Return the run of the file."""
        build, rows, config = Builder(), [], {}
        for record in _records(path):
            try:
                for number, value in fields(record):
                    if number == _HISTORY and isinstance(value, bytes):
                        rows.append(flat(_history(value)))
                    elif number == _RUN and isinstance(value, bytes):
                        config.update(_config(value))
            except DataError:
                continue
            if len(rows) >= _BATCH:
                build.add_rows(rows)
                rows = []
        build.add_rows(rows)
        names = {"_timestamp": "", "_runtime": "", "_step": ""}
        return runs_of(build.table(), str(path), Form("W&B", names=names, config=config))


def _records(path: Path) -> Iterator[bytes]:
    """Yield whole records; what a crash cut off, or a damaged block, is left out."""
    parts: list[bytes] = []
    with path.open("rb") as file:
        offset = len(file.read(7))
        while True:
            if _BLOCK - offset % _BLOCK < 7:
                offset += len(file.read(_BLOCK - offset % _BLOCK))
            header = file.read(7)
            if len(header) < 7:
                return
            size, kind = int.from_bytes(header[4:6], "little"), header[6]
            data = file.read(size)
            offset += 7 + len(data)
            if len(data) < size:
                return
            parts = [*parts, data] if kind in (_MIDDLE, _LAST) else [data]
            if kind in (_FULL, _LAST):
                yield b"".join(parts)
                parts = []


def _history(data: bytes) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for number, value in fields(data):
        if number == 1 and isinstance(value, bytes):
            row.update(_item(value))
        elif number == 2 and isinstance(value, bytes):
            row.setdefault("_step", dict(fields(value)).get(1, 0))
    return row


def _item(data: bytes) -> dict[str, Any]:
    """The key of an item, or the levels of a nested one, and its JSON value."""
    key, nested, text = "", [], b""
    for number, value in fields(data):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            key = value.decode("utf-8", "replace")
        elif number == 2:
            nested.append(value.decode("utf-8", "replace"))
        elif number == 16:
            text = value
    try:
        return {key or "/".join(nested): json.loads(text)}
    except (ValueError, RecursionError):
        return {}


def _config(data: bytes) -> dict[str, Any]:
    """What the run's configuration says of its length."""
    found: dict[str, Any] = {}
    for number, value in fields(data):
        if number == 4 and isinstance(value, bytes):
            for inner, item in fields(value):
                if inner == 1 and isinstance(item, bytes):
                    found.update(_item(item))
    found = {name.rpartition("/")[2]: value for name, value in flat(found).items()}
    return {name: found[name] for name in _CONFIG if isinstance(found.get(name), (int, float)) and found[name] != -1}


READER = WandbFile()
