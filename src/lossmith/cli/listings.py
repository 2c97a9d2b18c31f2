"""lossmith train --list-corpora and --list-models."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table


def show_corpora(args: Any) -> None:
    """Show name, language, size, licence and package of every built-in corpus, and whether it is installed."""
    from lossmith.data import CORPORA

    rows: list[dict[str, Any]] = [
        {
            "name": corpus.name,
            "language": corpus.language,
            "bytes": corpus.approx_bytes,
            "licence": corpus.licence,
            "package": corpus.package,
            "installed": corpus.available(),
            "install": corpus.install,
            "description": corpus.description,
        }
        for corpus in CORPORA.values()
    ]
    if args.json_lines:
        return print(json.dumps(rows, ensure_ascii=False))
    console = Console(highlight=False, soft_wrap=True)
    for row in rows:
        there = "[green]installed[/green]" if row["installed"] else f"install: {row['install']}"
        console.print(f"[bold]{row['name']:<12}[/bold] {row['language']:<10} {row['bytes'] / 1e6:>5.1f} MB  {there}")
        console.print(f"             {row['description']} · {row['package']} · {row['licence']}", style="dim")
    return None


def show_models(args: Any) -> None:
    """Show parameters, memory, and time per 1,000 steps estimated for this machine, of every preset for --objective."""
    from lossmith.models.estimate import estimates
    from lossmith.train.config import objective_spec

    architecture = objective_spec(args.config()).architecture
    rows = estimates(architecture, vocab_size=_vocabulary(args.tokenizer), batch_size=args.per_device_train_batch_size)
    if args.json_lines:
        return print(json.dumps(rows))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("name", "parameters", "memory", "time per 1k steps", "a step", "for"):
        table.add_column(column, justify="left" if column in ("name", "for", "a step") else "right")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['parameters'] / 1e6:,.1f}M",
            f"{row['memory_bytes'] / 2**30:,.2f} GiB",
            _duration(row["seconds_per_1000_steps"]),
            f"{row['batch_size']} × {row['block_size']} tokens",
            row["description"],
        )
    console = Console()
    console.print(table)
    return console.print(rows[0]["assumptions"], style="dim")


def _vocabulary(tokenizer: str | None) -> int | None:
    kind, _, size = (tokenizer or "").partition(":")
    return int(size) if kind == "bpe" and size.isdigit() else {"byte": 257}.get(kind)


def _duration(seconds: float) -> str:
    for limit, unit, name in ((86400 * 2, 86400, "days"), (7200, 3600, "h"), (120, 60, "min")):
        if seconds >= limit:
            return f"{seconds / unit:,.1f} {name}"
    return f"{seconds:.0f} s"
