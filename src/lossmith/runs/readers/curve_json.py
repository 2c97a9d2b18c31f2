"""Curve JSON, our interchange form: `{"source": {...}, "train": [[step, loss], ...], "eval": [...], "lr": [...]}`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from lossmith.runs._curve import Run
from lossmith.runs._curve_json import from_curve_json
from lossmith.runs._json import load
from lossmith.runs._text import head

_LOOK = re.compile(rb'"(?:train|eval)"\s*:\s*\[\s*[\[\]]')


class CurveJson:
    """Read a Curve JSON file, or a list of them."""

    name = "curve_json"
    tool = "curve JSON"

    def sniff(self, path: Path) -> bool:
        """Return whether the file begins as JSON and has lists of points named train or eval."""
        start = head(path)
        return start.lstrip()[:1] in (b"{", b"[") and _LOOK.search(start) is not None

    def read(self, path: Path) -> list[Run]:
        """Return one run an object."""
        data = load(path)
        found = data if isinstance(data, list) else [data]
        runs = [from_curve_json(item) for item in found]
        return [replace(run, source=f"{path}#{i + 1}" if i else str(path)) for i, run in enumerate(runs)]


READER = CurveJson()
