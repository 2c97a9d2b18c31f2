"""Print an outcome of lossmith eval as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lossmith.evaluate.outcome import Figure, Outcome

NAMES = {
    "bits_per_byte": "bits per byte",
    "loss": "loss (nats per token)",
    "token_perplexity": "perplexity per token",
    "word_perplexity": "perplexity per word",
    "byte_perplexity": "perplexity per byte",
    "cross_entropy": "cross-entropy (nats)",
    "brier": "Brier score",
    "calibration_error": "calibration error",
    "mse": "MSE",
    "mae": "MAE",
    "r2": "R²",
    "pearson": "Pearson r",
    "spearman": "Spearman ρ",
    "bleu": "BLEU",
    "chrf": "chrF",
    "mrr": "mean reciprocal rank",
    "margin": "margin (nats)",
}
CLASSES = 30  # classes shown; --json has all


def title(name: str) -> str:
    """Return a figure's name as people write it.

    >>> title("bleu"), title("f1_macro"), title("recall_at_5")
    ('BLEU', 'F1 macro', 'recall at 5')
    """
    return NAMES.get(name) or name.replace("_", " ").replace("f1", "F1")


def value(number: float | None) -> str:
    """Return a figure with the digits that matter.

    >>> value(0.51234), value(93.4567), value(1.5e9), value(None), value(-0.00001)
    ('0.5123', '93.46', '1.5e+09', '—', '-1e-05')
    """
    if number is None:
        return "—"
    if not math.isfinite(number) or number == 0:
        return f"{number:g}"
    if abs(number) >= 1e6 or abs(number) < 1e-4:
        return f"{number:.3g}"
    return f"{number:,.4f}" if abs(number) < 10 else f"{number:,.2f}"


def show(outcome: Outcome, written: Sequence[Path], confidence: float, console: Console | None = None) -> None:
    """Print figures beside baselines, classes, the comparison, notes and the pictures' places."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console(highlight=False)
    counts = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in outcome.counts.items() if number)
    console.print(Text(f"{outcome.task.replace('_', ' ')}: {counts}", style="dim"))
    console.print(_figures(outcome, confidence))
    for table in (_yardsticks(outcome), _classes(outcome), _differences(outcome, confidence)):
        if table is not None:
            console.print()
            console.print(table)
    for line in _worth(outcome):
        console.print(Text(line), soft_wrap=True)
    for note in outcome.notes:
        console.print(Text(f"note: {note}", style="dim"), soft_wrap=True)
    for path in written:
        console.print(Text(f"written: {path}"), soft_wrap=True)


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table


def _figures(outcome: Outcome, confidence: float) -> Table:
    from rich.text import Text

    drawn = f"{confidence:.0%} interval, {outcome.unit} drawn"
    table = _table("figure", "value", drawn)
    for figure in outcome.figures:
        table.add_row(Text(title(figure.name), style="bold"), value(figure.value), _interval(figure))
    return table


def _interval(figure: Figure) -> str:
    return "" if figure.low is None else f"{value(figure.low)} … {value(figure.high)}"


def _yardsticks(outcome: Outcome) -> Table | None:
    """Baselines beside the outcome, in the figures they share; the longer of the two lists goes down the page."""
    from rich.text import Text

    names = [f.name for f in outcome.figures if any(f.name in row.figures for row in outcome.yardsticks)]
    if not names:
        return None
    rows = [(row.label, row.figures) for row in outcome.yardsticks] + [("this", {n: outcome[n] for n in names})]
    if len(names) < len(rows):
        table = _table("compare with", *(title(name) for name in names))
        for label, figures in rows:
            style = "bold" if label == "this" else ""
            table.add_row(Text(label, style=style), *(Text(value(figures.get(name)), style=style) for name in names))
        return table
    table = _table("compare with", *(label for label, _ in rows))
    for name in names:
        table.add_row(Text(title(name)), *(value(figures.get(name)) for _, figures in rows))
    return table


def _worth(outcome: Outcome) -> Iterator[str]:
    """Say how the model stands against its rivals, and what it is with its own bytes counted."""
    worth = outcome.worth
    if worth is None:
        return
    yield ""
    labels = {row.name: row.label for row in outcome.yardsticks}
    for name, bits in ((worth.rival, worth.rival_bits_per_byte), (worth.rival_given, worth.rival_given_bits_per_byte)):
        if name is not None and bits is not None:
            yield f"{_against(worth.bits_per_byte, bits)} {labels[name]}"
    yield (
        f"with the model's {worth.model_bytes:,} bytes counted: {value(worth.with_model)} bits per byte; "
        f"{_pays(worth.pays_after, labels[worth.rival])}"
    )


def _against(ours: float, theirs: float) -> str:
    """Compare two sizes.

    >>> _against(1.0, 2.0), _against(2.1, 2.0)
    ('50.0 % smaller than', '5.0 % larger than')
    """
    return f"{abs(1 - ours / theirs):.1%}".replace("%", " %") + (" smaller than" if ours <= theirs else " larger than")


def _pays(after: int | None, rival: str) -> str:
    if after is None:
        return f"it never pays for itself against {rival}"
    return f"it pays for itself from {after:,} bytes of such text on, against {rival}"


def _classes(outcome: Outcome) -> Table | None:
    from rich.text import Text

    if not outcome.per_class:
        return None
    table = _table("class", "precision", "recall", "F1", "labelled", "predicted")
    for row in outcome.per_class[:CLASSES]:
        parts = (value(row[name]) for name in ("precision", "recall", "f1"))
        table.add_row(Text(str(row["label"])), *parts, f"{row['labelled']:,}", f"{row['predicted']:,}")
    if len(outcome.per_class) > CLASSES:
        table.add_row(f"and {len(outcome.per_class) - CLASSES} more (--json has all)")
    return table


def _differences(outcome: Outcome, confidence: float) -> Table | None:
    from rich.text import Text

    if not outcome.differences:
        return None
    table = _table("paired", "this", "other", "difference", f"{confidence:.0%} interval", "p")
    for row in outcome.differences:
        interval = "" if row.low is None else f"{value(row.low)} … {value(row.high)}"
        cells = (value(row.ours), value(row.other), value(row.difference), interval)
        table.add_row(Text(title(row.name)), *cells, "" if row.p is None else f"{row.p:.3f}")
    return table
