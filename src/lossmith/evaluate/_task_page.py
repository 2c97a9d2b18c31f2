"""What the report of a fine-tuning run says of its figures: cards, the table beside baselines, classes, confusions."""

from __future__ import annotations

import json
import shlex
from typing import Any

from lossmith.pictures.text import clean, fixed, number, program

Table = tuple[str, str, list[str], list[list[str]]]
"""Title, a sentence, head, rows."""
CLASSES = 40

LOADERS = {
    "classification": "AutoModelForSequenceClassification",
    "multi_label": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "tagging": "AutoModelForTokenClassification",
    "instruction": "AutoModelForCausalLM",
    "similarity": "AutoModel",
}


def is_task(info: dict[str, Any]) -> bool:
    """Tell whether run.json is that of a fine-tuning run."""
    return info.get("kind") == "finetune"


def task_cards(info: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (figure, name, what to compare it with) of the first figures, the one that chose the weights first."""
    outcome, chosen = info.get("outcome") or {}, (info.get("result") or {}).get("metric")
    figures = sorted(outcome.get("figures") or [], key=lambda figure: figure["name"] != chosen)
    found = [(fixed(figure["value"]), _title(figure["name"]), _beside(figure, outcome)) for figure in figures[:3]]
    loss = (info.get("result") or {}).get("eval_loss")
    if loss is None:
        return found
    return [*found[:2], (fixed(loss), "validation loss", "the mean of the loss that was trained")]


def _title(name: str) -> str:
    return name.replace("_", " ").replace("f1", "F1")


def _beside(figure: dict[str, Any], outcome: dict[str, Any]) -> str:
    parts = []
    if figure.get("low") is not None:
        parts.append(f"95% interval {fixed(figure['low'])} … {fixed(figure['high'])}")
    parts += [
        f"{clean(row['label'])}: {fixed(row['figures'][figure['name']])}"
        for row in outcome.get("baselines") or []
        if row["figures"].get(figure["name"]) is not None
    ]
    return "; ".join(parts)


def task_measured(info: dict[str, Any]) -> str:
    """Say on what the figures were measured, and which weights they are of."""
    result, outcome = info.get("result") or {}, info.get("outcome") or {}
    if not outcome:
        return "This run has not come to its end; the curves show the figures so far."
    return (
        f"Measured on {number(outcome['examples'])} validation rows, which the model was not trained on. model/ holds "
        f"the weights of step {number(result.get('best_step'))}, {_chosen(result)}."
    )


def _chosen(result: dict[str, Any]) -> str:
    return "the last" if result.get("chosen") == "the last" else f"the best by {_title(str(result.get('metric')))}"


def task_tables(info: dict[str, Any]) -> list[Table]:
    """Return the tables of figures, classes and confusions."""
    outcome = info.get("outcome") or {}
    if not outcome:
        return []
    names = [clean(row["label"]) for row in outcome["baselines"]]
    rows = [
        [
            _title(figure["name"]),
            fixed(figure["value"]),
            "" if figure["low"] is None else f"{fixed(figure['low'])} … {fixed(figure['high'])}",
            *(fixed(row["figures"].get(figure["name"])) for row in outcome["baselines"]),
        ]
        for figure in outcome["figures"]
    ]
    notes = " ".join(str(note)[:1].upper() + str(note)[1:] + "." for note in outcome.get("notes") or [])
    found: list[Table] = [("What to compare it with", notes, ["figure", "this model", "95% interval", *names], rows)]
    return found + _classes(outcome) + _confusion(outcome)


def _classes(outcome: dict[str, Any]) -> list[Table]:
    rows = [
        [
            clean(str(row["label"])),
            *(fixed(row[key]) for key in ("precision", "recall", "f1")),
            *(number(row[key]) for key in ("labelled", "predicted")),
        ]
        for row in outcome.get("per_class") or []
    ]
    more = f"The first {CLASSES} of {len(rows)} classes; run.json has all." if len(rows) > CLASSES else ""
    head = ["class", "precision", "recall", "F1", "labelled", "predicted"]
    return [("By class", more, head, rows[:CLASSES])] if rows else []


def _confusion(outcome: dict[str, Any]) -> list[Table]:
    held = outcome.get("confusion")
    if not held or len(held["labels"]) > 12:
        return []
    labels = [clean(str(name)) for name in held["labels"]]
    rows = [[name, *map(number, counts)] for name, counts in zip(labels, held["matrix"], strict=True)]
    return [("What is taken for what", "Rows: the label; columns: what the model said.", ["", *labels], rows)]


def task_commands(info: dict[str, Any], folder: str) -> list[tuple[str, str, str]]:
    """Return (what for, language, what to type) for a fine-tuned model."""
    config = info.get("config") or {}
    task = str(config.get("task"))
    loader = LOADERS.get(task, "AutoModelForSeq2SeqLM")
    if task == "seq2seq" and str((info.get("model") or {}).get("class", "")).endswith("CausalLM"):
        loader = "AutoModelForCausalLM"
    model = json.dumps(folder + "/model", ensure_ascii=False)
    load = (
        f"from transformers import {loader}, AutoTokenizer\n"
        f"model = {loader}.from_pretrained({model})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({model})"
    )
    resume = shlex.join([program(), "finetune", "--output-dir", folder, "--resume-from-checkpoint"])
    return [("Go on training", "sh", resume), ("Load with transformers", "python", load)]
