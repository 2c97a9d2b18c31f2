"""Predictions files: the columns of a table as labels, predictions and probabilities, and what they are worth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lossmith.data.labelled import label_text
from lossmith.data.rows import table_rows
from lossmith.errors import DataError, InputError
from lossmith.evaluate.bootstrap import Floats, Resampling
from lossmith.evaluate.calibration import calibration_error, reliability
from lossmith.evaluate.classification import (
    classes_of,
    classification_outcome,
    compare_classification,
    compare_scores,
    indices,
    score_figures,
)
from lossmith.evaluate.generation import compare_generation, generation_outcome
from lossmith.evaluate.multi_label import compare_multi_label, flags, multi_label_outcome
from lossmith.evaluate.outcome import Figure, Outcome
from lossmith.evaluate.regression import compare_regression, regression_outcome
from lossmith.evaluate.tagging import compare_tagging, tagging_outcome

TASKS = ("classification", "regression", "generation", "similarity")


@dataclass(frozen=True)
class Columns:
    """Name the columns of a predictions file; probability or logit columns: one per class, or one that holds a list."""

    label: str | None = None
    prediction: str = "prediction"
    source: str | None = None
    probabilities: tuple[str, ...] = ()
    logits: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answers:
    """Hold what is right and what was predicted, row by row; scores float64[n, K] over `classes` where there are.

    A row is a label (classification), a number (regression, similarity), a text (generation), the labels of a text
    (multi_label) or the tags of its words (tagging).
    """

    true: list[Any]
    predicted: list[Any]
    scores: Floats | None = None
    classes: tuple[str, ...] = ()
    sources: list[str] | None = None


def judge(task: str, answers: Answers, how: Resampling, *, tokenize: str | None = None) -> Outcome:
    """Return the outcome of a task from its answers."""
    if task == "classification":
        return _classification(answers, how)
    if task == "generation":
        return generation_outcome(answers.true, answers.predicted, how, sources=answers.sources, tokenize=tokenize)
    if task == "multi_label":
        true, predicted = (flags(rows, answers.classes) for rows in (answers.true, answers.predicted))
        return multi_label_outcome(true, predicted, answers.classes, how)
    if task == "tagging":
        return tagging_outcome(answers.true, answers.predicted, how)
    return regression_outcome(np.array(answers.true), np.array(answers.predicted), how, task)


def compare(outcome: Outcome, ours: Answers, other: Answers, how: Resampling, *, tokenize: str | None = None) -> None:
    """Add the paired comparison of two sets of answers to the same rows to the outcome.

    Errors: DataError where the two do not have the same rows with the same labels.
    """
    if ours.true != other.true:
        differ = [row for row, pair in enumerate(zip(ours.true, other.true, strict=False), 1) if pair[0] != pair[1]]
        where = f"row {differ[0]} has another label" if differ else f"{len(ours.true)} and {len(other.true)} rows"
        raise DataError(f"--compare needs predictions of the same rows in the same order; {where}")
    if outcome.task == "classification":
        both = [*ours.predicted, *other.predicted]
        classes = classes_of(ours.true, both, ours.classes)
        parts = [indices(values, classes) for values in (ours.true, ours.predicted, other.predicted)]
        outcome.differences = compare_classification(parts[0], parts[1], parts[2], classes, how)
        sides = [
            (side.scores, indices(side.true, classes_of(side.true, side.predicted, side.classes)))
            for side in (ours, other)
            if side.scores is not None
        ]
        outcome.differences += compare_scores(sides[0], sides[1], how) if len(sides) == 2 else []
    elif outcome.task == "generation":
        outcome.differences = compare_generation(ours.true, ours.predicted, other.predicted, how, tokenize=tokenize)
    elif outcome.task == "multi_label":
        names = list(dict.fromkeys([*ours.classes, *other.classes]))
        several = [flags(rows, names) for rows in (ours.true, ours.predicted, other.predicted)]
        outcome.differences = compare_multi_label(several[0], several[1], several[2], how)
    elif outcome.task == "tagging":
        outcome.differences = compare_tagging(ours.true, ours.predicted, other.predicted, how)
    else:
        numbers = [np.array(values) for values in (ours.true, ours.predicted, other.predicted)]
        outcome.differences = compare_regression(numbers[0], numbers[1], numbers[2], how, outcome.task)


def _classification(answers: Answers, how: Resampling) -> Outcome:
    classes = classes_of(answers.true, answers.predicted, answers.classes)
    true = indices(answers.true, classes)
    outcome = classification_outcome(true, indices(answers.predicted, classes), classes, how)
    if not answers.classes and not set(answers.true) & set(answers.predicted):
        names = [", ".join(sorted(set(side))[:5]) for side in (answers.true, answers.predicted)]
        outcome.notes.append(
            f"no prediction ({names[1]}) is a label that occurs ({names[0]}): are they the same names?"
        )
    if answers.scores is None:
        return outcome
    scores = answers.scores
    outcome.reliability = reliability(scores.max(1), scores.argmax(1) == true)
    outcome.figures += score_figures(scores, true, how)
    outcome.figures.append(Figure("calibration_error", calibration_error(outcome.reliability)))
    share = np.bincount(true, minlength=len(classes)) / len(true)
    guess = score_figures(np.tile(share, (len(true), 1)), true, how)
    outcome.yardsticks[0].figures.update({figure.name: figure.value for figure in guess})
    outcome.notes.append(
        "the baseline's cross-entropy and Brier score are those of always giving the label frequencies as probabilities"
    )
    return outcome


def read_predictions(path: Path, task: str, columns: Columns, *, encoding: str, limit: int | None = None) -> Answers:
    """Read a predictions file; DataError names the row and the column of what is wrong."""
    if task == "classification":
        return _read_classes(path, columns, encoding, limit)
    if task == "generation":
        label = columns.label or "reference"
        wanted = {label: "--label-column", columns.prediction: "--prediction-column"}
        wanted |= {columns.source: "--source-column"} if columns.source else {}
        rows = text_rows(path, wanted, encoding, limit)
        sources = [row[2] for row in rows] if columns.source else None
        return Answers([row[0] for row in rows], [row[1] for row in rows], sources=sources)
    label = columns.label or "label"
    wanted = {label: "--label-column", columns.prediction: "--prediction-column"}
    pairs = [
        (_number(true, label, row), _number(predicted, columns.prediction, row))
        for row, (true, predicted) in enumerate(table_rows(path, wanted, encoding, limit), 1)
    ]
    return Answers([true for true, _ in pairs], [predicted for _, predicted in pairs])


def _read_classes(path: Path, columns: Columns, encoding: str, limit: int | None) -> Answers:
    if columns.probabilities and columns.logits:
        raise InputError("give --probability-columns or --logit-columns, not both")
    label, scored = columns.label or "label", columns.probabilities or columns.logits
    option = "--probability-columns" if columns.probabilities else "--logit-columns"
    if len(set(scored)) < len(scored):
        raise InputError(f"{option} names a column twice: {' '.join(scored)}")
    wanted = {label: "--label-column"}
    wanted |= dict.fromkeys(scored, option) if scored else {columns.prediction: "--prediction-column"}
    rows = list(table_rows(path, wanted, encoding, limit))
    true = [label_text(row[0], label, number) for number, row in enumerate(rows, 1)]
    if not scored:
        predicted = [label_text(row[1], columns.prediction, number) for number, row in enumerate(rows, 1)]
        return Answers(true, predicted, classes=columns.labels)
    matrix, classes = _scores([row[1:] for row in rows], columns, true)
    likely = _probabilities(matrix, option) if columns.probabilities else _from_logits(matrix)
    return scored_answers(true, likely, classes)


def scored_answers(true: list[str], probabilities: Floats, classes: Sequence[str]) -> Answers:
    """Return answers whose prediction is the most likely class."""
    predicted = [classes[i] for i in probabilities.argmax(1).tolist()]
    return Answers(true, predicted, probabilities, tuple(classes))


def _scores(rows: Sequence[tuple[Any, ...]], columns: Columns, true: list[str]) -> tuple[Floats, list[str]]:
    """Return the scores [n, K] and the classes: --labels, else the columns, the keys of dicts, or labels 0 … K−1."""
    names, labels = list(columns.probabilities or columns.logits), list(columns.labels)
    if len(names) > 1:
        return _square([list(row) for row in rows], labels or names, names)
    held = [_parsed(row[0], names[0], number) for number, row in enumerate(rows, 1)]
    if any(isinstance(row, dict) for row in held):
        return _by_name(held, labels, names, fill=0.0 if columns.probabilities else None)
    if not labels and isinstance(held[0], list):
        labels = [str(place) for place in range(len(held[0]))]
        if not {"0"} <= set(true) <= set(labels):
            raise InputError(
                f"{names[0]!r} holds lists, and which class each score stands for is not said: name the classes "
                f"{', '.join(sorted(set(true))[:9])} in the order of the scores with --labels"
            )
    return _square(held, labels, names * len(labels))


def _by_name(held: list[Any], labels: list[str], names: list[str], fill: float | None) -> tuple[Floats, list[str]]:
    """Scores by the class's name; a class that a row does not name has `fill` (None: each row must name all)."""
    for number, row in enumerate(held, 1):
        if not isinstance(row, dict):
            raise DataError(f"row {number}: {names[0]!r} must be {{label: score}} as in other rows; got {row!r}")
    held = [{key: score for key, score in row.items() if score is not None} for row in held]  # parquet names them all
    keys = labels or list(dict.fromkeys(key for row in held for key in row))
    for number, row in enumerate(held, 1):
        odd = [key for key in row if key not in keys] or [key for key in keys if fill is None and key not in row]
        if odd:
            raise DataError(
                f"row {number}: {names[0]!r} has scores of {', '.join(row)}; expected one of each of {', '.join(keys)}"
            )
    return _square([[row.get(key, fill) for key in keys] for row in held], keys, names * len(keys))


def _parsed(cell: Any, name: str, row: int) -> Any:
    try:
        held = json.loads(cell) if isinstance(cell, str) else cell
    except ValueError:
        held = None
    if not isinstance(held, list | dict):
        raise DataError(
            f"row {row}: {name!r} must be a list or {{label: score}}, in .csv as JSON; got {cell!r}. Numbers need a "
            "column for each class"
        )
    return held


def _square(cells: list[Any], classes: list[str], names: Sequence[str]) -> tuple[Floats, list[str]]:
    for number, row in enumerate(cells, 1):
        if not isinstance(row, list) or len(row) != len(classes):
            raise DataError(
                f"row {number} has {len(row) if isinstance(row, list) else 'no list of'} scores for the {len(classes)} "
                f"classes {', '.join(classes)}: name the classes in the order of the scores with --labels"
            )
    rows = [[_number(cell, name, n) for cell, name in zip(row, names, strict=True)] for n, row in enumerate(cells, 1)]
    return np.array(rows, np.float64), classes


def _from_logits(matrix: Floats) -> Floats:
    bad = np.flatnonzero(~(np.isfinite(matrix.max(1)) & ~np.isnan(matrix).any(1)))
    if len(bad):
        raise DataError(f"row {bad[0] + 1}: the logits {matrix[bad[0]].tolist()} have no softmax; expected numbers")
    return softmax(matrix)


def _probabilities(matrix: Floats, option: str) -> Floats:
    bad = np.flatnonzero(~((matrix >= 0).all(1) & (np.abs(matrix.sum(1) - 1) < 0.01)))
    if len(bad):
        raise DataError(
            f"row {bad[0] + 1}: the scores {matrix[bad[0]].tolist()} are no probabilities, which are 0 or more and add "
            f"up to 1; if they are logits say --logit-columns instead of {option}"
        )
    found: Floats = matrix / matrix.sum(1, keepdims=True)
    return found


def softmax(matrix: Floats) -> Floats:
    """Return the softmax of each row."""
    raised = np.exp(matrix - matrix.max(1, keepdims=True))
    found: Floats = raised / raised.sum(1, keepdims=True)
    return found


def _number(cell: Any, column: str, row: int) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise DataError(f"row {row}: {column!r} must be a number; got {cell!r}") from None


def text_rows(path: Path, wanted: dict[str, str], encoding: str, limit: int | None) -> list[list[str]]:
    """Return the rows of a table as texts, an empty cell as ""; DataError for a list or an object, which is not one."""
    table = enumerate(table_rows(path, wanted, encoding, limit), 1)
    return [[_text(cell, name, n) for name, cell in zip(wanted, row, strict=True)] for n, row in table]


def _text(cell: Any, column: str, row: int) -> str:
    if isinstance(cell, list | tuple | dict):
        raise DataError(f"row {row}: {column!r} must be one text; got {cell!r}. Choose one, or a row for each")
    return "" if cell is None else str(cell)
