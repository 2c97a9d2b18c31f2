"""What an evaluation found: figures with intervals, baselines, what was counted, and the comparison with another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.evaluate.bootstrap import Floats, Resampling, Statistic, p_value, sums_of_units
from lossmith.runs import json_number


@dataclass(frozen=True)
class Figure:
    """Hold one figure and its bootstrap interval (None where none can be had)."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Yardstick:
    """Hold a baseline: what something that knows nothing would get, in the names of the figures."""

    name: str
    label: str
    figures: dict[str, float]


@dataclass(frozen=True)
class Difference:
    """Hold figure(ours) − figure(other) on the same examples, its interval, and p of the paired bootstrap test."""

    name: str
    ours: float
    other: float
    difference: float
    low: float | None
    high: float | None
    p: float | None


@dataclass
class Outcome:
    """Hold everything an evaluation found; `unit` is what the bootstrap drew."""

    task: str
    examples: int
    unit: str
    figures: list[Figure]
    yardsticks: list[Yardstick] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    per_class: list[dict[str, Any]] = field(default_factory=list)
    confusion: Confusion | None = None
    reliability: Reliability | None = None
    differences: list[Difference] = field(default_factory=list)
    worth: Worth | None = None

    def __getitem__(self, name: str) -> float:
        """Return the value of a figure by name."""
        return next(figure.value for figure in self.figures if figure.name == name)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON can carry them (non-finite numbers as strings)."""
        return {
            "task": self.task,
            "examples": self.examples,
            "unit": self.unit,
            "figures": [_plain(vars(figure)) for figure in self.figures],
            "baselines": [_plain(vars(row)) for row in self.yardsticks],
            "counts": self.counts,
            "notes": self.notes,
            "per_class": _plain(self.per_class),
            "confusion": self.confusion.to_json() if self.confusion else None,
            "reliability": _plain(self.reliability.to_json()) if self.reliability else None,
            "differences": [_plain(vars(row)) for row in self.differences],
            "worth": None if self.worth is None else _plain(self.worth.to_json()),
        }


@dataclass(frozen=True)
class Worth:
    """Hold what a model is worth on a text beside its rivals, and with its own size counted.

    compressed: bytes of the text that the rivals had; given: bytes they could read first, of `given_of`, from
    `given_from`. rival: the best that was given nothing, with its bits per byte; rival_given: the best that was given
    the training text. model_bytes: weights, shape and tokenizer on disk.
    """

    bits_per_byte: float
    text_bytes: int
    compressed: int
    model_bytes: int
    rival: str
    rival_bits_per_byte: float
    given: int = 0
    given_of: int = 0
    given_from: str | None = None
    rival_given: str | None = None
    rival_given_bits_per_byte: float | None = None

    @property
    def with_model(self) -> float:
        """Bits per byte of this text where the model's bytes are sent too."""
        return self.bits_per_byte + 8 * self.model_bytes / self.text_bytes

    @property
    def pays_after(self) -> int | None:
        """Bytes of such text from which on model and code are smaller than the best rival given nothing; None: never.

        Formula: 8·model_bytes / (the rival's bits per byte − the model's).
        """
        saved = self.rival_bits_per_byte - self.bits_per_byte
        return math.ceil(8 * self.model_bytes / saved) if saved > 0 else None

    def to_json(self) -> dict[str, Any]:
        """Return all fields, and what follows from them."""
        return {**asdict(self), "bits_per_byte_with_model": self.with_model, "pays_after": self.pays_after}


@dataclass(frozen=True)
class Confusion:
    """Hold how often each label (row) was predicted as each (column): int64[K, K]."""

    labels: tuple[str, ...]
    matrix: NDArray[np.int64]

    def to_json(self) -> dict[str, Any]:
        """Return labels and matrix as lists."""
        return {"labels": list(self.labels), "matrix": self.matrix.tolist()}


@dataclass(frozen=True)
class Reliability:
    """Hold, by bin of confidence: edges [bins + 1], examples [bins], mean confidence and share right (NaN if none)."""

    edges: Floats
    counts: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats

    def to_json(self) -> dict[str, Any]:
        """Return the columns as lists, None where a bin is empty."""
        return {
            "edges": self.edges.tolist(),
            "counts": self.counts.tolist(),
            "confidence": [None if np.isnan(value) else value for value in self.confidence.tolist()],
            "accuracy": [None if np.isnan(value) else value for value in self.accuracy.tolist()],
        }


def figures_of(statistics: dict[str, Statistic], sums: Floats, draws: Floats | None, how: Resampling) -> list[Figure]:
    """Return the figure of each statistic of the sums [k], with an interval from the resampled sums [samples, k]."""
    found = []
    for name, statistic in statistics.items():
        with np.errstate(all="ignore"):
            value = float(statistic(sums))
            low, high = how.interval(statistic(draws)) if draws is not None else (None, None)
        found.append(Figure(name, value, low, high))
    return found


def means(names: Sequence[str]) -> dict[str, Statistic]:
    """Return the statistic of each name whose units are [value of each name …, 1]: its mean."""
    return {name: _mean_of(i) for i, name in enumerate(names)}


def _mean_of(column: int) -> Statistic:
    return lambda sums: sums[..., column] / sums[..., -1]


def mean_outcome(task: str, names: Sequence[str], units: Floats, how: Resampling) -> Outcome:
    """Return the outcome whose figures are the means of the columns of units [n, len(names) + 1], the last all ones."""
    figures = figures_of(means(names), units.sum(0), sums_of_units(units, how), how)
    return Outcome(task, len(units), "examples", figures, counts={"examples": len(units)})


def compare_means(names: Sequence[str], ours: Floats, other: Floats, how: Resampling) -> list[Difference]:
    """Return ours − other of the means, by a bootstrap that draws whole examples."""
    return compare_units(means(names), ours, other, how)


def compare_units(statistics: dict[str, Statistic], ours: Floats, other: Floats, how: Resampling) -> list[Difference]:
    """Return ours − other of statistics of the sums of units [n, k], the same examples drawn for both.

    Source: Koehn 2004, https://aclanthology.org/W04-3250.

    >>> units = np.ones((10, 2))
    >>> row = compare_units(means(["accuracy"]), units, units * [0, 1], Resampling(100))[0]
    >>> row.difference, row.low, row.high, round(row.p, 3)
    (1.0, 1.0, 1.0, 0.02)
    """
    cut = ours.shape[1]
    both = np.concatenate([ours, other], 1)
    drawn, sums = sums_of_units(both, how), both.sum(0)
    return differences_of(statistics, (sums[:cut], sums[cut:]), (drawn[:, :cut], drawn[:, cut:]), how)


def differences_of(
    statistics: dict[str, Statistic], sums: tuple[Floats, Floats], draws: tuple[Floats, Floats] | None, how: Resampling
) -> list[Difference]:
    """Return ours − other for each statistic; both draws hold the same resampled examples, row by row."""
    found = []
    for name, statistic in statistics.items():
        with np.errstate(all="ignore"):
            ours, other = (float(statistic(part)) for part in sums)
            if draws is None:
                found.append(Difference(name, ours, other, ours - other, None, None, None))
                continue
            moved = statistic(draws[0]) - statistic(draws[1])
        found.append(Difference(name, ours, other, ours - other, *how.interval(moved), p_value(moved)))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return json_number(value) if isinstance(value, float) else value
