"""Findings and curves as a terminal shows them: shared by `lossmith read` and `lossmith train`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from lossmith.diagnosis import Finding
    from lossmith.diagnosis.report import Report

STYLES = {
    "raw": "bright_blue",
    "train": "blue",
    "eval": "yellow",
    "": "dim",
    "error": "bold red",
    "warning": "yellow",
    "info": "dim",
}
SIGNS = {"error": "✗", "warning": "!", "info": "·"}


def show_report(report: Report, console: Console, lang: str = "en", *, curve: bool = True) -> None:
    """Print a run: what it is, its curve with the findings marked, the findings, the forecast."""
    from lossmith.pictures.terminal import draw

    console.print(Text(report.run.source, style="bold"), soft_wrap=True)
    console.print(Text(report.overview(lang), style="dim"))
    if curve and report.panel is not None and len(report.panel.lines[0].x) > 1:
        for line in draw(report.panel, min(console.width, 110)):
            console.print(Text.assemble(*((text, STYLES[role]) for role, text in line)), no_wrap=True, crop=False)
        console.print(_legend(report))
    for finding in report.findings:
        show_finding(finding, console, lang)
    for sentence in report.said_unsettled(lang):
        console.print(Text(f"? {sentence}", style="dim"))
    said = report.said_forecast(lang)
    if said:
        console.print(Text(f"→ {said}", style="cyan"))
    console.print()


def _legend(report: Report) -> Text:
    assert report.panel is not None
    names = [(f"━ {line.label}  ", STYLES.get(line.role, "")) for line in report.panel.lines]
    axes = [name for name, log in (("step", report.panel.log_x), ("loss", report.panel.log_y)) if log]
    return Text.assemble("        ", *names, (f"({' and '.join(axes)} logarithmic)" if axes else "", "dim"))


def show_finding(finding: Finding, console: Console, lang: str = "en") -> None:
    """Print a finding: what, and below it what to do."""
    head = Text.assemble(
        (f"{SIGNS[finding.severity]} {finding.check}", STYLES[finding.severity]), ": ", finding.say(lang)
    )
    console.print(head)
    advice = finding.advise(lang)
    if advice and finding.severity != "info":
        console.print(Text(f"  {advice}", style="dim"))


def show_line(report: Report, console: Console) -> None:
    """Print a run in a line: its findings by name, and its source."""
    names = Text(" ").join(Text(f.check, style=STYLES[f.severity]) for f in report.findings) or Text("—")
    console.print(Text.assemble(names, "  ", (report.run.source, "dim")), soft_wrap=True)
