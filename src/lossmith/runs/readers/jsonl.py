"""JSON lines of any tool: one object a line (LlamaFactory, mmengine, W&B history, nemo, our own metrics.jsonl ...)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._curve import Run
from lossmith.runs._fast import loads
from lossmith.runs._folder import read_json
from lossmith.runs._names import recognise
from lossmith.runs._table import Builder, Column, Table, flat
from lossmith.runs._text import blocks, head_text
from lossmith.runs._uniform import uniform_columns

_TOTALS = {"total_steps": "max_steps", "max_steps": "max_steps", "num_train_epochs": "num_train_epochs"}


class JsonLines:
    """Read a file with one JSON object a line; lines that are none are counted, a last one cut in half left out."""

    name = "jsonl"
    rank = 5

    def sniff(self, path: Path) -> bool:
        """Return whether most of the first lines are JSON objects."""
        lines = [line for line in head_text(path).split(b"\n") if line.strip()]
        if len(lines) > 1:
            lines = lines[:-1]
        if not lines or lines[0].lstrip()[:1] != b"{" or b'num_updates"' in lines[-1]:  # the latter is fairseq's
            return False
        return sum(isinstance(_one(line), dict) for line in lines[:20]) * 2 > len(lines[:20])

    def read(self, path: Path) -> list[Run]:
        """Return the runs of the file."""
        build, bad = Builder(), 0
        first: dict[str, Any] = {}
        for block in blocks(path):
            fast = uniform_columns(block)
            rows, broken = parse_lines(block.split(b"\n", 1)[0] if fast else block)
            first = first or next(iter(rows), {})
            if fast:
                build.add(*fast)
            else:
                build.add_rows(rows)
                bad += broken
        notes: tuple[str, ...] = (f"{bad} lines are no JSON objects: left out",) if bad else ()
        config: dict[str, Any] = {new: first[old] for old, new in _TOTALS.items() if old in first}
        tool = _tool(path, first)
        if tool == "lossmith":
            config |= read_json(path.with_name("run.json"))
        table = build.table()
        if tool == "mmengine":
            table, placed = _evaluations_placed(table)
            notes += placed
        form = Form(tool, names=dict.fromkeys(_TOTALS, ""), config=config, notes=notes)
        return runs_of(table, str(path), form)


def parse_lines(block: bytes) -> tuple[list[dict[str, Any]], int]:
    """Return the objects in a block of JSON lines, and how many lines are none.

    >>> parse_lines(b'{"step": 1, "loss": NaN}\\n\\nwords\\n{"step": 2}')
    ([{'step': 1, 'loss': nan}, {'step': 2}], 1)
    """
    block = block.strip()
    try:
        rows = loads(b"[" + block.replace(b"\n", b",") + b"]")
        if len(rows) == block.count(b"\n") + 1 and set(map(type, rows)) == {dict}:
            return rows, 0
    except (ValueError, RecursionError):
        pass
    lines = [line for line in block.split(b"\n") if line and not line.isspace()]
    parsed = [_one(line) for line in lines]
    rows = [row for row in parsed if isinstance(row, dict)]
    return rows, len(lines) - len(rows)


def _one(line: bytes) -> Any:
    try:
        return loads(line)
    except (ValueError, RecursionError):
        return None


def _evaluations_placed(table: Table) -> tuple[Table, tuple[str, ...]]:
    """Take away the step 0 of mmengine's evaluations, so that they count at the step of the row before them."""
    step, loss = table.columns.get("step"), table.columns.get("loss")
    if step is None or loss is None or step.row is not None:
        return table, ()
    kept = (step.value != 0) | loss.present(table.count)
    if kept.all():
        return table, ()
    note = "evaluations logged at step 0 were placed at the step of the row before them"
    return table.replaced({"step": Column(step.value[kept], np.flatnonzero(kept))}), (note,)


def _tool(path: Path, first: dict[str, Any]) -> str:
    if path.name == "metrics.jsonl" and path.with_name("run.json").is_file():
        return "lossmith"
    if "current_steps" in first and "total_steps" in first:
        return "LlamaFactory"
    if path.parent.name == "vis_data" or {"iter", "data_time"} <= set(first):
        return "mmengine"
    return "JSON lines"


def has_loss(rows: Sequence[dict[str, Any]]) -> bool:
    """Return whether any row has a column that means the loss.

    >>> has_loss([{"step": 1}, {"val": {"loss": 5.0}}]), has_loss([{"name": "a"}])
    (True, False)
    """
    names = {name: 1 for row in rows for name in flat(row)}
    return bool({"loss", "eval_loss"} & set(recognise(names).values()))


READER = JsonLines()
