"""runs: what a training run left behind, as curves (numpy only; `readers/`, one file per log format, comes beside)."""

from __future__ import annotations

from lossmith.runs._curve import Curve, Run
from lossmith.runs._curve_json import from_curve_json, to_curve_json
from lossmith.runs._folder import json_lines, read_json, read_run
from lossmith.runs._numbers import json_number, parse_number

__all__ = [
    "Curve",
    "Run",
    "from_curve_json",
    "json_lines",
    "json_number",
    "parse_number",
    "read_json",
    "read_run",
    "to_curve_json",
]
