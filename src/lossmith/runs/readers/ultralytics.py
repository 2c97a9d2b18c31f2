"""Ultralytics YOLO: results.csv with `train/box_loss`, `train/cls_loss`, `val/box_loss` ...; sums are the losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._csv import find_header, table_of
from lossmith.runs._curve import Run
from lossmith.runs._names import is_epoch, words
from lossmith.runs._table import Column, Table


class Ultralytics:
    """Read results.csv."""

    name = "ultralytics"
    rank = 6

    def sniff(self, path: Path) -> bool:
        """Return whether the header has an epoch and several parts of a train loss, but no train loss itself."""
        header = find_header(path)
        if header is None or not any(map(is_epoch, header.names)):
            return False
        return len(_parts(header.names, "train")) > 1 and "train/loss" not in header.names

    def read(self, path: Path) -> list[Run]:
        """Return the run of the file."""
        header = find_header(path)
        if header is None:
            return []
        table, odd = table_of(path, header)
        sums = {f"{side}_loss": _sum(table, _parts(header.names, side)) for side in ("train", "val")}
        table = table.replaced({name: column for name, column in sums.items() if column is not None})
        parts = ", ".join(_parts(header.names, "train"))
        notes = [f"the loss is the sum of {parts}; the eval loss likewise"]
        notes += [f"{odd} rows have another number of cells than the header: left out"] if odd else []
        return runs_of(table, str(path), Form("Ultralytics", notes=tuple(notes)))


def _parts(names: tuple[str, ...], side: str) -> list[str]:
    return [
        name for name in names if words(name)[:1] == (side,) and words(name)[-1:] == ("loss",) and len(words(name)) > 2
    ]


def _sum(table: Table, names: list[str]) -> Column | None:
    columns = [table.columns[name] for name in names if name in table.columns]
    if not columns:
        return None
    total = np.sum([column.dense(table.count) for column in columns], axis=0)
    rows = np.logical_and.reduce([column.present(table.count) for column in columns])
    return Column(total[rows], np.flatnonzero(rows))


READER = Ultralytics()
