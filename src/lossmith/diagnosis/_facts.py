"""What every check starts from: a run's loss, eval loss, learning rate and gradient norm as series."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from lossmith.diagnosis._finding import Finding
from lossmith.diagnosis._series import Floats, Series, guessing_among
from lossmith.runs import Curve, Run


@dataclass(frozen=True, eq=False)
class Facts:
    """The series of a run. `main` is the training loss, or the eval loss where no training loss was logged."""

    run: Run

    @cached_property
    def train(self) -> Series:
        """The training loss; 0.0 beside a gradient norm that is not finite stands for NaN, and is left out as such."""
        return Series.of(honest_zeros(self.run))

    @cached_property
    def evals(self) -> Series:
        """The eval loss; zeros before the first other value were not measured yet."""
        series = Series.of(self.run.curves.get("eval_loss"))
        return series.part(int(np.argmax(series.value != 0))) if len(series) else series

    @cached_property
    def lr(self) -> Series:
        """The learning rate."""
        return Series.of(self.run.curves.get("learning_rate"))

    @cached_property
    def grad_norm(self) -> Series:
        """The gradient norm."""
        return Series.of(self.run.curves.get("grad_norm"))

    @cached_property
    def main(self) -> Series:
        """The training loss, or the eval loss where there is none."""
        return self.train if len(self.train.raw) else self.evals

    @cached_property
    def epoch(self) -> Series:
        """The epoch at each step, where it was logged."""
        return Series.of(self.run.curves.get("epoch"))

    def lr_at(self, series: Series) -> Floats | None:
        """Return the learning rate at the points of a series; None where it was not logged."""
        if not len(self.lr):
            return None
        if len(self.lr) == len(series.raw) and np.array_equal(self.lr.raw.step, series.raw.step):
            good = np.isfinite(series.raw.value)
            return self.lr.value[good] if good.sum() == len(series) else np.interp(series.step, *_sorted(self.lr))
        return np.interp(series.step, *_sorted(self.lr))

    @cached_property
    def unit(self) -> str:
        """What the loss is measured in, as a run of ours says it: "nats per token"; empty where nobody said."""
        said, one = self.run.config.get("loss_unit"), self.run.config.get("unit")
        return str(said or (f"nats per {one}" if one else ""))

    @property
    def in_nats(self) -> bool:
        """Whether the loss is nats of whatever unit, or may be."""
        return not self.unit or self.unit.startswith("nats")

    @property
    def of_tokens(self) -> bool:
        """Whether the loss is nats per token, or may be; a sum of terms is nats of no one thing."""
        return self.unit in ("", "nats per token")

    @property
    def floor(self) -> float:
        """The least level that a rise is measured against: ln 2 where the loss is said to be nats, else 0."""
        return float(np.log(2)) if self.unit.startswith("nats") else 0.0

    def guessing_among(self, loss: float, within: float) -> int | None:
        """Return the number of classes whose guessing costs a loss in nats (see `guessing_among`)."""
        return guessing_among(loss, within) if self.in_nats else None

    def short(self, points: int = 7) -> bool:
        """Whether the log of a training from its start has at most so many points: too few to tell a rise from noise.

        One that ends in a loss that is not finite is long enough.
        """
        whole = np.isfinite(self.main.raw.value[-1:]).all()
        return bool(max(len(self.train), len(self.evals)) <= points and self.from_the_start and whole)

    @property
    def unclear(self) -> bool:
        """Whether a log is too short to tell a rise from noise: short, and not beyond ten times its first loss."""
        return self.short() and self.main.last <= 10 * abs(self.main.first)

    @cached_property
    def from_the_start(self) -> bool:
        """Whether the log begins where training does: at a step within the first tenth, or no later than it logs."""
        step = np.sort(np.concatenate([s.step for s in (self.train, self.evals)]))
        if not len(step):
            return False
        usual = float(np.median(np.diff(self.main.step))) if len(self.main) > 1 else 0.0
        return bool(step[0] <= max(0.1 * step[-1] + 1, 1.5 * usual, 2))


@lru_cache(maxsize=16)
def facts(run: Run) -> Facts:
    """Return the facts of a run, worked out once."""
    return Facts(run)


@lru_cache(maxsize=64)
def found_by(check: Callable[[Run], Iterable[Finding]], run: Run) -> tuple[Finding, ...]:
    """Return the findings of a check, with its own thresholds, worked out once: some checks ask what others found."""
    return tuple(check(run))


def honest_zeros(run: Run) -> Curve | None:
    """Return the training loss with NaN for 0.0 beside a gradient norm that is not finite, and for 0.0 all at once.

    The HF Trainer's `logging_nan_inf_filter` and its mean over steps turn a NaN loss into 0.0.
    """
    loss, norm = run.curves.get("loss"), run.curves.get("grad_norm")
    if loss is None or not (loss.value == 0).any():
        return loss
    if norm is None or not len(norm):
        return Curve(loss.name, loss.step, np.where(_zeros_at_once(loss.value), np.nan, loss.value))
    zero = loss.value == 0
    if len(loss) == len(norm):
        broken = ~np.isfinite(norm.value)
    else:
        broken = np.isin(loss.step, norm.step[~np.isfinite(norm.value)])
    return Curve(loss.name, loss.step, np.where(zero & broken, np.nan, loss.value))


def _zeros_at_once(value: Floats) -> NDArray[np.bool_]:
    """Mark exact zeros from the first one to the end that follow upon a loss that was nowhere near zero."""
    zero = value == 0
    at = int(np.argmax(zero))
    fallen = zero.any() and at > 0 and zero[at:].all() and not np.isnan(value[at - 1])
    sudden = fallen and value[at - 1] > 0.1 * np.nanmax(value[:at])
    return zero if sudden else np.zeros_like(zero)


def _sorted(series: Series) -> tuple[Floats, Floats]:
    order = np.argsort(series.step, kind="stable")
    return series.step[order], series.value[order]
