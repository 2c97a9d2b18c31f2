"""Losses that own tensors: learned shape and scale, weights of several terms, temperature; and a scheduled γ."""

from __future__ import annotations

from lossmith.losses._spec import LossSpec
from lossmith.losses.adaptive import _robust, _schedule, _temperature, _weighting
from lossmith.losses.adaptive._robust import AdaptiveRobust, general_robust
from lossmith.losses.adaptive._schedule import ScheduledFocal
from lossmith.losses.adaptive._temperature import Temperature
from lossmith.losses.adaptive._weighting import GradNorm, UncertaintyWeighting

__all__ = [
    "SPECS",
    "AdaptiveRobust",
    "GradNorm",
    "ScheduledFocal",
    "Temperature",
    "UncertaintyWeighting",
    "general_robust",
]

SPECS: tuple[LossSpec, ...] = (*_robust.SPECS, *_schedule.SPECS, *_temperature.SPECS, *_weighting.SPECS)
