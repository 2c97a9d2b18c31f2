"""Any text with losses by name beside numbers: `Epoch [3/10], Step [100/600], Loss: 0.52`, `[73] loss: 5547.6` ..."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lossmith.runs import _names
from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._curve import Run
from lossmith.runs._lines import NUMBER, Row, value
from lossmith.runs._table import Builder, Table
from lossmith.runs._text import blocks

_LONGEST = 2000
_PAIR = re.compile(
    # the name, up to three words
    rb"([A-Za-z][A-Za-z_]{0,40}(?:[/.\-][A-Za-z_]{1,40}){0,3}(?: [A-Za-z][A-Za-z_]{0,30}){0,2})"
    rb"(?:\((?:train|val|valid|test|nats|avg)\))?['\"]?[ \t]{0,8}(?::|=|->| is |\()?[ \t]{0,8}[\[(]?[ \t]{0,8}"
    rb"(" + NUMBER + rb")(?![\w.]*[A-Za-z_]\w)(?:[ ]?/[ ]?(\d+))?"
)
_BARE = re.compile(rb"^[^\w\n]{0,3}\[? *(\d{1,12}) *[\]:|]")
_BAR = re.compile(rb"\b(\d{1,12})/\d+ \[\d")  # tqdm's
_HEAD = re.compile(rb"\b(?:epoch|step|iter|iteration)s?\b", re.IGNORECASE)


class PlainText:
    """Read lines that name a loss beside a number; steps and epochs from the same line or the last that had them."""

    name = "text"
    rank = 100

    def sniff(self, path: Path) -> bool:
        """Return whether any line names a loss beside a number."""
        return any(any(_has_loss(row) for row in _rows(block)) for block in blocks(path))

    def read(self, path: Path) -> list[Run]:
        """Return the runs of the file: two losses at least, since one number beside the word is no log."""
        build = Builder()
        place: Row = {}
        for block in blocks(path):
            build.add_rows([row for row in _placed(_rows(block), place) if _has_loss(row)])
        table, notes = _from_the_first_place(build.table())
        runs = runs_of(table, str(path), Form("text", notes=notes))
        return [run for run in runs if any(len(run.curves.get(name, ())) > 1 for name in ("loss", "eval_loss"))]


def _has_loss(row: Row) -> bool:
    return any(_names.loss_rank(name) is not None for name in row)


def _rows(block: bytes) -> list[Row]:
    """One row a line that has a loss; one also for a line that only says where the run stands."""
    if "损失".encode() in block:  # full-width colons as well
        block = _names.english(block.decode("utf-8", "replace")).replace("：", ":").encode()
    if b"oss" not in block.replace(b"OSS", b"oss") and b"entropy" not in block:
        return []
    rows = []
    for line in block.split(b"\n"):
        if len(line) <= _LONGEST and (b"oss" in line or b"OSS" in line or b"entropy" in line or _HEAD.search(line)):
            row = _row(line)
            if row and (_has_loss(row) or all(_names.is_step(name) or _names.is_epoch(name) for name in row)):
                rows.append(row)
    return rows


def _placed(rows: list[Row], place: Row) -> Iterator[Row]:
    """Give rows without a step or an epoch the last one that was printed: often it stands on a line of its own."""
    for row in rows:
        own = {name: number for name, number in row.items() if _names.is_step(name) or _names.is_epoch(name)}
        if any(map(_names.is_epoch, own)):
            place.clear()
        place.update(own)
        yield {**place, **row}


def _from_the_first_place(table: Table) -> tuple[Table, tuple[str, ...]]:
    """Leave out losses above the first step or epoch, where there are any: source code and settings, not the log."""
    placed = [
        column.rows()[0] for name, column in table.columns.items() if _names.is_step(name) or _names.is_epoch(name)
    ]
    first = int(min(placed, default=0))
    if first == 0:
        return table, ()
    return table.span(first, table.count), (f"{first} losses above the first step or epoch: left out",)


def _row(line: bytes) -> Row:
    row: Row = {}
    for key, text, _ in _PAIR.findall(line):
        name = _shortened(key.decode())
        if name not in row:
            row[name] = value(text)
    if not any(map(_names.is_step, row)):
        bar, bare = _BAR.search(line), _BARE.match(line)
        if bar:
            row["step"] = float(bar[1])
        elif bare and not any(map(_names.is_epoch, row)):
            row["step"] = float(bare[1])
    return row


def _shortened(name: str) -> str:
    """The part of up to three words that is known: "Batch done in train loss" is the train loss."""
    parts = name.removesuffix(" is").removesuffix(" was").removesuffix(" of").split()
    for start in range(len(parts)):
        part = " ".join(parts[start:])
        if _names.loss_rank(part) is not None or _names.is_step(part) or _names.is_epoch(part):
            return part
    return name


READER = PlainText()
