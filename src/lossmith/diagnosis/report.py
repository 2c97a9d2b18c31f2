"""A run, what was found in it, its forecast and its picture: what every report of `lossmith read` is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lossmith.diagnosis._finding import Finding
from lossmith.diagnosis._words import CURVES
from lossmith.diagnosis.checks import diagnose
from lossmith.errors import LossmithError
from lossmith.pictures import Mark, Panel, loss_panel
from lossmith.runs import Run, json_number

if TYPE_CHECKING:
    from lossmith.diagnosis.forecast import Forecast

NAMES = {"loss": "train", "eval_loss": "eval", "learning_rate": "lr", "grad_norm": "grad norm"}


SETTLES = {  # what a column would decide: overfitting always, causes only where their symptoms were found
    "eval_loss": ("overfit", "train_val_gap", "loss_scale", "suspiciously_low"),
    "learning_rate": ("plateau", "slow", "lr_too_large", "diverged", "still_falling", "epoch_staircase"),
    "grad_norm": ("spike", "nan", "diverged"),
}
UNSETTLED = {
    "en": "{column} was not logged; it would settle more about: {checks}",
    "zh": "没有记录 {column}；有了它才能进一步判断：{checks}",
}


@dataclass(frozen=True, eq=False)
class Report:
    """Hold a run, its findings and, where there is enough to go by, a forecast of its loss."""

    run: Run
    findings: Sequence[Finding]
    forecast: Forecast | None = None

    @classmethod
    def of(cls, run: Run, *, steps: int | None = None, target: float | None = None) -> Report:
        """Diagnose a run and forecast its loss: at twice its steps, or at `steps`, and when it reaches `target`."""
        findings = diagnose(run)
        return cls(run, findings, _forecast(run, findings, steps, target))

    @cached_property
    def panel(self) -> Panel | None:
        """The curve of the loss with the findings that are no mere notes marked on it; None without a finite loss."""
        panel = loss_panel(self.run)
        if panel is None:
            return None
        unit = "" if self.run.tool != "lossmith" else panel.unit
        return replace(panel, marks=marks_of(self.findings), unit=unit or "as logged")

    def overview(self, lang: str = "en") -> str:
        """Say in a line what was read: the tool, and each curve with its points and last value."""
        curves = [
            f"{NAMES.get(name, name)} {len(curve):,} × → {curve.value[-1]:.4g}"
            for name, curve in self.run.curves.items()
            if name in ("loss", "eval_loss") and len(curve)
        ]
        curves += [NAMES[name] for name in ("learning_rate", "grad_norm") if name in self.run.curves]
        return " · ".join([self.run.tool, *curves])

    def said_forecast(self, lang: str = "en") -> str:
        """Say the forecast in a sentence or two; empty where there is none."""
        return "" if self.forecast is None else _said(self.forecast, self.run, lang)

    @cached_property
    def unsettled(self) -> dict[str, tuple[str, ...]]:
        """The columns that were not logged, with the checks that they would settle for this run."""
        found = {finding.check for finding in self.findings}
        wanted = {column: checks for column, checks in SETTLES.items() if not len(self.run.curves.get(column, ()))}
        asked = {
            column: checks if column == "eval_loss" else tuple(check for check in checks if check in found)
            for column, checks in wanted.items()
        }
        return {column: checks for column, checks in asked.items() if checks}

    def said_unsettled(self, lang: str = "en") -> list[str]:
        """Say which column would settle what, a sentence each."""
        return [
            UNSETTLED[lang].format(column=column, checks=", ".join(checks)) for column, checks in self.unsettled.items()
        ]

    def to_json(self, lang: str = "en") -> dict[str, Any]:
        """Return the report as JSON can carry it."""
        return {
            "source": self.run.source,
            "tool": self.run.tool,
            "curves": {
                name: {
                    "points": len(curve),
                    "first": [int(curve.step[0]), json_number(curve.value[0])],
                    "last": [int(curve.step[-1]), json_number(curve.value[-1])],
                }
                for name, curve in self.run.curves.items()
                if len(curve)
            },
            "findings": [finding.to_json(lang) for finding in self.findings],
            "unsettled": {column: list(checks) for column, checks in self.unsettled.items()},
            "forecast": None if self.forecast is None else asdict(self.forecast),
        }


def marks_of(findings: Sequence[Finding]) -> tuple[Mark, ...]:
    """Return where on a curve the findings are that have a place of their own there."""
    return tuple(
        Mark(finding.start, finding.stop, finding.check, finding.severity)
        for finding in findings
        if finding.severity != "info" or finding.check in ("lr_drop", "initial_plateau", "epoch_staircase")
    )


def findings_of(run: Run) -> list[Finding]:
    """Diagnose a run of ours: what was done again after a resume counts once."""
    curves = {name: curve.latest() for name, curve in run.curves.items()}
    return diagnose(replace(run, curves=curves))


def _forecast(run: Run, findings: Sequence[Finding], steps: int | None, target: float | None) -> Forecast | None:
    """Forecast a run that goes on as it does: none where it failed or overfits, or where its points are too few."""
    if any(finding.check in ("nan", "diverged", "lr_too_large", "overfit") for finding in findings):
        return None
    from lossmith.diagnosis.forecast import forecast

    try:
        return forecast(run, steps=steps, target=target)
    except LossmithError:
        if steps is not None or target is not None:
            raise
        return None


AHEAD = {
    "en": "If it goes on like this, the {curve} will be {value:.4g} at step {at:,} "
    "({level:.0f} % interval: {low:.4g} to {high:.4g}).",
    "zh": "照此继续，{curve}在第 {at:,} 步将为 {value:.4g}（{level:.0f} % 区间：{low:.4g} 到 {high:.4g}）。",
}
DOUBLED = {
    "en": "A run of twice as many steps, its schedule stretched, would end at {value:.4g} ({low:.4g} to {high:.4g}).",
    "zh": "步数加倍、调度形状相同的训练将以 {value:.4g} 结束（{low:.4g} 到 {high:.4g}）。",
}
REACHED = {
    "en": "It reaches {target:.4g} at about step {step} (between {low} and {high}).",
    "zh": "约在第 {step} 步达到 {target:.4g}（{low} 到 {high} 之间）。",
}
NEVER = {"en": "It does not reach {target:.4g} in any foreseeable time.", "zh": "在可预见的时间内达不到 {target:.4g}。"}
OPEN = {"en": "never", "zh": "永远达不到"}


def _said(ahead: Forecast, run: Run, lang: str) -> str:
    """Say a forecast: the end where it lies ahead, what twice the steps would buy, and when a target is reached."""
    name = CURVES[lang].get(ahead.curve, ahead.curve)
    parts = []
    if ahead.at_step > 1.02 * int(run.curves[ahead.curve].step[-1]):
        numbers = {"value": ahead.value, "low": ahead.low, "high": ahead.high, "level": 100 * ahead.level}
        parts.append(AHEAD[lang].format(curve=name, at=ahead.at_step, **numbers))
    parts.append(DOUBLED[lang].format(value=ahead.doubled.value, low=ahead.doubled.low, high=ahead.doubled.high))
    if ahead.target is not None:
        steps = {
            key: OPEN[lang] if step is None else f"{step:,}"
            for key, step in (("step", ahead.reach_step), ("low", ahead.reach_low), ("high", ahead.reach_high))
        }
        words = NEVER if ahead.reach_step is None and ahead.reach_low is None else REACHED
        parts.append(words[lang].format(target=ahead.target, **steps))
    return ("" if lang == "zh" else " ").join(parts)
