"""Finding: what a check saw, where, how sure it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from lossmith.diagnosis._words import advice_of, message_of
from lossmith.runs import Run, json_number

Severity = Literal["info", "warning", "error"]
Check = Callable[[Run], Iterable["Finding"]]


@dataclass(frozen=True)
class Finding:
    """One thing a check has seen in a run.

    `curve`, `start` and `stop` say where (steps as logged), `evidence` holds the numbers that show it, `sure` how sure
    the check is (0 to 1), `source` where the rule comes from. `kind` picks the wording where a check has several.

    >>> seen = {"step": 3010, "count": 6, "last_finite": 4.25}
    >>> finding = Finding("nan", "error", "loss", 3010, 3060, seen, kind="final")
    >>> finding.message
    'The training loss is not a number from step 3,010 on (6 points); its last finite value was 4.25.'
    """

    check: str
    severity: Severity
    curve: str
    start: int
    stop: int
    evidence: dict[str, float] = field(default_factory=dict)
    sure: float = 1.0
    source: str = ""
    kind: str = ""

    @property
    def message(self) -> str:
        """Return one sentence that says what was seen, in English."""
        return self.say("en")

    @property
    def advice(self) -> str:
        """Return what to change, in English, in the names the parameters have."""
        return self.advise("en")

    def say(self, lang: str) -> str:
        """Return the sentence in a language: "en" or "zh"."""
        return message_of(self, lang)

    def advise(self, lang: str) -> str:
        """Return the advice in a language: "en" or "zh"."""
        return advice_of(self, lang)

    def to_json(self, lang: str = "en") -> dict[str, Any]:
        """Return the finding as JSON can carry it."""
        return {
            "check": self.check,
            "severity": self.severity,
            "curve": self.curve,
            "start": self.start,
            "stop": self.stop,
            "message": self.say(lang),
            "advice": self.advise(lang),
            "evidence": {name: json_number(value) for name, value in self.evidence.items()},
            "sure": self.sure,
            "source": self.source,
        }
