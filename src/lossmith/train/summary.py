"""The last screen of a run: what the number is, beside what it must be compared with, and what to do next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lossmith.pictures.text import program
from lossmith.runs import terms_of


def print_summary(console: Console, result: dict[str, Any], path: Path) -> None:
    """Print result, comparison, and where report, samples and model are."""
    if "task" in result:
        from lossmith.train.finetune_report import print_task_summary

        print_task_summary(console, result, path)
        return
    console.print()
    if result["baselines"]:
        console.print(comparison(result))
    terms, unit = terms_of(result), result.get("unit", "token")
    per, of = f"/{unit}", ""
    if len(terms) > 1:
        per = f" (weighted sum of {', '.join(f'{name} {value:.4f}' for name, value in terms.items())})"
        of = f" of {next(iter(terms))}"
    bits = "" if result["eval_bpb"] is None else f" · [bold]{result['eval_bpb']:.4f}[/bold] bits/byte"
    size = f", {result['eval_bytes']:,} bytes" if result["eval_bytes"] else ""
    console.print(
        f"validation loss [bold]{result['eval_loss']:.4f}[/bold] nats{per}"
        f" · perplexity{of} {result['eval_perplexity']:.2f}{bits}"
        f" ({result['eval_tokens']:,} {unit}s{size}) in {result['seconds']:.0f} s"
    )
    print_ending(console, result["findings"], places(path, result["example"], writes=result["objective"] == "causal"))


def print_ending(console: Console, findings: list[dict[str, Any]], left: list[tuple[str, str]]) -> None:
    """Print what the curves say, and what a run leaves where."""
    for finding in findings:
        style = {"error": "bold red", "warning": "yellow"}.get(finding["severity"], "dim")
        console.print(f"[{style}]{finding['check']}[/]: {escape(finding['message'])}", soft_wrap=True)
    console.print()
    for what, where in left:
        console.print(f"  [bold]{what:<8}[/bold] {where}", soft_wrap=True)


def comparison(result: dict[str, Any]) -> Table:
    """Return the table of baselines and the model, the most bits per byte first; of pairs there are none."""
    ours = {"label": "this model", "nats_per_token": result["eval_loss"], "bits_per_byte": result["eval_bpb"]}
    table = Table(title="what the number means (on the validation text)", title_justify="left", box=None)
    table.add_column("")
    table.add_column(f"nats/{result.get('unit', 'token')}", justify="right")
    rows = sorted([*result["baselines"], ours], key=lambda row: -(row["bits_per_byte"] or row["nats_per_token"]))
    spelled = any(row["bits_per_byte"] is not None for row in rows)
    if spelled:
        table.add_column("bits/byte", justify="right")
    for row in rows:
        told = [row["nats_per_token"], *([row["bits_per_byte"]] if spelled else [])]
        table.add_row(row["label"], *map(number, told), style="bold green" if row is ours else "")
    return table


def number(value: float | None) -> str:
    """Return four decimals, or a dash where there is no number.

    >>> number(1.23456), number(None)
    ('1.2346', '–')
    """
    return "–" if value is None else f"{value:.4f}"


def places(path: Path, example: str, *, writes: bool = True) -> list[tuple[str, str]]:
    """Return what a run leaves and where: files first, then commands, with an example of its own text.

    writes: whether the model says what comes next, so that it can be sampled from.
    """
    run, prompt = shlex.quote(str(path)), shlex.quote(example)
    files = [
        ("report", str(path / "report.html")),
        ("curve", str(path / "loss.png")),
        ("samples", str(path / "samples.jsonl")),
        ("model", str(path / "model")),
    ]
    commands = [
        ("write", f"{program()} sample {run} --prompt {prompt}"),
        ("ask", f"{program()} next {run} {prompt}"),
    ]
    return [*files, *(commands if writes else [])]
