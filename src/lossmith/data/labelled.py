"""Labelled rows of a table: texts and what belongs to them, by task, read from columns that options name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lossmith.data.rows import table_rows
from lossmith.errors import DataError, InputError

TASKS = ("classification", "multi_label", "regression", "tagging", "seq2seq", "instruction", "similarity")
SEPARATOR = r"[,;|]"  # between several labels in one cell of text


@dataclass(frozen=True)
class Labelled:
    """Hold one row: its texts (words for tagging) and its label.

    The label is text (classification; the target or the answer of seq2seq and instruction), a number (regression;
    similarity with scores), a tuple of texts (multi_label, and a tag per word), or None (similarity without scores).
    instruction from `messages` has no texts, and its label is the tuple of (role, content).
    """

    texts: tuple[str, ...]
    label: Any
    row: int = 0


@dataclass(frozen=True, kw_only=True)
class LabelColumns:
    """Name the columns of a task; an empty name stands for the task's default."""

    text: tuple[str, ...] = ()
    label: str | None = None
    source: str | None = None
    target: str | None = None
    prompt: str | None = None
    response: str | None = None
    messages: str | None = None
    tokens: str | None = None
    tags: str | None = None


@dataclass
class Table:
    """Hold the rows that were read, and how many were left out because they hold no text."""

    rows: list[Labelled]
    empty: int = 0
    source: str = ""
    columns: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)


def read_labelled(
    path: Path, task: str, columns: LabelColumns, *, encoding: str = "utf-8", limit: int | None = None
) -> Table:
    """Read the rows of a table for a task; rows of one text without a character in it are left out and counted.

    Errors: DataError for an unknown column, a cell that is not what the task needs, an empty side of a pair or a row
    without a label; InputError for columns that do not fit the task.
    """
    wanted = columns_of(task, columns)
    table = Table([], 0, str(path), wanted)
    names, reader = list(wanted), _related if task == "similarity" and columns.label is None else _READERS[task]
    for number, cells in enumerate(table_rows(path, wanted, encoding, limit), 1):
        texts, label = reader(cells, names, number)
        if texts or task == "instruction":
            table.rows.append(Labelled(texts, label, number))
        else:
            table.empty += 1
    if not table.rows:
        raise DataError(f"{str(path)!r} holds no row with text in {', '.join(names[:-1])}: nothing to learn from")
    return table


def columns_of(task: str, columns: LabelColumns) -> dict[str, str]:
    """Return column → the option that named it, in the order in which a task reads them.

    Errors: InputError for columns that do not fit the task, and for one that is named twice.

    >>> columns_of("classification", LabelColumns(text=("premise", "hypothesis")))
    {'premise': '--text-column', 'hypothesis': '--text-column', 'label': '--label-column'}
    """
    found: dict[str, str] = {}
    for name, option in _named(task, columns):
        if name in found:
            both = f"{found[name]} and {option}"
            raise InputError(f"{both} name the column {name!r}: each part of a row has one of its own")
        found[name] = option
    return found


def _named(task: str, columns: LabelColumns) -> list[tuple[str, str]]:
    if task in ("classification", "multi_label", "regression"):
        names = columns.text or ("text",)
        if len(names) > 2:
            got = " ".join(names)
            raise InputError(f"--text-column takes one column, or two of a pair, for --task {task}; got {got}")
        return [*_texts(names), (columns.label or "label", "--label-column")]
    if task == "similarity":
        return _similarity(columns)
    if task == "tagging":
        return [(columns.tokens or "tokens", "--tokens-column"), (columns.tags or "tags", "--tags-column")]
    if task == "seq2seq":
        return [(columns.source or "source", "--source-column"), (columns.target or "target", "--target-column")]
    if columns.messages:
        return [(columns.messages, "--messages-column")]
    return [(columns.prompt or "prompt", "--prompt-column"), (columns.response or "response", "--response-column")]


def _texts(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, "--text-column") for name in names]


def _similarity(columns: LabelColumns) -> list[tuple[str, str]]:
    names = columns.text or (("text1", "text2") if columns.label else ("anchor", "positive"))
    if not 2 <= len(names) <= 3 or (columns.label and len(names) != 2):
        raise InputError(
            "--task similarity takes --text-column A B with --label-column SCORE, or --text-column ANCHOR POSITIVE, or "
            f"--text-column ANCHOR POSITIVE NEGATIVE; got {' '.join(names)}"
        )
    return [*_texts(names), *([(columns.label, "--label-column")] if columns.label else [])]


def _text_cells(cells: Sequence[Any], names: Sequence[str], row: int) -> tuple[str, ...]:
    """Return the texts; nothing where the one text is empty; DataError where one of several is."""
    for cell, name in zip(cells, names, strict=True):
        if cell is not None and not isinstance(cell, str):
            raise DataError(f"row {row}: {name!r} must be text; got {cell!r}. Choose another column")
    empty = [name for cell, name in zip(cells, names, strict=True) if not (cell or "").strip()]
    if not empty:
        return tuple(cells)
    if len(cells) == 1:
        return ()
    raise DataError(
        f"row {row}: {empty[0]!r} is empty, and a row needs {' and '.join(map(repr, names))}: fill it in, or take the "
        "row out"
    )


def _class(cells: Sequence[Any], names: Sequence[str], row: int) -> tuple[tuple[str, ...], Any]:
    return _text_cells(cells[:-1], names[:-1], row), label_text(cells[-1], names[-1], row)


def _several(cells: Sequence[Any], names: Sequence[str], row: int) -> tuple[tuple[str, ...], Any]:
    return _text_cells(cells[:-1], names[:-1], row), several_labels(cells[-1], names[-1], row)


def _score(cells: Sequence[Any], names: Sequence[str], row: int) -> tuple[tuple[str, ...], Any]:
    return _text_cells(cells[:-1], names[:-1], row), number(cells[-1], names[-1], row)


def _related(cells: Sequence[Any], names: Sequence[str], row: int) -> tuple[tuple[str, ...], Any]:
    return _text_cells(cells, names, row), None


def _words(cells: Sequence[Any], names: Sequence[str], row: int) -> tuple[tuple[str, ...], Any]:
    words, tags = (_list(cell, name, row) for cell, name in zip(cells, names, strict=True))
    if len(words) != len(tags):
        raise DataError(f"row {row} has {len(words)} {names[0]} and {len(tags)} {names[1]}: each word needs one tag")
    for name, items in zip(names, (words, tags), strict=True):
        for place, item in enumerate(items, 1):
            if item is None or not str(item).strip():
                raise DataError(f"row {row}: entry {place} of {name!r} is empty. Take the word and its tag out")
    return tuple(label_text(word, names[0], row) for word in words), tuple(label_text(t, names[1], row) for t in tags)


def _target(cells: Sequence[Any], names: Sequence[str], row: int) -> tuple[tuple[str, ...], Any]:
    both = _text_cells(cells, names, row)
    return both[:1], both[1]


def _chat(cells: Sequence[Any], names: Sequence[str], row: int) -> tuple[tuple[str, ...], Any]:
    if len(cells) == 2:
        return _target(cells, names, row)
    held = _parsed(cells[0])
    if not isinstance(held, list) or not all(isinstance(m, dict) and {"role", "content"} <= set(m) for m in held):
        raise DataError(f'row {row}: {names[0]!r} must be a list of {{"role": …, "content": …}}; got {cells[0]!r}')
    told = tuple((str(m["role"]), str(m["content"])) for m in held)
    if not any(role == "assistant" and content.strip() for role, content in told):
        raise DataError(f'row {row}: {names[0]!r} holds no answer: no message whose role is "assistant"')
    return (), told


_READERS = {
    "classification": _class,
    "multi_label": _several,
    "regression": _score,
    "similarity": _score,
    "tagging": _words,
    "seq2seq": _target,
    "instruction": _chat,
}


def _parsed(cell: Any) -> Any:
    """Return a cell that spells JSON (as in .csv) as what it spells."""
    if isinstance(cell, str) and cell.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    return cell


def _list(cell: Any, name: str, row: int) -> Sequence[Any]:
    held = _parsed(cell)
    held = held.split() if isinstance(held, str) else held
    if not isinstance(held, list | tuple):
        raise DataError(f"row {row}: {name!r} must be a list of words, or words separated by spaces; got {cell!r}")
    return held


def several_labels(cell: Any, column: str, row: int) -> tuple[str, ...]:
    """Return the labels of a cell: a list, or a text of labels separated by comma, semicolon or bar; none is allowed.

    >>> several_labels("red; blue", "colours", 1), several_labels(["red"], "colours", 1), several_labels("", "c", 1)
    (('red', 'blue'), ('red',), ())
    """
    held = _parsed(cell)
    if held is None:
        return ()
    if isinstance(held, str):
        held = [part.strip() for part in re.split(SEPARATOR, held)]
    if not isinstance(held, list | tuple):
        held = [held]
    return tuple(dict.fromkeys(label_text(item, column, row) for item in held if item != ""))


def label_text(cell: Any, column: str, row: int) -> str:
    """Return a label as text; DataError where the cell is empty.

    NaN is how a table of numbers marks a cell that is missing.

    >>> label_text(1, "label", 1), label_text(1.0, "label", 1), label_text("neg", "label", 1)
    ('1', '1', 'neg')
    """
    if cell is None or (isinstance(cell, str) and not cell.strip()) or cell != cell:
        raise DataError(f"row {row} has no {column!r}: every row needs one. Fill it in, or take the row out")
    if isinstance(cell, list | tuple | dict):
        raise DataError(f"row {row}: {column!r} must be one label; got {cell!r}. For several say --task multi_label")
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def number(cell: Any, column: str, row: int) -> float:
    """Return a cell as a finite number; DataError where it is none.

    >>> number("3.5", "score", 1)
    3.5
    """
    try:
        found = float(cell)
    except (TypeError, ValueError):
        found = float("nan")
    if not abs(found) < float("inf"):
        raise DataError(f"row {row}: {column!r} must be a number; got {cell!r}")
    return found


def order_of(labels: Iterable[str]) -> list[str]:
    """Return labels in order, each once, numbers by their value.

    >>> order_of(["10", "9", "b", "a", "9"])
    ['9', '10', 'a', 'b']
    """
    return sorted(set(labels), key=_place)


def _place(label: str) -> tuple[bool, float, str]:
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    known = math.isfinite(value)  # "nan" is no number here: it has no place, and the order would be that of chance
    return not known, value if known else 0.0, label
