"""What labelled rows hold, said before training: classes, imbalance, duplicates, label noise; and their split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from lossmith.data.labelled import Labelled, Table, order_of
from lossmith.data.order import mix
from lossmith.errors import DataError, did_you_mean

STRATA = 10  # quantiles of numbers that a held-out part keeps the shares of


def audit(table: Table, task: str) -> dict[str, Any]:
    """Return the facts of a table that a person should know before training on it.

    rows; empty (rows without text, left out); duplicates (rows whose texts and label another row before them has);
    contradictions (rows whose texts stand elsewhere with another label: label noise); by task the classes with their
    counts, the imbalance (largest by smallest class), the majority baseline (share of the largest class), or the mean,
    spread and range of the numbers (the MSE of always saying the mean is the spread squared).
    """
    facts: dict[str, Any] = {"source": table.source, "rows": len(table), "empty": table.empty}
    groups = by_text(table.rows)
    facts["duplicates"] = sum(n - 1 for group in groups for n in Counter(_label(row) for row in group).values())
    facts["contradictions"] = sum(len(group) for group in groups if len({_label(row) for row in group}) > 1)
    return facts | _of_labels([row.label for row in table.rows], task)


def by_text(rows: Sequence[Labelled]) -> list[list[Labelled]]:
    """Return the rows in groups of the same texts, in order of their first row."""
    groups: dict[Hashable, list[Labelled]] = defaultdict(list)
    for row in rows:
        groups[row.texts or row.label].append(row)
    return list(groups.values())


def _label(row: Labelled) -> Hashable:
    label: Hashable = row.label
    return label


def _of_labels(labels: list[Any], task: str) -> dict[str, Any]:
    if task == "classification":
        return _classes(labels)
    if task == "multi_label":
        names = Counter(name for label in labels for name in label)
        none = sum(not label for label in labels)
        found = {name: names[name] for name in order_of(names)}
        return {"classes": found, "without_label": none, "labels_per_row": sum(names.values()) / len(labels)}
    if task == "tagging":
        return _classes([tag for label in labels for tag in label]) | {"words": sum(map(len, labels))}
    if labels[0] is None or not isinstance(labels[0], float):
        return {}
    values = np.array(labels)
    return {
        "mean": float(values.mean()),
        "standard_deviation": float(values.std()),
        "smallest": float(values.min()),
        "largest": float(values.max()),
    }


def _classes(labels: list[str]) -> dict[str, Any]:
    counts = Counter(labels)
    most, least = max(counts.values()), min(counts.values())
    return {
        "classes": {name: counts[name] for name in order_of(counts)},
        "imbalance": most / least,
        "majority": max(counts, key=lambda name: counts[name]),
        "majority_share": most / len(labels),
    }


def split_rows(
    rows: Sequence[Labelled], fraction: float, task: str, seed: int
) -> tuple[list[Labelled], list[Labelled]]:
    """Return (training, validation) rows: of each class the same share, rows of the same text on the same side.

    Which texts are held out depends on the seed and the order of the rows; a class of one text stays in training.
    Numbers are held out by their tenths; tasks without classes as a whole.
    Errors: DataError where nothing would be left on a side.
    """
    strata: dict[Hashable, list[list[Labelled]]] = defaultdict(list)
    edges = _edges(rows)
    for group in by_text(rows):
        strata[_stratum(group[0].label, task, edges)].append(group)
    training: list[Labelled] = []
    validation: list[Labelled] = []
    for number, groups in enumerate(strata.values()):
        order = sorted(range(len(groups)), key=lambda i: mix(mix(seed ^ mix(number)) ^ i))
        held = min(len(groups) - 1, _share(len(groups), fraction, seed ^ number))
        for place, i in enumerate(order):
            (validation if place < held else training).extend(groups[i])
    if not training or not validation:
        raise DataError(
            f"{len(rows)} rows are too few to hold a part of {fraction:g} of them out: give more rows, a larger "
            "--validation-fraction, or --eval-data FILE"
        )
    return sorted(training, key=lambda row: row.row), sorted(validation, key=lambda row: row.row)


def _share(n: int, fraction: float, seed: int) -> int:
    """Round n·fraction up or down by chance, so that small classes keep their share too."""
    whole, rest = divmod(n * fraction, 1)
    return int(whole) + (mix(seed) / 2**64 < rest)


def _edges(rows: Sequence[Labelled]) -> Any:
    values = [row.label for row in rows if isinstance(row.label, float)]
    return np.quantile(values, np.linspace(0, 1, STRATA + 1)[1:-1]) if values else None


def _stratum(label: Any, task: str, edges: Any) -> Hashable:
    if task == "classification":
        return str(label)
    return int(np.searchsorted(edges, label)) if isinstance(label, float) else None


def check_labels(rows: Sequence[Labelled], known: Sequence[str], task: str, source: str) -> None:
    """Raise DataError for a label of validation rows that no training row has."""
    for row in rows:
        for label in (row.label,) if task == "classification" else row.label:
            if label not in known:
                raise DataError(
                    f"{source!r}, row {row.row}: the label {label!r} is none of those of the training data "
                    f"({', '.join(known[:12])}{' …' if len(known) > 12 else ''}).{did_you_mean(label, known)}"
                )
