"""lossmith read: any training log in; what it says, what is wrong and what to change out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from lossmith.errors import DataError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from lossmith.diagnosis import Standing
    from lossmith.diagnosis.report import Report
    from lossmith.pictures import Panel
    from lossmith.runs import Reading

File = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")]
SHOWN = 20  # runs shown in full in a terminal; more are one line each


@dataclass
class Args:
    """Read training logs of any tool: curves, findings, advice."""

    paths: Positional[Annotated[list[str], arg(metavar="PATH")]]
    """Files, folders, patterns; "-" reads standard input."""
    lang: Literal["en", "zh"] = "en"
    """Language of findings and advice."""
    compare: FlagCreatePairsOff[bool] = False
    """Say which run is ahead at equal steps, tokens and time, and since when."""
    steps: int | None = None
    """Forecast the loss at this step (default: at twice the steps of the log)."""
    target: float | None = None
    """Forecast the step at which this loss is reached."""
    follow: FlagCreatePairsOff[bool] = False
    """Go on reading a log that is being written; say new findings as they arise; end with exit code 1 at an error."""
    interval: float = 2.0
    """Seconds between two looks at the log, with --follow."""
    on_error: Annotated[str | None, arg(metavar="CMD", help_behavior_hint="")] = None
    """Run this command at an error, with --follow, and go on; the finding is in $LOSSMITH_FINDING, as JSON."""
    html: File = None
    """Write the report to this file, as one page."""
    png: File = None
    """Write the picture of the curves to this file."""
    svg: File = None
    """Write the picture of the curves to this file, as SVG."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object instead of text (docs/reading.md describes it)."""


def run(args: Args) -> int:
    """Read, diagnose and report; 1 where a finding is an error, else 0."""
    if args.follow:
        from lossmith.cli.follow import follow

        return follow(args)
    if args.on_error:
        raise InputError("--on-error needs --follow: without it the exit code says whether there was an error")
    from lossmith.diagnosis import compare
    from lossmith.diagnosis.report import Report
    from lossmith.runs import read

    reading = read(*args.paths)
    if not reading.runs:
        raise DataError(_nothing(reading))
    reports = [Report.of(found, steps=args.steps, target=args.target) for found in reading.runs]
    standings = compare(reading.runs) if args.compare else []
    written = _write(args, reports, standings, reading)
    if args.json:
        print(json.dumps(as_json(reports, standings, reading, args.lang), ensure_ascii=False, allow_nan=False))
    else:
        show(reports, standings, reading, args.lang, written)
    return int(any(finding.severity == "error" for report in reports for finding in report.findings))


def _nothing(reading: Reading) -> str:
    reasons = [f"{skipped.path}: {skipped.why}" for skipped in reading.skipped]
    shown = "\n".join(f"  {reason}" for reason in reasons[:10])
    more = f"\n  and {len(reasons) - 10} more" if len(reasons) > 10 else ""
    return f"no training log found; expected a file with losses by step or epoch.\n{shown}{more}"


def as_json(
    reports: Sequence[Report], standings: Sequence[Standing], reading: Reading, lang: str = "en"
) -> dict[str, object]:
    """Return everything that was read and found as JSON can carry it."""
    names = [report.run.source for report in reports]
    return {
        "runs": [report.to_json(lang) for report in reports],
        "compare": [standing.to_json(names) for standing in standings],
        "skipped": [{"path": skipped.path, "why": skipped.why} for skipped in reading.skipped],
        "notes": list(reading.notes),
    }


def _write(args: Args, reports: Sequence[Report], standings: Sequence[Standing], reading: Reading) -> list[Path]:
    from lossmith.diagnosis.comparison import overlay, said, short_names
    from lossmith.pictures import write_picture

    written = []
    names = short_names([report.run.source for report in reports])
    for kind, path in (("png", args.png), ("svg", args.svg)):
        if path is not None:
            panel = _picture(reports, args.compare)
            write_picture(panel, path, kind)
            written.append(path)
    if args.html is not None:
        from lossmith.diagnosis._page import page

        lines = [said(standing, names, args.lang) for standing in standings]
        together = overlay([report.run for report in reports]) if args.compare else None
        skipped = [f"{one.path}: {one.why}" for one in reading.skipped]
        text = page(reports, lang=args.lang, standings=lines, together=together, skipped=skipped, notes=reading.notes)
        try:
            args.html.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"--html must be a file that can be written; got {str(args.html)!r}: {error.strerror}"
            ) from error
        written.append(args.html)
    return written


def _picture(reports: Sequence[Report], compared: bool) -> Panel:
    from lossmith.diagnosis.comparison import overlay

    panels = [report.panel for report in reports if report.panel is not None]
    if not panels:
        raise InputError("--png and --svg need a run with a finite loss; there is none")
    if len(panels) == 1:
        return panels[0]
    if not compared:
        raise InputError(
            f"--png and --svg draw one run, or several with --compare; got {len(panels)} runs (or use --html)"
        )
    return overlay([report.run for report in reports])


def show(
    reports: Sequence[Report], standings: Sequence[Standing], reading: Reading, lang: str, written: Sequence[Path]
) -> None:
    """Print the reports: in full, or a line each where there are many."""
    from rich.console import Console
    from rich.text import Text

    from lossmith.cli._findings import show_line, show_report
    from lossmith.diagnosis.comparison import said, short_names

    console = Console(highlight=False, soft_wrap=False)
    for report in reports[: SHOWN if len(reports) > SHOWN else None]:
        show_report(report, console, lang)
    for report in reports[SHOWN:]:
        show_line(report, console)
    names = short_names([report.run.source for report in reports])
    for standing in standings:
        console.print(Text(said(standing, names, lang), style="bold"))
    _show_rest(reading, console)
    for path in written:
        console.print(f"written: {path}", markup=False, soft_wrap=True)


def _show_rest(reading: Reading, console: Console) -> None:
    """Say how files were understood, and which were not read."""
    from rich.text import Text

    for note in reading.notes[:12]:
        console.print(Text(f"note: {note}", style="dim"), soft_wrap=True)
    if len(reading.notes) > 12:
        console.print(Text(f"and {len(reading.notes) - 12} more notes (--json has them all)", style="dim"))
    for skipped in reading.skipped[:3]:
        console.print(Text(f"not read: {skipped.path}: {skipped.why}", style="dim"), soft_wrap=True)
    if len(reading.skipped) > 3:
        console.print(Text(f"and {len(reading.skipped) - 3} more files not read (--json has them all)", style="dim"))
