"""Keras' progress text: `Epoch 3/10`, then `35/35 - 4s - loss: 0.47 - val_loss: 0.58`, with bars or without."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._curve import Run
from lossmith.runs._lines import NUMBER, Row, value
from lossmith.runs._table import Table
from lossmith.runs._text import blocks

_EPOCH = re.compile(rb"^[^\n]{0,40}?\bEpoch (\d+)(?:/(\d+))?:?[ \t]*$", re.MULTILINE)
_DONE = re.compile(
    rb"^[^\n]{0,40}?(?:(?P<a>\d+)/(?:(?P=a)|Unknown)\b[^\n]{0,200}?)? - (?P<time>[^\n]{0,80}?)"
    rb"(?P<body>[a-zA-Z]\w{0,60}: " + NUMBER + rb"[^\n]{0,2000})$",
    re.MULTILINE,
)
_ETA = "ETA"  # in a row while its bar still says so
_PAIR = re.compile(rb"([A-Za-z]\w{0,60}): (" + NUMBER + rb")")


class KerasText:
    """Read what Keras prints while it fits; of a bar that is written over, the last state of each epoch counts."""

    name = "keras_text"
    rank = 15

    def sniff(self, path: Path) -> bool:
        """Return whether the file has both kinds of lines."""
        return any(b"Epoch " in block and _EPOCH.search(block) and _DONE.search(block) for block in blocks(path))

    def read(self, path: Path) -> list[Run]:
        """Return the runs of the file."""
        rows: list[Row] = []
        config: dict[str, Any] = {}
        open_row: Row | None = None
        for block in blocks(path):
            found = [(match.start(), match) for match in (*_EPOCH.finditer(block), *_DONE.finditer(block))]
            for _, match in sorted(found, key=lambda pair: pair[0]):
                if match.re is _EPOCH:
                    open_row = {"epoch": float(match[1])}
                    rows.append(open_row)
                    config |= {"num_train_epochs": int(match[2])} if match[2] else {}
                elif open_row is not None:
                    open_row = _fill(open_row, match, config)
        return runs_of(Table.of(_finished(rows)), str(path), Form("Keras", config=config))


def _finished(rows: list[Row]) -> list[Row]:
    return [{name: number for name, number in row.items() if name != _ETA} for row in rows]


def _fill(row: Row, match: re.Match[bytes], config: dict[str, Any]) -> Row | None:
    """Add the numbers of a bar that reached its end; return None when the epoch is over.

    A bar is printed at its end once with the train metrics, and once more with the validation's beside them. What comes
    with fewer metrics, or as many after that, is the bar of an evaluation.
    """
    found = {key.decode(): value(text) for key, text in _PAIR.findall(match["body"]) if key != b"ETA"}
    known = set(row) - {"epoch", _ETA}
    if known and not (known < set(found) or (known == set(found) and _ETA in row)):
        row.pop(_ETA, None)
        return None
    row.pop(_ETA, None)
    row.update(found)
    if b"ETA" in match[0]:
        row[_ETA] = 1.0
    if match["a"]:
        config["steps_per_epoch"] = int(match["a"])
    return row


READER = KerasText()
