"""Accuracy, precision, recall and F1 from the table of labels and predictions, with intervals and paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.data.labelled import order_of
from lossmith.errors import DataError, did_you_mean
from lossmith.evaluate.bootstrap import Floats, Resampling, sums_of_cells, sums_of_units
from lossmith.evaluate.outcome import (
    Confusion,
    Difference,
    Figure,
    Outcome,
    Yardstick,
    compare_means,
    differences_of,
    figures_of,
    means,
)

Ints = NDArray[np.int64]
MANY_CLASSES = 64  # more than these: no interval, whose K × K × samples table would not fit


def metrics(table: Floats) -> dict[str, Floats]:
    """Return the figures of confusion tables [..., K, K] (rows: label, columns: prediction), each [...].

    precision = TP / predicted, recall = TP / labelled, F1 = 2·TP / (predicted + labelled), each 0 where its divisor
    is 0; macro: plain mean over the classes that occur as label or prediction; weighted: by number of labels; micro
    F1 pools all classes, and is the accuracy where each example has one label.
    Source: scikit-learn, "Classification metrics", https://scikit-learn.org/stable/modules/model_evaluation.html

    >>> found = metrics(np.array([[2.0, 1.0], [0.0, 1.0]]))
    >>> {name: round(float(found[name]), 3) for name in ("accuracy", "precision_macro", "recall_macro", "f1_macro")}
    {'accuracy': 0.75, 'precision_macro': 0.75, 'recall_macro': 0.833, 'f1_macro': 0.733}
    """
    hits = np.diagonal(table, axis1=-2, axis2=-1)
    labelled, predicted = table.sum(-1), table.sum(-2)
    total = np.maximum(labelled.sum(-1), 1)
    precision, recall = _part(hits, predicted), _part(hits, labelled)
    f1 = _part(2 * hits, labelled + predicted)
    accuracy = hits.sum(-1) / total
    seen = (labelled + predicted) > 0
    return {
        "accuracy": accuracy,
        "precision_macro": _mean(precision, seen),
        "recall_macro": _mean(recall, seen),
        "f1_macro": _mean(f1, seen),
        "precision_weighted": (precision * labelled).sum(-1) / total,
        "recall_weighted": (recall * labelled).sum(-1) / total,
        "f1_weighted": (f1 * labelled).sum(-1) / total,
        "f1_micro": accuracy,
    }


def _part(part: Any, whole: Any) -> Floats:
    share: Floats = part / np.where(whole > 0, whole, 1)
    return share


def _mean(values: Floats, seen: NDArray[np.bool_]) -> Floats:
    mean: Floats = (values * seen).sum(-1) / np.maximum(seen.sum(-1), 1)
    return mean


def classes_of(true: Sequence[str], predicted: Sequence[str], named: Sequence[str] = ()) -> list[str]:
    """Return the classes: those named, or those that occur, numbers in their order.

    Errors: DataError for a label or a prediction outside the named ones, and where all labels are the same.

    >>> classes_of(["10", "9"], ["9", "9"])
    ['9', '10']
    """
    classes = list(named) or order_of([*true, *predicted])
    for what, values in (("label", true), ("prediction", predicted)):
        for number, value in enumerate(values, 1) if named else ():
            if value not in classes:
                raise DataError(
                    f"the {what} {value!r} in row {number} is none of the classes {', '.join(classes)} (--labels)."
                    f"{did_you_mean(value, classes)}"
                )
    if len(set(true)) < 2:
        raise DataError(
            f"all {len(true)} labels are {true[0]!r}: with one class there is nothing to tell apart, and every figure "
            "would be 0 or 1. Give rows of two classes or more"
        )
    return classes


def indices(values: Sequence[str], classes: Sequence[str]) -> Ints:
    """Return the place of each value among the classes, int64[n]."""
    place = {name: i for i, name in enumerate(classes)}
    return np.array([place[value] for value in values], np.int64)


def classification_outcome(true: Ints, predicted: Ints, classes: Sequence[str], how: Resampling) -> Outcome:
    """Return the figures of predictions beside the majority class; true and predicted int64[n] index `classes`.

    The bootstrap draws examples: cells of the confusion table, multinomially, which is the same.
    """
    k = len(classes)
    table = np.bincount(true * k + predicted, minlength=k * k).reshape(k, k)
    draws = sums_of_cells(table.ravel(), how).reshape(-1, k, k) if k <= MANY_CLASSES else None
    statistics = _statistics(table)
    outcome = Outcome("classification", len(true), "examples", figures_of(statistics, table.astype(float), draws, how))
    outcome.confusion = Confusion(tuple(classes), table)
    outcome.per_class = _per_class(table, classes)
    majority = int(table.sum(1).argmax())
    guess = np.zeros_like(table)
    guess[:, majority] = table.sum(1)
    found = {name: float(value) for name, value in metrics(guess.astype(float)).items()}
    outcome.yardsticks = [Yardstick("majority", f"always {classes[majority]}", found)]
    outcome.counts = {"examples": len(true), "classes": k}
    if draws is None:
        outcome.notes.append(f"{k} classes: no intervals, which are made for {MANY_CLASSES} classes at most")
    missing = [name for name, row in zip(classes, table, strict=True) if not row.sum()]
    if missing:
        outcome.notes.append(f"no label is {', '.join(missing[:5])}: their recall is 0 by convention")
    return outcome


def _statistics(table: Any) -> dict[str, Any]:
    return {name: (lambda sums, name=name: metrics(sums)[name]) for name in metrics(table.astype(float))}


def _per_class(table: Ints, classes: Sequence[str]) -> list[dict[str, Any]]:
    hits, labelled, predicted = np.diagonal(table), table.sum(1), table.sum(0)
    rows = zip(
        classes,
        _part(hits, predicted).tolist(),
        _part(hits, labelled).tolist(),
        _part(2 * hits, labelled + predicted).tolist(),
        labelled.tolist(),
        predicted.tolist(),
        strict=True,
    )
    names = ("label", "precision", "recall", "f1", "labelled", "predicted")
    return [dict(zip(names, row, strict=True)) for row in rows]


def compare_classification(
    true: Ints, ours: Ints, other: Ints, classes: Sequence[str], how: Resampling
) -> list[Difference]:
    """Return ours − other for each figure, by a bootstrap that draws whole examples (label and both predictions)."""
    k = len(classes)
    cells, counts = np.unique((true * k + ours) * k + other, return_counts=True)
    first, second = cells // k, (cells // (k * k)) * k + cells % k
    drawn = sums_of_cells(counts, how)
    sums = (_tables(counts[None], first, k)[0], _tables(counts[None], second, k)[0])
    draws = (_tables(drawn, first, k), _tables(drawn, second, k)) if k <= MANY_CLASSES else None
    return differences_of(_statistics(sums[0]), sums, draws, how)


def _tables(drawn: Any, cells: Ints, k: int) -> Floats:
    tables = np.zeros((len(drawn), k * k))
    np.add.at(tables.T, cells, drawn.T.astype(float))
    return tables.reshape(-1, k, k)


def score_figures(probabilities: Floats, true: Ints, how: Resampling) -> list[Figure]:
    """Return the cross-entropy (nats) and the Brier score of probabilities [n, K], with intervals.

    Formula: mean −ln p_label; mean Σₖ (pₖ − [k = label])². Source: Brier 1950, Monthly Weather Review 78(1).
    """
    units = _score_units(probabilities, true)
    draws = sums_of_units(units, how) if np.isfinite(units).all() else None
    return figures_of(means(SCORES), units.sum(0), draws, how)


def compare_scores(ours: tuple[Floats, Ints], other: tuple[Floats, Ints], how: Resampling) -> list[Difference]:
    """Return ours − other of what `score_figures` gives; each side: probabilities [n, K], labels [n] in its own order.

    The cross-entropy is left out where a side gives a label no probability: its difference is not finite.
    """
    units = [_score_units(*side) for side in (ours, other)]
    kept = [i for i in range(len(SCORES)) if all(np.isfinite(side[:, i]).all() for side in units)]
    names, columns = [SCORES[i] for i in kept], [*kept, -1]
    return compare_means(names, units[0][:, columns], units[1][:, columns], how)


SCORES = ("cross_entropy", "brier")


def _score_units(probabilities: Floats, true: Ints) -> Floats:
    with np.errstate(divide="ignore"):
        nats = -np.log(probabilities[np.arange(len(true)), true])
    right = np.eye(probabilities.shape[1])[true]
    return np.stack([nats, ((probabilities - right) ** 2).sum(1), np.ones(len(true))], 1)
