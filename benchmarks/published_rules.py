"""What published tools would say of a run's curves, from their documented thresholds: a check name, or none.

Each rule takes a run and returns the names of our checks that its verdict corresponds to. Sources stand beside each
one; where a rule needs what a loss curve does not hold (accuracy, gradients, weights) it is left out, and said so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lossmith.runs import Run

Floats = NDArray[np.float64]


def _values(run: Run, name: str) -> Floats:
    curve = run.curves.get(name)
    return curve.value if curve is not None else np.empty(0)


def _train_at_evals(run: Run) -> tuple[Floats, Floats]:
    """Return training and eval loss at the evals, finite ones only."""
    train, evals = run.curves.get("loss"), run.curves.get("eval_loss")
    if train is None or evals is None or not len(train):
        return np.empty(0), np.empty(0)
    good = np.isfinite(train.value)
    keep = np.isfinite(evals.value)
    if not good.any():
        return np.empty(0), np.empty(0)
    return np.interp(evals.step[keep], train.step[good], train.value[good]), evals.value[keep]


def sagemaker_overfit(run: Run, ratio: float = 0.1, patience: int = 1) -> set[str]:
    """(val − train) / train > 0.1 for more than one step (Amazon SageMaker Debugger built-in rule Overfit)."""
    train, evals = _train_at_evals(run)
    over = (evals - train) > ratio * np.abs(train)
    return {"overfit"} if any(over[i : i + patience + 1].all() for i in range(len(over) - patience)) else set()


def sagemaker_loss_not_decreasing(run: Run, steps: int = 10, percent: float = 0.1) -> set[str]:
    """The loss has not fallen by 0.1 % against ten steps before (SageMaker Debugger LossNotDecreasing)."""
    value = _values(run, "loss") if len(_values(run, "loss")) else _values(run, "eval_loss")
    value = value[np.isfinite(value)]
    old, new = value[:-steps], value[steps:]
    return {"plateau"} if len(new) and bool(np.any(new > old * (1 - percent / 100))) else set()


def sagemaker_exploding_tensor(run: Run) -> set[str]:
    """Any NaN or infinity (SageMaker Debugger ExplodingTensor)."""
    bad = any(not np.isfinite(_values(run, name)).all() for name in ("loss", "eval_loss"))
    return {"nan"} if bad else set()


def early_stopping(run: Run, patience: int = 10) -> set[str]:
    """No new lowest eval loss for `patience` evals (Keras and Lightning EarlyStopping, min_delta 0)."""
    value = _values(run, "eval_loss")
    best, since = np.inf, 0
    for now in value[np.isfinite(value)]:
        best, since = (now, 0) if now < best else (best, since + 1)
        if since >= patience:
            return {"overfit"}
    return set()


def umlaut(run: Run) -> set[str]:
    """Overfit: one epoch with rising eval, not rising training loss; rate too high: above 0.01 (UMLAUT heuristics)."""
    train, evals = _train_at_evals(run)
    found = {"overfit"} if np.any((np.diff(evals) > 0) & (np.diff(train) <= 0)) else set()
    rate = _values(run, "learning_rate")
    return found | ({"lr_too_large"} if len(rate) and np.nanmax(rate) > 0.01 else set())


def autotrainer(run: Run, explode: float = 1e3) -> set[str]:
    """NaN or a loss of 1,000: exploded (AUTOTRAINER). Its other symptoms need accuracy, gradients or weights."""
    value = _values(run, "loss")
    found = {"nan"} if not np.isfinite(value).all() else set()
    return found | ({"diverged"} if np.any(value >= explode) else set())


def deepdiagnosis(run: Run, epochs: int = 5) -> set[str]:
    """Loss not decreasing: the last five are exactly equal; NaN or infinity (DeepDiagnosis)."""
    value = _values(run, "loss")
    found = {"nan"} if not np.isfinite(value).all() else set()
    last = value[-epochs:]
    return found | ({"plateau"} if len(last) == epochs and np.mean(last) == np.max(last) else set())


def textbook_spike(run: Run, sigmas: float = 8.0, rise: float = 0.15, window: int = 50) -> set[str]:
    """A point 8 robust deviations and 15 % above the running median (usual practice)."""
    value = _values(run, "loss")
    value = value[np.isfinite(value)]
    if len(value) < 5:
        return set()
    width = min(window, len(value))
    middle = np.median(
        np.lib.stride_tricks.sliding_window_view(np.pad(value, (width - 1, 0), mode="edge"), width), axis=1
    )
    rest = value - middle
    scale = 1.4826 * np.median(np.abs(rest - np.median(rest)))
    return {"spike"} if np.any((rest > sigmas * scale) & (rest > rise * np.abs(middle))) else set()


RULES: dict[str, Callable[[Run], set[str]]] = {
    "SageMaker Overfit": sagemaker_overfit,
    "SageMaker LossNotDecreasing": sagemaker_loss_not_decreasing,
    "SageMaker ExplodingTensor": sagemaker_exploding_tensor,
    "Keras EarlyStopping, patience 10": early_stopping,
    "Lightning EarlyStopping, patience 3": lambda run: early_stopping(run, 3),
    "UMLAUT": umlaut,
    "AUTOTRAINER": autotrainer,
    "DeepDiagnosis": deepdiagnosis,
    "textbook spike rule": textbook_spike,
}
