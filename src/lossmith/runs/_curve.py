"""Curve and Run: the two types every log is read into."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Curve:
    """Hold one logged quantity over steps, as it was logged: NaN and inf kept; steps may repeat or go back.

    Shapes: `step` int64[n], `value` float64[n].

    >>> curve = Curve.of("loss", [(1, 5.0), (2, 4.0), (3, 3.5), (2, 4.1)])
    >>> curve.latest().step.tolist(), curve.latest().value.tolist()
    ([1, 2], [5.0, 4.1])
    """

    name: str
    step: NDArray[np.int64]
    value: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.step.ndim != 1 or self.step.shape != self.value.shape:
            raise ValueError(f"curve {self.name!r}: step and value must be vectors of one length")

    def __len__(self) -> int:
        return len(self.step)

    @classmethod
    def of(cls, name: str, points: Iterable[tuple[float, float]]) -> Curve:
        """Build a curve from (step, value) pairs; a fractional step is cut to the whole one below it."""
        pairs = list(points)
        steps = np.array([pair[0] for pair in pairs], dtype=np.float64).astype(np.int64)
        return cls(name, steps, np.array([pair[1] for pair in pairs], dtype=np.float64))

    def latest(self) -> Curve:
        """Drop what a resumed run has done again: keep the points that no later point stands at or before.

        A run killed at step 950 and resumed from step 900 logs 910 … 950 twice; the second time is the one that counts.
        """
        if not len(self):
            return self
        later = np.minimum.accumulate(self.step[::-1])[::-1]
        keep = np.append(self.step[:-1] < later[1:], True)
        return Curve(self.name, self.step[keep], self.value[keep])


@dataclass(frozen=True, eq=False)
class Run:
    """Hold what is known of a run: where it was read, which tool wrote it, its curves by name, its configuration.

    `config["step_unit"]` says what a step is ("step", "epoch", "row", "iteration"); `notes` say in whole sentences what
    had to be understood to read it.

    >>> Run("runs/a", "lossmith", {"loss": Curve.of("loss", [(1, 5.0)])}).curves["loss"].value
    array([5.])
    """

    source: str
    tool: str
    curves: dict[str, Curve]
    config: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
