"""report.html: the report as one file: inline style sheet and SVG, no script, nothing loaded from anywhere."""

from __future__ import annotations

from html import escape
from typing import Any

from lossmith.diagnosis._page import finding_box
from lossmith.evaluate._facts import OURS, Facts, Row
from lossmith.evaluate._task_page import is_task, task_cards, task_measured, task_tables
from lossmith.evaluate._words import STATUS, cards, chosen_samples, measured_on, no_evaluation, overview, plain, tables
from lossmith.pictures.page import PAGE, STYLE, figure, text
from lossmith.pictures.text import clean, fixed, number


def html(facts: Facts) -> str:
    """Return the report as a page; every text of the run is escaped, in any script and direction."""
    body = [
        *_header(facts),
        *_headline(facts),
        *_comparison(facts),
        *_curves(facts),
        *_findings(facts),
        *_samples(facts),
        *_commands(facts),
        *_settings(facts),
        *_tables(facts),
    ]
    return PAGE.format(lang="en", title=text(facts.name), style=STYLE, body="\n".join(body))


def _section(title: str, *parts: str) -> list[str]:
    return [f"<section><h2>{title}</h2>", *parts, "</section>"]


def _header(facts: Facts) -> list[str]:
    status = text(facts.status)
    error = f'<pre class="error" dir="auto">{text(str(facts.info["error"]))}</pre>' if facts.info.get("error") else ""
    note = f"<p>{STATUS[facts.status]}</p>" if facts.status in STATUS else ""
    said = " · ".join(f"<span>{text(part)}</span>" for part in overview(facts))
    return [
        f'<header><p class="kind">lossmith report</p><h1 dir="auto">{text(facts.name)}</h1>',
        f'<p class="overview"><span class="status {status}">{status}</span> {said}</p>',
        f"{note}{error}</header>",
    ]


def _headline(facts: Facts) -> list[str]:
    if is_task(facts.info):
        return _task(facts)
    best = facts.headline
    if best is None:
        return _section("Result", f'<p class="lead">{text(no_evaluation(facts))}</p>')
    items = "".join(
        f"<li><strong>{text(figure)}</strong> <b>{unit}</b><span>{what}</span></li>"
        for figure, unit, what in cards(best)
    )
    said = " ".join(text(sentence) for sentence in (measured_on(best), *facts.meaning()))
    return _section("Result", f'<ul class="cards">{items}</ul>', f"<p>{said}</p>")


def _task(facts: Facts) -> list[str]:
    """The figures of a fine-tuned model, and its tables."""
    items = "".join(
        f"<li><strong>{text(figure)}</strong> <b>{text(name)}</b><span>{text(what)}</span></li>"
        for figure, name, what in task_cards(facts.info)
    )
    out = _section("Result", f'<ul class="cards">{items}</ul>', f"<p>{text(task_measured(facts.info))}</p>")
    for title, said, head, rows in task_tables(facts.info):
        lines = "".join(f"<tr>{_cells(row, 'td')}</tr>" for row in rows)
        table = f'<table class="scores"><thead><tr>{_cells(head, "th")}</tr></thead><tbody>{lines}</tbody></table>'
        out += _section(title, f"<p>{text(said)}</p>" if said else "", f'<div style="overflow-x:auto">{table}</div>')
    return out


def _cells(row: list[str], tag: str) -> str:
    """The cells of a row of a table, all but the first aligned right."""
    kinds = ("", *[' class="n"'] * (len(row) - 1))
    return "".join(f"<{tag}{kind}>{text(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))


def _comparison(facts: Facts) -> list[str]:
    rows = facts.comparison
    if not rows:
        return []
    body = "".join(_comparison_row(row, row.size / (rows[0].size or 1), facts.spelled) for row in rows)
    bits = '<th class="n">bits per byte</th>' if facts.spelled else ""
    head = f'<tr><th>what</th><th class="n">nats per {text(facts.unit)}</th>{bits}</tr>'
    said = "Worst first; shorter is better. Entropies of the training text are in-sample, the rest is held out."
    table = f'<table class="compare"><thead>{head}</thead><tbody>{body}</tbody></table>'
    return _section("What to compare it with", f"<p>{said}</p>", table)


def _comparison_row(row: Row, part: float, spelled: bool) -> str:
    bits = f'<td class="n">{fixed(row.bits)}</td>' if spelled else ""
    ours = ' class="ours"' if row.name == OURS else ""
    return (
        f'<tr{ours}><td><b>{text(row.label)}</b><i class="bar"><i style="width:{100 * part:.1f}%"></i></i>'
        f"<small>{text(row.definition)}</small></td>"
        f'<td class="n">{fixed(row.nats)}</td>{bits}</tr>'
    )


def _curves(facts: Facts) -> list[str]:
    panel = facts.loss_panel
    if panel is None:
        return _section("Curves", "<p>Nothing has been logged yet.</p>")
    pair = "".join(figure(side, (376, 210), (376, 210)) for side in facts.side_panels)
    return _section("Curves", figure(panel, (800, 400), (380, 320)), f'<div class="pair">{pair}</div>' if pair else "")


def _findings(facts: Facts) -> list[str]:
    found = "".join(finding_box(finding) for finding in facts.findings)
    return _section("What the curves say", found) if found else []


def _samples(facts: Facts) -> list[str]:
    chosen = chosen_samples(facts.samples)
    if not chosen:
        return []
    rest = [entry for entry in facts.samples if not any(entry is one for one in chosen)]
    more = f"<details><summary>The other {len(rest)} samples</summary>{_list(rest)}</details>" if rest else ""
    return _section("Samples", _list(chosen), more)


def _list(samples: list[dict[str, Any]]) -> str:
    return f'<ol class="samples">{"".join(_sample(entry) for entry in samples)}</ol>'


def _sample(entry: dict[str, Any]) -> str:
    prompt, said = clean(str(entry.get("prompt") or "")), clean(str(entry.get("text", "")))
    shown = escape(said)
    if prompt and said.startswith(prompt):
        shown = f"<mark>{escape(prompt)}</mark>{escape(said[len(prompt) :])}"
    # An element of its own direction and no language: the text may be in any.
    return f'<li><b>step {text(number(entry.get("step")))}</b><pre dir="auto" lang="">{shown}</pre></li>'


def _commands(facts: Facts) -> list[str]:
    parts = [f"<h3>{text(what)}</h3><pre><code>{text(command)}</code></pre>" for what, _, command in facts.commands()]
    return _section("What to do with it", *parts)


def _settings(facts: Facts) -> list[str]:
    settings = list(facts.settings())
    if not settings:
        return []
    changed = [_setting(name, value, default, True) for name, value, default, differs in settings if differs]
    others = [_setting(name, value, default, False) for name, value, default, differs in settings if not differs]
    shown = f'<table class="facts">{"".join(changed)}</table>' if changed else "<p>All options have their defaults.</p>"
    rest = f'<table class="facts">{"".join(others)}</table>'
    hidden = f"<details><summary>The {len(others)} options at their defaults</summary>{rest}</details>"
    return _section("Settings", shown, hidden if others else "")


def _setting(name: str, value: Any, default: Any, changed: bool) -> str:
    cells = f'<th>{text(name)}</th><td dir="auto">{text(plain(value))}</td>'
    if not changed:
        return f"<tr>{cells}</tr>"
    return f'<tr class="ours">{cells}<td><small>default {text(plain(default))}</small></td></tr>'


def _tables(facts: Facts) -> list[str]:
    out = []
    for title, rows in tables(facts):
        body = "".join(f'<tr><th>{text(key)}</th><td dir="auto">{text(value)}</td></tr>' for key, value in rows)
        out.append(f'<div><h3>{title}</h3><table class="facts">{body}</table></div>')
    return _section("Details", f'<div class="details">{"".join(out)}</div>') if out else []
