"""runs: what a training run left behind, as curves; `readers/` has one file per log format (numpy only)."""

from __future__ import annotations

from lossmith.runs._curve import Curve, Run
from lossmith.runs._curve_json import from_curve_json, to_curve_json
from lossmith.runs._find import Skipped
from lossmith.runs._folder import json_lines, read_json, read_run, terms_of
from lossmith.runs._numbers import json_number, parse_number
from lossmith.runs._read import Reading, Taken, read
from lossmith.runs.readers import Reader, readers

__all__ = [
    "Curve",
    "Reader",
    "Reading",
    "Run",
    "Skipped",
    "Taken",
    "from_curve_json",
    "json_lines",
    "json_number",
    "parse_number",
    "read",
    "read_json",
    "read_run",
    "readers",
    "terms_of",
    "to_curve_json",
]
