"""Losses straight from hidden states and the output head: the logits are never all in memory."""

from __future__ import annotations

from lossmith.losses.linear_cross_entropy._checks import choose
from lossmith.losses.linear_cross_entropy._distillation import linear_distillation
from lossmith.losses.linear_cross_entropy._function import linear_cross_entropy
from lossmith.losses.linear_cross_entropy._specs import SPECS
from lossmith.losses.linear_cross_entropy._tokens import TokenStatistics, token_log_probs, token_statistics

__all__ = [
    "SPECS",
    "TokenStatistics",
    "choose",
    "linear_cross_entropy",
    "linear_distillation",
    "token_log_probs",
    "token_statistics",
]
