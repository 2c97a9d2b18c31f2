"""diagnosis: what a training log says is wrong, with evidence, and what to change (numpy only)."""

from __future__ import annotations

from lossmith.diagnosis._finding import Check, Finding
from lossmith.diagnosis._resolve import resolved
from lossmith.diagnosis.checks import CHECKS, diagnose
from lossmith.diagnosis.comparison import Standing, compare
from lossmith.diagnosis.watch import Watch

__all__ = ["CHECKS", "Check", "Finding", "Standing", "Watch", "compare", "diagnose", "resolved"]
