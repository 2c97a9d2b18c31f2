"""The report of read runs as one HTML page: curves with what was found marked on them, findings, forecast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lossmith.diagnosis._finding import Finding
from lossmith.diagnosis._words import figure as number
from lossmith.diagnosis.report import Report
from lossmith.pictures import Panel
from lossmith.pictures.page import PAGE, STYLE, figure, text

WORDS = {
    "en": {
        "kind": "lossmith read",
        "title": "{count} runs",
        "one": "1 run",
        "findings": "Findings",
        "nothing": "Nothing to report: too few points.",
        "do": "What to do:",
        "sure": "sure",
        "steps": "steps {start} to {stop}",
        "forecast": "Forecast",
        "skipped": "Not read",
        "notes": "How it was read",
        "standings": "Who is ahead",
        "error": "error",
        "warning": "warning",
        "info": "note",
    },
    "zh": {
        "kind": "lossmith read",
        "title": "{count} 次训练",
        "one": "1 次训练",
        "findings": "发现",
        "nothing": "没有可报告的内容：点太少。",
        "do": "怎么办：",
        "sure": "把握",
        "steps": "第 {start} 步到第 {stop} 步",
        "forecast": "预测",
        "skipped": "没有读取",
        "notes": "读取说明",
        "standings": "谁领先",
        "error": "错误",
        "warning": "警告",
        "info": "说明",
    },
}


def page(
    reports: Sequence[Report],
    *,
    lang: str = "en",
    standings: Sequence[str] = (),
    together: Panel | None = None,
    skipped: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> str:
    """Return a self-contained page of reports: no script, nothing loaded, every text of a log escaped."""
    words = WORDS[lang]
    title = words["one"] if len(reports) == 1 else words["title"].format(count=len(reports))
    head = f'<header><p class="kind">{words["kind"]}</p><h1>{title}</h1></header>'
    body = [head, *_lines(words["standings"], standings)]
    body += [figure(together, (800, 400), (380, 320))] if together is not None else []
    for report in reports:
        body += _run(report, words, lang)
    body += [*_lines(words["notes"], notes), *_lines(words["skipped"], skipped)]
    html_lang = "zh-CN" if lang == "zh" else "en"
    return PAGE.format(lang=html_lang, title=text(title), style=STYLE, body="\n".join(body))


def _run(report: Report, words: dict[str, str], lang: str) -> Iterator[str]:
    yield f'<section><h2 dir="auto">{text(report.run.source)}</h2>'
    yield f'<p class="overview">{text(report.overview(lang))}</p>'
    if report.panel is not None:
        yield figure(report.panel, (800, 400), (380, 320))
    yield f"<h3>{words['findings']}</h3>"
    if not report.findings:
        yield f"<p>{words['nothing']}</p>"
    for finding in report.findings:
        yield finding_box(finding, lang)
    for line in report.said_unsettled(lang):
        yield f"<p><small>{text(line)}</small></p>"
    if report.forecast is not None:
        yield f"<h3>{words['forecast']}</h3><p>{text(report.said_forecast(lang))}</p>"
    yield "</section>"


def finding_box(finding: Finding, lang: str = "en") -> str:
    """Return a finding as HTML: what, what to do, and in small letters where, how sure, the numbers and the source."""
    words = WORDS[lang]
    numbers = ", ".join(f"{name} = {number(name, value)}" for name, value in finding.evidence.items())
    steps = words["steps"].format(start=f"{finding.start:,}", stop=f"{finding.stop:,}")
    small = f"{steps} · {words['sure']} {100 * finding.sure:.0f} % · {numbers} · {finding.source}"
    advice = finding.advise(lang)
    what = f"<p><b>{words['do']}</b> {text(advice)}</p>" if advice else ""
    head = f"{words[finding.severity]} · {finding.check}"
    return (
        f'<div class="finding {finding.severity}"><h3>{text(head)}</h3><p>{text(finding.say(lang))}</p>{what}'
        f"<small>{text(small)}</small></div>"
    )


def _lines(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        items = "".join(f'<li dir="auto">{text(line)}</li>' for line in lines)
        yield f"<section><h2>{title}</h2><ul>{items}</ul></section>"
