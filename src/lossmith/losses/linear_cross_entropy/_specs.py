"""The rows of the table LOSSES for the losses of a linear map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossmith.losses._spec import LossSpec
from lossmith.losses.linear_cross_entropy import _distillation
from lossmith.losses.linear_cross_entropy._function import linear_cross_entropy
from lossmith.losses.linear_cross_entropy._reference import reference
from lossmith.losses.linear_cross_entropy._tokens import token_log_probs, token_statistics
from lossmith.total import Total

ROWS, WIDTH, CLASSES = 70, 6, 11


def _example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    """Seventy rows; with max_memory of a variant in many blocks: accumulating too narrowly shows only then."""

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    return {
        "hidden": leaf(ROWS, WIDTH),
        "head": leaf(CLASSES, WIDTH),
        "targets": torch.randint(CLASSES, (ROWS,), generator=generator),
        "bias": leaf(CLASSES),
        "weights": torch.rand(ROWS, generator=generator, dtype=torch.float64).to(dtype) + 0.5,
    }


def _plain(
    *args: Tensor, max_memory: int | None = None, impl: str = "auto", filter_below: float = 0.0, **options: Any
) -> Total:
    return reference(*args, **options) if args else reference(**options)


def _distillation_example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    one = _example(generator, dtype)
    del one["targets"]
    teacher = torch.randn(ROWS, 4, generator=generator, dtype=torch.float64).to(dtype)
    head = torch.randn(CLASSES, 4, generator=generator, dtype=torch.float64).to(dtype)
    return one | {"teacher_hidden": teacher, "teacher_head": head}


def _two_classes(log_odds: Tensor) -> Tensor:
    """Surprisal of the right one of two classes as a function of its probability."""
    return -log_odds.log()


_CLASS_WEIGHTS = torch.arange(1.0, CLASSES + 1) / CLASSES
SPECS: tuple[LossSpec, ...] = (
    LossSpec(
        "linear_cross_entropy",
        "linear_cross_entropy",
        linear_cross_entropy,
        _plain,
        _example,
        ("hidden", "targets", "weights"),
        (
            {},
            {"max_memory": 1},
            {"softcap": 3.0, "logit_scale": 0.5, "max_memory": 2000},
            {"label_smoothing": 0.1, "z_loss": 0.01},
            {"class_weights": _CLASS_WEIGHTS, "label_smoothing": 0.2, "z_loss": 0.1, "softcap": 5.0},
        ),
        picture="probability",
        curve=_two_classes,
    ),
    LossSpec("token_log_probs", "linear_cross_entropy", token_log_probs, picture="probability", curve=_two_classes),
    LossSpec("token_statistics", "linear_cross_entropy", token_statistics),
    LossSpec(
        "linear_distillation",
        "linear_cross_entropy",
        _distillation.linear_distillation,
        _distillation.reference,
        _distillation_example,
        ("hidden", "teacher_hidden", "weights"),
        (
            {},
            {"beta": 1.0, "temperature": 2.0, "rescale": True, "max_memory": 1},
            {"beta": 0.3, "temperature": 0.7},
            {"top_k": 4, "softcap": 3.0, "teacher_softcap": 4.0, "logit_scale": 0.5},
        ),
    ),
)
