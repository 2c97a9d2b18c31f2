"""Losses: tensors in, a Total out; no model, no mesh, no logger. `LOSSES` is the table of all of them."""

from lossmith.losses import adaptive as _adaptive
from lossmith.losses import classification as _classification
from lossmith.losses import contrastive as _contrastive
from lossmith.losses import divergence as _divergence
from lossmith.losses import regression as _regression
from lossmith.losses._module import Module
from lossmith.losses._spec import LossSpec
from lossmith.losses.adaptive import (
    AdaptiveRobust,
    GradNorm,
    ScheduledFocal,
    Temperature,
    UncertaintyWeighting,
    general_robust,
)
from lossmith.losses.classification import (
    binary_cross_entropy,
    binary_focal,
    cross_entropy,
    focal,
    generalized_cross_entropy,
    logit_adjusted,
    poly,
)
from lossmith.losses.contrastive import cosent, decoupled, info_nce, siglip, supervised_contrastive
from lossmith.losses.divergence import js, kl, total_variation
from lossmith.losses.linear_cross_entropy import SPECS as _LINEAR
from lossmith.losses.linear_cross_entropy import (
    TokenStatistics,
    linear_cross_entropy,
    linear_distillation,
    token_log_probs,
    token_statistics,
)
from lossmith.losses.regression import gaussian_nll, huber, log_cosh, mae, mse
from lossmith.losses.triplet import SPECS as _TRIPLET
from lossmith.losses.triplet import mined_triplet, triplet

LOSSES: dict[str, LossSpec] = {
    spec.name: spec
    for specs in (
        _classification.SPECS,
        _LINEAR,
        _divergence.SPECS,
        _regression.SPECS,
        _contrastive.SPECS,
        _TRIPLET,
        _adaptive.SPECS,
    )
    for spec in specs
}

__all__ = [
    "LOSSES",
    "AdaptiveRobust",
    "GradNorm",
    "LossSpec",
    "Module",
    "ScheduledFocal",
    "Temperature",
    "TokenStatistics",
    "UncertaintyWeighting",
    "binary_cross_entropy",
    "binary_focal",
    "cosent",
    "cross_entropy",
    "decoupled",
    "focal",
    "gaussian_nll",
    "general_robust",
    "generalized_cross_entropy",
    "huber",
    "info_nce",
    "js",
    "kl",
    "linear_cross_entropy",
    "linear_distillation",
    "log_cosh",
    "logit_adjusted",
    "mae",
    "mined_triplet",
    "mse",
    "poly",
    "siglip",
    "supervised_contrastive",
    "token_log_probs",
    "token_statistics",
    "total_variation",
    "triplet",
]
