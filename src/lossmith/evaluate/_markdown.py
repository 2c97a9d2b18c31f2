"""report.md: the report as Markdown, for a terminal, a repository or an issue."""

from __future__ import annotations

import re

from lossmith.evaluate._facts import OURS, Facts
from lossmith.evaluate._task_page import is_task, task_cards, task_measured, task_tables
from lossmith.evaluate._words import STATUS, cards, chosen_samples, measured_on, no_evaluation, overview, plain, tables
from lossmith.pictures.text import clean, fixed, number


def markdown(facts: Facts) -> str:
    """Return the report as Markdown; text of the run (samples, options) can not break out of its cell or block."""
    parts = [
        f"# {inline(facts.name)}",
        inline(" · ".join(overview(facts))),
        *_status(facts),
        *_headline(facts),
        *_comparison(facts),
        *_curves(facts),
        *_findings(facts),
        *_samples(facts),
        *_commands(facts),
        *_settings(facts),
        *_tables(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def inline(text: str) -> str:
    """Return text that Markdown shows as it is, on one line.

    >>> inline("a|b <script> *x*")
    'a\\\\|b \\\\<script> \\\\*x\\\\*'
    """
    return re.sub(r"([\\`*\[\]<|#&]|(?<!\w)_|_(?!\w))", r"\\\1", re.sub(r"\s+", " ", clean(text)))


def fenced(text: str, language: str = "") -> str:
    """Return text in a code fence longer than any run of backticks in it."""
    text = clean(text)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _table(head: list[str], rows: list[list[str]], right: int = 0) -> str:
    """A Markdown table, the last `right` columns aligned right."""
    rule = ["---"] * (len(head) - right) + ["---:"] * right
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])


def _status(facts: Facts) -> list[str]:
    out = [f"**{STATUS[facts.status]}**"] if facts.status in STATUS else []
    return out + ([fenced(str(facts.info["error"]))] if facts.info.get("error") else [])


def _task(facts: Facts) -> list[str]:
    """The figures of a fine-tuned model, and its tables."""
    cards_of = [[f"**{inline(figure)}**", inline(name), inline(what)] for figure, name, what in task_cards(facts.info)]
    out = ["## Result", _table(["", "", ""], cards_of), inline(task_measured(facts.info))]
    for title, said, head, rows in task_tables(facts.info):
        cells = [[inline(cell) for cell in row] for row in rows]
        out += [f"## {title}", inline(said), _table([inline(name) for name in head], cells, right=len(head) - 1)]
    return out


def _headline(facts: Facts) -> list[str]:
    if is_task(facts.info):
        return _task(facts)
    best = facts.headline
    if best is None:
        return ["## Result", inline(no_evaluation(facts))]
    rows = [[f"**{figure}**", unit, what] for figure, unit, what in cards(best)]
    return ["## Result", _table(["", "", ""], rows), measured_on(best), *facts.meaning()]


def _comparison(facts: Facts) -> list[str]:
    if not facts.comparison:
        return []
    rows = []
    for row in facts.comparison:
        bits = [fixed(row.bits)] if facts.spelled else []
        cells = [inline(row.label), inline(row.definition), fixed(row.nats), *bits]
        rows.append([f"**{cell}**" for cell in cells] if row.name == OURS else cells)
    head = ["what", "definition", f"nats per {facts.unit}", *(["bits per byte"] if facts.spelled else [])]
    return ["## What to compare it with", _table(head, rows, right=1 + facts.spelled)]


def _curves(facts: Facts) -> list[str]:
    panel = facts.loss_panel
    if panel is None:
        return ["## Curves", "Nothing has been logged yet."]
    return ["## Curves", "![Training and validation loss](loss.png)", panel.note()]


def _findings(facts: Facts) -> list[str]:
    lines = [
        f"- **{found.check}** ({found.severity}): {inline(found.message)} {inline(found.advice)}"
        for found in facts.findings
    ]
    return ["## What the curves say", "\n".join(lines)] if lines else []


def _samples(facts: Facts) -> list[str]:
    chosen = chosen_samples(facts.samples)
    if not chosen:
        return []
    said = (
        f"{len(chosen)} of {len(facts.samples)}, first to last" if len(chosen) < len(facts.samples) else "First to last"
    )
    out = ["## Samples", said + "."]
    for entry in chosen:
        out += [f"### Step {number(entry.get('step'))}", fenced(str(entry.get("text", "")))]
    return out


def _commands(facts: Facts) -> list[str]:
    out = ["## What to do with it"]
    for what, language, command in facts.commands():
        out += [f"{what}:", fenced(command, language)]
    return out


def _settings(facts: Facts) -> list[str]:
    rows = []
    for name, value, default, changed in facts.settings():
        cells = [inline(name), inline(plain(value)), inline(plain(default)) if changed else ""]
        rows.append([cells[0], f"**{cells[1]}**", cells[2]] if changed else cells)
    return (
        ["## Settings", "Bold: other than the default.", _table(["option", "value", "default"], rows)] if rows else []
    )


def _tables(facts: Facts) -> list[str]:
    out = []
    for title, rows in tables(facts):
        out += [f"## {title}", _table(["", ""], [[inline(key), inline(value)] for key, value in rows])]
    return out
