"""diagnosis: what a training log says is wrong, with evidence, and what to change (numpy only)."""

from __future__ import annotations

from lossmith.diagnosis._finding import Check, Finding
from lossmith.diagnosis._resolve import resolved
from lossmith.diagnosis.diagnose import CHECKS, diagnose

__all__ = ["CHECKS", "Check", "Finding", "diagnose", "resolved"]
