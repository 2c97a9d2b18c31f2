"""Which losses of the library fit which fine-tuning task, and how their options are read from text."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lossmith.errors import InputError, did_you_mean
from lossmith.losses import LOSSES
from lossmith.total import Total

FITTING: dict[str, tuple[str, ...]] = {
    "classification": ("cross_entropy", "focal", "poly", "generalized_cross_entropy", "logit_adjusted"),
    "multi_label": ("binary_cross_entropy", "binary_focal"),
    "regression": ("mse", "mae", "huber", "log_cosh", "general_robust"),
    "tagging": ("cross_entropy", "focal", "poly", "generalized_cross_entropy", "logit_adjusted"),
    "seq2seq": ("linear_cross_entropy",),
    "instruction": ("linear_cross_entropy",),
    "similarity_scored": ("cosent", "mse", "mae", "huber"),
    "similarity_paired": ("info_nce", "decoupled", "siglip"),
    "similarity_triplet": ("triplet", "info_nce"),
}
"""The first of each row is the default."""

OURS = {"weights", "ids", "max_memory", "labels", "key_labels", "positives", "impl", "bias", "logit_scale", "softcap"}
OURS |= {"filter_below"}
BALANCED = ("class_weights", "positive_weights", "alpha", "priors")
ALIASES = {"linear_cross_entropy": "cross_entropy"}


@dataclass(frozen=True)
class TaskLoss:
    """A loss with its options set: (output, target) → Total."""

    name: str
    fn: Callable[..., Total]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, *tensors: Tensor, **named: Any) -> Total:
        """Return the total of a batch; options that are tensors follow it to its device."""
        device = tensors[0].device
        moved = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in self.options.items()}
        return self.fn(*tensors, **named, **moved)

    @property
    def additive(self) -> bool:
        """Whether parts of a batch add up to the loss of the whole."""
        return LOSSES[self.name].additive


def task_loss(
    kind: str, name: str | None, given: Sequence[str], counts: Sequence[float] = (), rows: int = 0
) -> TaskLoss:
    """Return the loss of a task with its options: `kind` a key of FITTING, `given` as "key=value".

    counts: rows of each class (of `rows` in all), from which "balanced" and the priors of logit_adjusted are made.
    Errors: InputError for a loss that does not fit, with those that do, and for an option that it does not have.

    >>> task_loss("classification", None, ["label_smoothing=0.1"]).options
    {'label_smoothing': 0.1}
    """
    fits = FITTING[kind]
    name = fits[0] if name is None else name
    spelled = [ALIASES.get(loss, loss) for loss in fits]
    if name not in fits and name not in spelled:
        known = f"{name} is no loss for this task" if name in LOSSES else f"there is no loss {name!r}"
        hint = did_you_mean(name, spelled)
        raise InputError(
            f"--loss: {known}. Those that fit --task {kind.split('_')[0] if 'similarity' in kind else kind}"
            f"{' with such columns' if 'similarity' in kind else ''}: {', '.join(spelled)}.{hint}"
        )
    if name not in fits:
        name = fits[spelled.index(name)]
    fn = LOSSES[name].fn
    options = _options(name, fn, given, counts, rows)
    if name == "logit_adjusted" and "priors" not in options:
        options["priors"] = torch.tensor(counts, dtype=torch.float32)
    return TaskLoss(name, fn, options)


def _options(
    name: str, fn: Callable[..., Any], given: Sequence[str], counts: Sequence[float], rows: int
) -> dict[str, Any]:
    known = {
        key: p.default
        for key, p in inspect.signature(fn).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY and key not in OURS
    }
    found = {}
    for text in given:
        key, equals, spelled = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not spelled:
            raise InputError(f"--loss-options takes key=value; got {text!r}")
        if key not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise InputError(f"--loss-options: {name} has no option {key!r}; {has}.{did_you_mean(key, known)}")
        found[key] = _value(key, spelled.strip(), known[key], counts, rows)
    return found


def _value(key: str, spelled: str, default: Any, counts: Sequence[float], rows: int) -> Any:
    """Read what an option takes, by its default: a word, yes or no, or else a number or one for each class."""
    if spelled == "balanced":
        if key not in BALANCED or not len(counts):
            raise InputError(f"--loss-options {key}=balanced: only class weights can be; give a number")
        return balanced(key, counts, rows)
    if isinstance(default, str):
        return spelled
    if isinstance(default, bool):
        if spelled.lower() not in ("true", "false"):
            raise InputError(f"--loss-options {key} must be true or false; got {spelled!r}")
        return spelled.lower() == "true"
    numbers = _numbers(key, spelled)
    if key in BALANCED and len(counts) and not all(0 <= number < math.inf for number in numbers):
        raise InputError(f"--loss-options {key} must be 0 or more for every class; got {spelled}")
    if len(numbers) > 1 or spelled.startswith("["):
        if key in BALANCED and len(numbers) != len(counts):
            raise InputError(f"--loss-options {key} takes {len(counts)} numbers, one a class; got {len(numbers)}")
        return torch.tensor(numbers)
    if key in ("class_weights", "positive_weights", "priors"):
        raise InputError(f"--loss-options {key} takes balanced, or {len(counts)} numbers, one a class; got {spelled}")
    return numbers[0]


def _numbers(key: str, spelled: str) -> list[float]:
    try:
        numbers = [float(part) for part in spelled.strip("[]").split(",")]
    except ValueError:
        numbers = [math.nan]
    if any(map(math.isnan, numbers)):
        raise InputError(f"--loss-options {key} must be a number, or numbers separated by commas; got {spelled!r}")
    return numbers


def balanced(key: str, counts: Sequence[float], rows: int) -> Tensor:
    """Return weights that give every class the same say.

    Formula: ``rows/(C·n_c)`` (class weights; their mean over the rows is 1); for positive_weights of several labels
    ``(rows − n_c)/n_c``; priors are the counts themselves.
    Source: King & Zeng 2001, Political Analysis 9(2); scikit-learn, `compute_class_weight`.

    >>> balanced("class_weights", [3, 1], 4)
    tensor([0.6667, 2.0000])
    """
    n = torch.tensor(counts, dtype=torch.float32)
    if key == "priors":
        return n
    n = n.clamp(min=1)
    return (rows - n) / n if key == "positive_weights" else rows / (len(n) * n)
