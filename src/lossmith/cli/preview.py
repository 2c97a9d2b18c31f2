"""lossmith preview: a batch as an objective makes it, in words."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from lossmith.cli.train import Args as TrainArgs
from lossmith.cli.train import prepare as prepare
from lossmith.errors import InputError

if TYPE_CHECKING:
    from lossmith.train.setup import Task

SHOWN = 12  # guesses of a row that people are shown; --json gives all


@dataclass(frozen=True, kw_only=True)
class Args(TrainArgs):
    """The options of lossmith train, and how many examples to show."""

    num_examples: Annotated[int, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = 2
    """How many examples to show; they are the first that training would see. Default: 2."""


def run(args: Args) -> None:
    """Print what the model would see, and what it would have to guess."""
    if args.num_examples < 1:
        raise InputError(f"--num-examples must be 1 or more; got {args.num_examples}")
    rows, name = preview(args)
    if args.json_lines:
        for row in rows:
            print(json.dumps({"event": "example", "objective": name, **row}, ensure_ascii=False))
    else:
        _print(rows, name)


def preview(args: Args) -> tuple[list[dict[str, Any]], str]:
    """Return the described examples and the objective's name; nothing is trained and no run folder made."""
    from lossmith.data import open_store
    from lossmith.train.opening import settle_options
    from lossmith.train.setup import make_task

    config = settle_options(args.config())
    task = make_task(config, open_store(config.data()))
    return _first(task, args.num_examples), task.spec.name


def _first(task: Task, count: int) -> list[dict[str, Any]]:
    """Describe the first examples; those told apart from others of their batch, out of batches as training makes."""
    if task.spec.additive:
        return _batch(task, 0, count)
    rows = [row for start in range(0, count, task.batch_size) for row in _batch(task, start, task.batch_size)]
    return rows[:count]


def _batch(task: Task, start: int, size: int) -> list[dict[str, Any]]:
    import numpy as np

    from lossmith.objectives.preview import describe

    numbers = range(start, start + size)
    examples: list[dict[str, Any]] = [task.blocks.example(i) | {"index": np.int64(i)} for i in numbers]
    batch = task.objective.batch(examples, np.random.default_rng(0))
    return describe(batch, task.tokenizer, task.objective)


def _print(rows: list[dict[str, Any]], name: str) -> None:
    from rich.console import Console
    from rich.markup import escape

    from lossmith.pictures.text import clean

    console, numbers = Console(highlight=False, soft_wrap=True), Counter[str]()
    for row in rows:
        part = row.get("part", name)
        numbers[part] += 1
        asked = f", {row.get('asked', len(row['guesses']))} to guess" if row["guesses"] else ""
        console.rule(f"{part}: example {numbers[part]}, {row['tokens']} tokens{asked}", align="left")
        console.out(clean(row["sees"]), highlight=False)
        if "says" in row:
            console.print(f"[bold]{escape(clean(row['says']))}[/bold]")
        for guess in row["guesses"][:SHOWN]:
            place, seen, answer = guess["place"], clean(repr(guess["sees"])), clean(repr(guess["answer"]))
            console.print(f"  at {place:>4} it sees {escape(seen)} and must guess [bold]{escape(answer)}[/bold]")
        if len(row["guesses"]) > SHOWN:
            console.print(f"  … and {len(row['guesses']) - SHOWN} more (--json shows all)", style="dim")
