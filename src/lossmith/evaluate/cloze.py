"""Choosing by loss: the good sentence of a minimal pair, the right candidate after a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lossmith.data.rows import table_rows
from lossmith.errors import DataError
from lossmith.evaluate.bootstrap import Floats, Resampling
from lossmith.evaluate.next_tokens import _continuation
from lossmith.evaluate.opening import CausalModel
from lossmith.evaluate.outcome import Outcome, Yardstick, mean_outcome
from lossmith.evaluate.rolling import Window, rolling_windows, score_windows

PAIR_FIGURES = ("accuracy", "accuracy_per_byte", "margin")
CLOZE_FIGURES = ("accuracy", "accuracy_per_byte")


@dataclass
class Choices:
    """Hold what each option of each row cost: nats and bytes by row, the right one, and what was longer than fits."""

    nats: list[list[float]] = field(default_factory=list)
    sizes: list[list[int]] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    longer: int = 0

    def hits(self, per_byte: bool = False) -> Floats:
        """Return for each row 1 where the right option is cheapest, float64[n]; of m that cost the same, 1/m."""
        return np.array([self._hit(row, per_byte) for row in range(len(self.nats))])

    def _hit(self, row: int, per_byte: bool) -> float:
        cost = np.array(self.nats[row]) / (np.array(self.sizes[row]) if per_byte else 1)
        least = cost == cost.min()
        return float(least[self.right[row]] / max(1, least.sum()))

    def guesses(self, shortest: bool) -> Floats:
        """Return how often the shortest option (of equals: a share), or a random one, is right, by row."""
        rows = [np.array(sizes) == min(sizes) if shortest else np.ones(len(sizes), bool) for sizes in self.sizes]
        return np.array([row[right] / row.sum() for row, right in zip(rows, self.right, strict=True)])


def minimal_pairs(
    given: CausalModel, path: Path, sides: tuple[str, str], *, batch_size: int, encoding: str, limit: int | None
) -> Choices:
    """Return what a causal model pays for both sentences of each row, each scored whole and on its own.

    sides: the columns of the good and of the bad sentence.
    Source: Warstadt et al. 2020, BLiMP, https://aclanthology.org/2020.tacl-1.25
    Errors: DataError for a side that is empty or not text.
    """
    found = Choices()
    rows = table_rows(path, dict(zip(sides, ("--good-column", "--bad-column"), strict=True)), encoding, limit)
    for window, nats in score_windows(given.model, _pair_windows(given, rows, sides, found), batch_size):
        found.nats[window.document // 2][window.document % 2] += nats
    return found


def _pair_windows(
    given: CausalModel, rows: Iterable[tuple[Any, ...]], names: tuple[str, str], found: Choices
) -> Iterator[Window]:
    for number, row in enumerate(rows):
        sides = [_text(cell, name, number + 1) for cell, name in zip(row, names, strict=True)]
        tokens = [given.tokenizer.encode(side) for side in sides]
        found.nats.append([0.0, 0.0])
        found.sizes.append([len(side.encode()) for side in sides])
        found.right.append(0)
        found.longer += any(len(ids) + (given.prefix is None) > given.context for ids in tokens)
        for side, ids in enumerate(tokens):
            yield from rolling_windows([ids], given.prefix, given.context, given.context, 2 * number + side)


def _text(cell: Any, name: str, row: int) -> str:
    if not isinstance(cell, str) or not cell.strip():
        raise DataError(f"row {row}: {name!r} must be text; got {cell!r}. Fill it in, or take the row out")
    return cell


def cloze(
    given: CausalModel, path: Path, columns: tuple[str, str, str], *, batch_size: int, encoding: str, limit: int | None
) -> Choices:
    """Return what a causal model pays for each candidate after its prompt; columns: prompt, candidates, answer.

    The candidates of a row are a list (in .csv: as JSON); the answer is one of them, or its index from 0. A prompt that
    does not fit loses its beginning, which is counted. A candidate has the tokens that prompt + candidate ends with.
    Errors: DataError for fewer than two candidates, an answer that is none of them, a candidate beyond the context.
    """
    found = Choices()
    options = ("--prompt-column", "--candidates-column", "--answer-column")
    rows = table_rows(path, dict(zip(columns, options, strict=True)), encoding, limit)
    for window, nats in score_windows(given.model, _cloze_windows(given, rows, found), batch_size):
        row, side = divmod(window.document, _SIDES)
        found.nats[row][side] = nats
    return found


_SIDES = 1 << 16  # more than the candidates of any row


def _cloze_windows(given: CausalModel, rows: Iterable[tuple[Any, ...]], found: Choices) -> Iterator[Window]:
    for number, (prompt, cell, answer) in enumerate(rows):
        prompt = "" if prompt is None else str(prompt)
        candidates = _candidates(cell, number + 1)
        found.right.append(_answer(answer, candidates, number + 1))
        found.nats.append([0.0] * len(candidates))
        found.sizes.append([len(candidate.encode()) for candidate in candidates])
        before = [] if given.prefix is None else [given.prefix]
        before += given.tokenizer.encode(prompt).tolist()
        longest = 0
        for side, candidate in enumerate(candidates):
            ids = _continuation(given.tokenizer, prompt, candidate)
            _check_length(ids, before, given, number + 1)
            longest = max(longest, len(before) + len(ids) - 1)
            tokens = np.array([*before, *ids][-given.context - 1 :], np.int64)
            yield Window(number * _SIDES + side, tokens, len(ids))
        found.longer += longest > given.context


def _check_length(ids: list[int], before: list[int], given: CausalModel, row: int) -> None:
    if len(ids) > given.context:
        raise DataError(f"row {row}: a candidate has {len(ids)} tokens and the model sees {given.context}; shorten it")
    if not before:
        raise DataError(f"row {row} has no prompt, and the tokenizer no token that opens a text: give it a prompt")


def _candidates(cell: Any, row: int) -> list[str]:
    try:
        held = json.loads(cell) if isinstance(cell, str) else cell
    except ValueError:
        held = None
    if not isinstance(held, list) or len(held) < 2 or not all(isinstance(text, str) and text for text in held):
        raise DataError(f"row {row}: the candidates must be a list of two texts or more, none empty; got {cell!r}")
    return held


def _answer(cell: Any, candidates: list[str], row: int) -> int:
    if isinstance(cell, str) and cell in candidates:
        return candidates.index(cell)
    try:
        place = int(cell)
    except (TypeError, ValueError):
        place = -1
    if not 0 <= place < len(candidates):
        raise DataError(
            f"row {row}: the answer {cell!r} is none of the candidates {candidates}, nor an index 0 … "
            f"{len(candidates) - 1}"
        )
    return place


def choice_units(task: str, choices: Choices) -> Floats:
    """Return the figures of each row and a column of ones, float64[n, figures + 1]."""
    columns = [choices.hits(), choices.hits(per_byte=True)]
    if task == "minimal_pairs":
        columns.append(np.array([bad - good for good, bad in choices.nats]))
    return np.stack([*columns, np.ones(len(choices.nats))], 1)


def choice_outcome(task: str, choices: Choices, how: Resampling) -> Outcome:
    """Return how often the right one costs least (nats; nats per byte), beside chance and the shortest option.

    margin: mean nats(bad) − nats(good) of minimal pairs.
    """
    names = PAIR_FIGURES if task == "minimal_pairs" else CLOZE_FIGURES
    outcome = mean_outcome(task, names, choice_units(task, choices), how)
    outcome.yardsticks = [
        Yardstick("chance", "a random option", {"accuracy": float(choices.guesses(False).mean())}),
        Yardstick("shortest", "the option of fewest bytes", {"accuracy": float(choices.guesses(True).mean())}),
    ]
    outcome.counts["longer_than_context"] = int(choices.longer)
    if choices.longer:
        what = "scored in windows" if task == "minimal_pairs" else "the prompt lost its beginning"
        outcome.notes.append(f"{choices.longer:,} rows are longer than the model's context: {what}")
    return outcome
