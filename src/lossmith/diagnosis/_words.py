"""What the findings say and advise, in English and in Chinese; the numbers come from their evidence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lossmith.diagnosis._words_en import ENGLISH
from lossmith.diagnosis._words_zh import CHINESE
from lossmith.errors import InputError

if TYPE_CHECKING:
    from lossmith.diagnosis._finding import Finding

LANGUAGES = {"en": ENGLISH, "zh": CHINESE}
CURVES = {
    "en": {"loss": "training loss", "eval_loss": "eval loss"},
    "zh": {"loss": "训练损失", "eval_loss": "验证损失"},
}


def message_of(finding: Finding, lang: str) -> str:
    """Return the sentence of a finding in a language."""
    return _entry(finding, lang)[0].format(**_numbers(finding, lang))


def advice_of(finding: Finding, lang: str) -> str:
    """Return the advice of a finding in a language."""
    return _entry(finding, lang)[1].format(**_numbers(finding, lang))


def _entry(finding: Finding, lang: str) -> tuple[str, str]:
    if lang not in LANGUAGES:
        raise InputError(f"lang must be one of {', '.join(LANGUAGES)}; got {lang!r}")
    words = LANGUAGES[lang]
    return words.get(f"{finding.check}.{finding.kind}") or words.get(finding.check) or ("{check}", "")


def _numbers(finding: Finding, lang: str) -> dict[str, str]:
    out = {name: figure(name, value) for name, value in finding.evidence.items()}
    out |= {f"{name}_percent": f"{100 * value:.3g} %" for name, value in finding.evidence.items()}
    curve = CURVES[lang].get(finding.curve, finding.curve)
    return out | {"check": finding.check, "start": f"{finding.start:,}", "stop": f"{finding.stop:,}", "curve": curve}


def figure(name: str, value: float) -> str:
    """Return a number of the evidence as people read it: counts and steps whole, the rest to four digits.

    >>> figure("lowest_step", 12000.0), figure("last", 1.23456), figure("learning_rate", 3e-5)
    ('12,000', '1.235', '3e-05')
    """
    whole = name.endswith(("step", "points", "count", "classes", "epochs", "vocabulary", "_at"))
    if whole and math.isfinite(value):
        return f"{value:,.0f}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
