"""Classification: cross-entropy and its relatives, for classes that exclude each other and for those that do not."""

from __future__ import annotations

from lossmith.losses._spec import LossSpec
from lossmith.losses.classification import _binary, _cross_entropy, _focal
from lossmith.losses.classification._binary import binary_cross_entropy, binary_focal
from lossmith.losses.classification._cross_entropy import cross_entropy, logit_adjusted
from lossmith.losses.classification._focal import focal, generalized_cross_entropy, poly

__all__ = [
    "SPECS",
    "binary_cross_entropy",
    "binary_focal",
    "cross_entropy",
    "focal",
    "generalized_cross_entropy",
    "logit_adjusted",
    "poly",
]

SPECS: tuple[LossSpec, ...] = (*_cross_entropy.SPECS, *_binary.SPECS, *_focal.SPECS)
