"""The figures of a fine-tuned model as tables on the last screen."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossmith.evaluate.outcome import Figure, Outcome

CLASSES = 20


def show_outcome(console: Console, outcome: Outcome) -> None:
    """Print figures with intervals beside the baseline, and the classes."""
    table = Table(title=f"on {outcome.examples:,} validation rows", title_justify="left", box=None)
    for name, justify in (("", "left"), ("this model", "right"), ("95% interval", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for row in outcome.yardsticks:
        table.add_column(row.label, justify="right")
    for figure in outcome.figures:
        others = (number(row.figures.get(figure.name)) for row in outcome.yardsticks)
        table.add_row(
            figure.name.replace("_", " "), Text(number(figure.value), "bold green"), _interval(figure), *others
        )
    console.print(table)
    if outcome.per_class:
        console.print(_classes(outcome))
    for note in outcome.notes:
        console.print(Text(f"note: {note}", style="dim"), soft_wrap=True)


def number(value: float | str | None) -> str:
    """Return four decimals, or a dash where there is no number.

    >>> number(0.51234), number(None)
    ('0.5123', '–')
    """
    return "–" if value is None else f"{float(value):.4f}"


def _interval(figure: Figure) -> str:
    return "" if figure.low is None else f"{number(figure.low)} … {number(figure.high)}"


def _classes(outcome: Outcome) -> Table:
    table = Table(box=None)
    names = ("precision", "recall", "f1")
    table.add_column("class")
    for name in (*names, "labelled", "predicted"):
        table.add_column(name, justify="right")
    for row in outcome.per_class[:CLASSES]:
        counts = (f"{row['labelled']:,}", f"{row['predicted']:,}")
        table.add_row(Text(str(row["label"])), *(number(row[name]) for name in names), *counts)
    if len(outcome.per_class) > CLASSES:
        table.add_row(f"and {len(outcome.per_class) - CLASSES} more (run.json has all)")
    return table
