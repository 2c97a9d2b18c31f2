"""What a person is told of the rows before training, and of the figures after it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossmith.pictures.text import program

if TYPE_CHECKING:
    from rich.console import Console

CLASSES = 12  # named in a line


def told(facts: dict[str, Any], task: str) -> Iterator[str]:
    """Yield sentences: rows, classes and their imbalance, duplicates, label noise, empty and long rows, baselines."""
    train = facts["train"]
    yield f"{train['source']}: {train['rows']:,} rows{_held_out(facts)}"
    yield from _labels(train, task)
    yield from _trouble(train, train["source"])
    if "validation" in facts:
        yield from _trouble(facts["validation"], facts["validation"]["source"])
        both = facts["validation"]["also_in_training"]
        if both:
            yield f"{both:,} validation rows have the text of a training row: figures on them are not held out"
    for name, part in facts["tokens"].items():
        yield from _length(part, "training" if name == "train" else "validation")


def _held_out(facts: dict[str, Any]) -> str:
    if "validation" in facts:
        return f", and {facts['validation']['rows']:,} to validate on in {facts['validation']['source']}"
    return f", {facts['held_out']['rows']:,} of them held out for validation (equal texts on one side)"


def _labels(train: dict[str, Any], task: str) -> Iterator[str]:
    if "classes" in train:
        named = sorted(train["classes"].items(), key=lambda item: -item[1])
        shown = ", ".join(f"{name} {n:,}" for name, n in named[:CLASSES])
        more = f" and {len(named) - CLASSES} more" if len(named) > CLASSES else ""
        yield f"{len(named)} {'tags' if task == 'tagging' else 'classes'}: {shown}{more}"
    if "majority" in train:
        yield (
            f"imbalance {train['imbalance']:.3g} : 1 (largest to smallest); always saying {train['majority']!r} would "
            f"be right in {train['majority_share']:.1%}"
        )
    if "labels_per_row" in train:
        yield f"{train['labels_per_row']:.2f} labels a row, {train['without_label']:,} rows without any"
    if "standard_deviation" in train:
        spread = train["standard_deviation"]
        yield (
            f"numbers from {train['smallest']:g} to {train['largest']:g}, mean {train['mean']:.4g}, standard deviation "
            f"{spread:.4g}: always saying the mean has a squared error of {spread**2:.4g}"
        )


def _trouble(part: dict[str, Any], source: str) -> Iterator[str]:
    if part["duplicates"]:
        yield f"{source}: {part['duplicates']:,} rows are exact duplicates of an earlier row"
    if part["contradictions"]:
        share = part["contradictions"] / part["rows"]
        yield (
            f"{source}: {part['contradictions']:,} rows ({share:.1%}) have a text that also stands with another label: "
            "label noise, of which no model can get all right"
        )
    if part["empty"]:
        yield f"{source}: {part['empty']:,} rows without text are left out"


def _length(part: dict[str, Any], name: str) -> Iterator[str]:
    if not part["longer"] and not part["left_out"]:
        return
    done = f"cut ({part['cut_tokens']:,} tokens lost)" if part["cut_tokens"] else "left out"
    rows = part["rows"] + part["left_out"]
    yield (
        f"{part['longer']:,} of {rows:,} {name} rows are longer than the context of {part['longest_allowed']:,} "
        f"tokens: {done}" + (f"; {part['left_out']:,} rows left out" if part["left_out"] and part["cut_tokens"] else "")
    )


def print_task_summary(console: Console, result: dict[str, Any], path: Path) -> None:
    """Print the figures beside their baselines, findings, and where report and model are."""
    from lossmith.evaluate.outcome import Figure, Outcome, Yardstick
    from lossmith.train.finetune_tables import show_outcome
    from lossmith.train.summary import print_ending

    told_outcome = result["outcome"]
    outcome = Outcome(
        told_outcome["task"],
        told_outcome["examples"],
        told_outcome["unit"],
        [Figure(**figure) for figure in told_outcome["figures"]],
        [Yardstick(**row) for row in told_outcome["baselines"]],
        per_class=told_outcome["per_class"],
        notes=told_outcome["notes"],
    )
    console.print()
    show_outcome(console, outcome)
    console.print(
        f"model/ is of step {result['best_step']}, {result['chosen']} · validation loss {result['eval_loss']:.4f} · "
        f"{result['seconds']:.0f} s"
    )
    print_ending(console, result["findings"], places(path, result["config"]))


def places(path: Path, config: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a run leaves and where, and the command that evaluates it."""
    command = eval_command(path, config)
    return [
        ("report", str(path / "report.html")),
        ("curve", str(path / "loss.png")),
        ("answers", str(path / "samples.jsonl")),
        ("model", str(path / "model")),
        *([("evaluate", command)] if command else []),
    ]


def eval_command(path: Path, config: dict[str, Any]) -> str | None:
    """Return the command that evaluates a fine-tuned model on other rows of the same columns; None where none does."""
    task, given = str(config["task"]), {key: value for key, value in config.items() if value}
    texts = given.get("text_column") or ()
    options = {
        "seq2seq": {"source-column": given.get("source_column"), "label-column": given.get("target_column")},
        "tagging": {"tokens-column": given.get("tokens_column"), "tags-column": given.get("tags_column")},
    }.get(task, {"text-column": texts, "label-column": given.get("label_column")})
    if task == "similarity" and "label_column" not in given:
        first, second = (*texts, "anchor", "positive")[:2] if not texts else texts[:2]
        task, options = "retrieval", {"query-column": first, "document-column": second}
    if task == "instruction":
        return None
    words = [program(), "eval", str(path), "TEST.jsonl", "--task", "generation" if task == "seq2seq" else task]
    for name, value in options.items():
        if value:
            words += [f"--{name}", *([value] if isinstance(value, str) else value)]
    return shlex.join(words)
