"""Numbers and text as people read them: the small formatting functions of the report and the terminal."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path
from typing import Any

# Control characters are shown by the pictures Unicode has for them: they are invalid in HTML and invisible elsewhere.
_PICTURES = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {127: 0x2421}
_VISIBLE = _PICTURES | {9: "⇥", 10: "⏎", 32: "␠", 0xA0: "⍽", 0x3000: "□", 0x200B: "∅"}


def visible(text: str) -> str:
    """Return `text` with spaces, line ends and control characters made visible.

    >>> visible("to be\\n"), visible("\\t\\x00")
    ('to␠be⏎', '⇥␀')
    """
    return clean(text.translate(_VISIBLE))


def clean(text: str) -> str:
    """Return `text` fit for a file of text: control characters made visible, lone surrogates replaced.

    >>> clean("a\\x07b\\ud800")
    'a␇b?'
    """
    return text.replace("\r\n", "\n").translate(_PICTURES).encode("utf-8", "replace").decode("utf-8")


def number(value: Any, digits: int = 4) -> str:
    """Return a number with `digits` significant digits, thousands grouped, "—" for none.

    >>> number(1.88642), number(1234567), number(0.0003), number(None), number(float("nan")), number(104857.6)
    ('1.886', '1,234,567', '0.0003', '—', 'nan', '104,858')
    """
    if value is None:
        return "—"
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value:,}"
    if value == 0 or 1e-4 <= abs(value) < 10**digits:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
        return f"{value:,.{decimals}f}" if abs(value) >= 1 else f"{value:.{digits}g}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.{digits}g}"


def fixed(value: float | None, decimals: int = 3) -> str:
    """Return a number with so many decimals, as a column of a table needs; "—" for none."""
    return "—" if value is None else f"{value:,.{decimals}f}"


def duration(seconds: float | None) -> str:
    """Return a time in the units people say it in.

    >>> duration(3.21), duration(192), duration(7384)
    ('3.2 s', '3 min 12 s', '2 h 3 min')
    """
    if seconds is None or not math.isfinite(seconds):
        return "—"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(n_bytes: float) -> str:
    """Return a number of bytes in the decimal unit that suits it.

    >>> size(812), size(5_436_000)
    ('812 bytes', '5.44 MB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:.3g} {name}"
    return f"{n_bytes:.0f} bytes"


def program() -> str:
    """Return what to type for `lossmith`: its path, where it was called by one and is not on the search path.

    >>> program().endswith("lossmith")
    True
    """
    called = Path(sys.argv[0])
    return str(called.absolute()) if called.name == "lossmith" and shutil.which("lossmith") is None else "lossmith"
