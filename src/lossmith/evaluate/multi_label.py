"""Several labels to a text: precision, recall and F1 over all labels and by label, and how many texts are all right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lossmith.errors import DataError
from lossmith.evaluate.bootstrap import Floats, Resampling, Statistic, sums_of_units
from lossmith.evaluate.outcome import Difference, Outcome, Yardstick, compare_units, figures_of

Flags = NDArray[np.bool_]


def flags(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> Flags:
    """Return which class each row has, bool[n, C].

    >>> flags([("a",), ()], ["a", "b"]).tolist()
    [[True, False], [False, False]]
    """
    place = {name: i for i, name in enumerate(classes)}
    out = np.zeros((len(labels), len(classes)), np.bool_)
    for row, names in enumerate(labels):
        out[row, [place[name] for name in names]] = True
    return out


def multi_label_outcome(true: Flags, predicted: Flags, classes: Sequence[str], how: Resampling) -> Outcome:
    """Return the figures of predictions bool[n, C] beside the labels that most rows have.

    micro: over all (row, label) pairs together; macro: plain mean over the labels that occur; exact match: share of the
    rows whose labels are all right, and no more. Where nothing is predicted or labelled, precision and recall are 0.
    Source: scikit-learn, "Multiclass and multilabel classification",
    https://scikit-learn.org/stable/modules/model_evaluation.html
    Errors: DataError where no row has a label.
    """
    if not true.any():
        raise DataError(f"none of the {len(true)} rows has a label: there is nothing to find")
    units, statistics = _units(true, predicted), _statistics(len(classes))
    figures = figures_of(statistics, units.sum(0), sums_of_units(units, how), how)
    outcome = Outcome("multi_label", len(true), "examples", figures)
    outcome.counts = {"examples": len(true), "labels": len(classes)}
    outcome.per_class = _per_class(true, predicted, classes)
    guess = np.broadcast_to(true.mean(0) > 0.5, true.shape)
    sums = _units(true, guess).sum(0)
    found = {name: float(statistic(sums)) for name, statistic in statistics.items()}
    outcome.yardsticks = [Yardstick("majority", "labels of most rows", found)]
    return outcome


def compare_multi_label(true: Flags, ours: Flags, other: Flags, how: Resampling) -> list[Difference]:
    """Return ours − other for each figure of predictions bool[n, C], by a bootstrap that draws whole rows."""
    return compare_units(_statistics(true.shape[1]), _units(true, ours), _units(true, other), how)


def _units(true: Flags, predicted: Flags) -> Floats:
    """Columns: right of each label, labelled, predicted, all right, 1."""
    exact = (true == predicted).all(1)[:, None]
    one = np.ones((len(true), 1))
    return np.concatenate([true & predicted, true, predicted, exact, one], 1).astype(np.float64)


def _part(part: Floats, whole: Floats) -> Floats:
    share: Floats = part / np.where(whole > 0, whole, 1)
    return share


def _statistics(k: int) -> dict[str, Statistic]:
    def columns(s: Floats) -> tuple[Floats, Floats, Floats]:
        return s[..., :k], s[..., k : 2 * k], s[..., 2 * k : 3 * k]

    def micro(which: str) -> Statistic:
        def of(s: Floats) -> Floats:
            hits, labelled, predicted = (column.sum(-1) for column in columns(s))
            return _part(*_choice(which, hits, labelled, predicted))

        return of

    def macro(which: str) -> Statistic:
        def of(s: Floats) -> Floats:
            hits, labelled, predicted = columns(s)
            seen = (labelled + predicted) > 0
            mean: Floats = (_part(*_choice(which, hits, labelled, predicted)) * seen).sum(-1) / np.maximum(
                seen.sum(-1), 1
            )
            return mean

        return of

    found = {f"{which}_micro": micro(which) for which in ("f1", "precision", "recall")}
    found |= {f"{which}_macro": macro(which) for which in ("f1", "precision", "recall")}
    return found | {"exact_match": lambda s: s[..., 3 * k] / s[..., 3 * k + 1]}


def _choice(which: str, hits: Floats, labelled: Floats, predicted: Floats) -> tuple[Floats, Floats]:
    if which == "f1":
        return 2 * hits, labelled + predicted
    return hits, predicted if which == "precision" else labelled


def _per_class(true: Flags, predicted: Flags, classes: Sequence[str]) -> list[dict[str, object]]:
    hits, labelled, guessed = (true & predicted).sum(0), true.sum(0), predicted.sum(0)
    return [
        {
            "label": name,
            "precision": float(_part(hits[i], guessed[i])),
            "recall": float(_part(hits[i], labelled[i])),
            "f1": float(_part(2 * hits[i], labelled[i] + guessed[i])),
            "labelled": int(labelled[i]),
            "predicted": int(guessed[i]),
        }
        for i, name in enumerate(classes)
    ]
