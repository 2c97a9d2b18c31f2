"""What the callbacks of both trainers share: hear rows, say what is newly wrong, tell whether to stop."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from lossmith.diagnosis import Finding, Watch
from lossmith.errors import InputError

LANGUAGES = ("en", "zh")


class LossWarning(UserWarning):
    """What lossmith has found in the loss of a running training."""


class Watcher:
    """Judge the rows of somebody else's trainer; `found` holds every warning and error said so far."""

    def __init__(self, *, stop_on_error: bool, lang: str, on_finding: Callable[[Finding], None] | None) -> None:
        if lang not in LANGUAGES:
            raise InputError(f"lang must be one of {', '.join(LANGUAGES)}; got {lang!r}")
        self.stop_on_error, self.lang, self.on_finding = stop_on_error, lang, on_finding
        self.watch = Watch()

    @property
    def found(self) -> list[Finding]:
        """The warnings and errors said so far."""
        return self.watch.found

    def begin(self, total_steps: int | None) -> None:
        """Start anew, for a run of so many steps."""
        self.watch = Watch(total_steps)

    def hear(self, row: Mapping[str, Any]) -> bool:
        """Take a row, say what is new, and return whether training should stop."""
        found = self.watch.log(row)
        for finding in found:
            self._say(finding)
        return self.stop_on_error and any(finding.severity == "error" for finding in found)

    def _say(self, finding: Finding) -> None:
        if self.on_finding is not None:
            self.on_finding(finding)
            return
        text = f"[{finding.severity}] {finding.check}: {finding.say(self.lang)} {finding.advise(self.lang)}"
        warnings.warn(text, LossWarning, stacklevel=4)
