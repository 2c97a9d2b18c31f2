"""The order in which labelled examples are seen: seeded, every one once an epoch, those of like length together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lossmith.data.order import mix
from lossmith.errors import DataError

WINDOW = 50  # steps whose examples are sorted by length together: padding nearly gone, the order still random


class Examples:
    """Give out examples by their place in the sampling order, which counts on through the epochs without end.

    An epoch is a seeded permutation; each `WINDOW` steps of it are sorted by length and cut into steps, and the steps
    are shuffled. Steps begin at multiples of `step`, also where an epoch ends in the middle of one.
    Source: the idea is fairseq's and transformers' (LengthGroupedSampler); there steps do not cross epochs.

    >>> order = Examples([{"tokens": np.zeros(n)} for n in (1, 2, 3, 4, 5)], lengths=[1, 2, 3, 4, 5], step=2, seed=0)
    >>> sorted(len(order.example(i)["tokens"]) for i in range(5))
    [1, 2, 3, 4, 5]
    """

    def __init__(self, examples: Sequence[dict[str, Any]], *, lengths: Sequence[int], step: int, seed: int) -> None:
        if not examples:
            raise DataError("no training rows are left: every one was empty or too long")
        self.examples, self.lengths = examples, np.asarray(lengths, np.int64)
        self._step, self._seed = step, seed
        self._epoch: tuple[int, npt.NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.examples)

    def place(self, i: int) -> int:
        """Return which example stands at place i of the order."""
        epoch, within = divmod(i, len(self.examples))
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._permutation(epoch))
        return int(self._epoch[1][within])

    def example(self, i: int) -> dict[str, Any]:
        """Return the example at place i of the order."""
        return self.examples[self.place(i)]

    def epoch(self, i: int) -> float:
        """Return how many epochs have passed before place i."""
        return i / len(self.examples)

    def tokens(self, first: int, last: int) -> int:
        """Return how many tokens the places first … last − 1 hold, without padding."""
        return int(sum(self.lengths[self.place(i)] for i in range(first, last)))

    def _permutation(self, epoch: int) -> npt.NDArray[np.int64]:
        n = len(self.examples)
        rng = np.random.default_rng(mix(mix(self._seed & (2**64 - 1)) ^ epoch))
        rows = rng.permutation(n)
        head = min(n, -epoch * n % self._step)  # what the last step of the epoch before still takes
        steps: list[npt.NDArray[np.int64]] = []
        for start in range(head, n, WINDOW * self._step):
            window = rows[start : start + WINDOW * self._step]
            window = window[np.argsort(-self.lengths[window], kind="stable")]
            steps += [window[i : i + self._step] for i in range(0, len(window), self._step)]
        last = [steps.pop()] if steps and len(steps[-1]) < self._step else []
        rng.shuffle(steps)
        return np.concatenate([rows[:head], *steps, *last])
