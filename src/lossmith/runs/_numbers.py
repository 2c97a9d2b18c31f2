"""Numbers as JSON can carry them: non-finite ones are the strings "nan", "inf", "-inf"."""

from __future__ import annotations

import math
from typing import Any

_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def parse_number(value: Any) -> float | None:
    """Return the number a JSON value stands for, None when it stands for none.

    >>> parse_number(3), parse_number("-inf"), parse_number("adamw"), parse_number(True)
    (3.0, -inf, None, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value)
    return _NON_FINITE.get(value) if isinstance(value, str) else None


def json_number(value: float) -> float | str:
    """Return `value` as JSON can carry it.

    >>> json_number(1.5), json_number(float("nan")), json_number(float("-inf"))
    (1.5, 'nan', '-inf')
    """
    value = float(value)
    return value if math.isfinite(value) else str(value)
