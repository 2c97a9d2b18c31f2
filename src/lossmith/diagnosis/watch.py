"""Findings while a run goes on: each said once, and only what a run that has not ended can be told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from lossmith.diagnosis._finding import Finding
from lossmith.diagnosis.checks import diagnose
from lossmith.runs import Curve, Run, parse_number

PATIENT = frozenset({"plateau", "slow"})  # said only when a good part of the run has passed
POINTS = 20  # points of the loss from which on a run is judged; NaN and infinity are told at once


class Watch:
    """Hear of a run row by row, as the HF Trainer logs them, and return what is newly wrong.

    `total_steps`: the planned steps, of which a fifth must have passed before a plateau is called one. `loss_unit`:
    what the loss is measured in ("nats per token"), if that is known. Rows are judged at every eval and each time the
    log has grown by a twentieth, so that the time it takes does not grow with the run.

    >>> watch = Watch()
    >>> rows = [{"step": step, "loss": 5 - 0.01 * step} for step in range(1, 60)] + [{"step": 60, "loss": float("nan")}]
    >>> [finding.check for row in rows for finding in watch.log(row)]
    ['nan']
    """

    def __init__(
        self, total_steps: int | None = None, *, source: str = "", points: int = POINTS, loss_unit: str = ""
    ) -> None:
        self.total_steps, self.source, self.points, self.loss_unit = total_steps, source, points, loss_unit
        self.found: list[Finding] = []
        self._rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._said: set[tuple[str, str, str]] = set()
        self._next = points

    def log(self, row: Mapping[str, Any]) -> list[Finding]:
        """Take a row ({"step": 10, "loss": 4.2, "learning_rate": 1e-3} or {"step": 100, "eval_loss": 4.1})."""
        step = parse_number(row.get("step"))
        if step is None:
            return []
        for name, value in row.items():
            number = parse_number(value) if name != "step" else None
            if number is not None:
                self._rows[name].append((step, number))
        return self.look(self.run()) if self._due(row) else []

    def run(self) -> Run:
        """Return what was heard as a run."""
        curves = {name: Curve.of(name, rows) for name, rows in self._rows.items()}
        return Run(self.source, "live", curves, {"loss_unit": self.loss_unit})

    def _due(self, row: Mapping[str, Any]) -> bool:
        count = max((len(self._rows[name]) for name in ("loss", "eval_loss") if name in self._rows), default=0)
        broken = any(
            name in row and not abs(parse_number(row[name]) or 0.0) < float("inf")
            for name in ("loss", "eval_loss", "grad_norm")
        )
        if not (broken or "eval_loss" in row or count >= self._next):
            return False
        self._next = max(self.points, count + max(1, count // 20))
        return True

    def look(self, run: Run) -> list[Finding]:
        """Return the warnings and errors of a run that were not returned before."""
        found = []
        for finding in diagnose(run):
            key = (run.source, finding.check, finding.kind)
            if finding.severity != "info" and key not in self._said and self._ripe(run, finding):
                self._said.add(key)
                found.append(finding)
        self.found += found
        return found

    def _ripe(self, run: Run, finding: Finding) -> bool:
        """Whether enough of the run has passed to say this of it."""
        if finding.check == "nan":
            return True
        curve = run.curves.get("loss") or run.curves["eval_loss"]
        if finding.check in PATIENT:
            return len(curve) >= 2 * self.points and bool(curve.step[-1] >= 0.2 * (self.total_steps or 0))
        evals = run.curves.get("eval_loss")
        if finding.check == "overfit":
            return evals is not None and len(evals) >= 4
        return len(curve) >= self.points
