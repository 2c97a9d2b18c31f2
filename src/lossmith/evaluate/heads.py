"""Models with a head for several labels, or for a tag to each word, over the rows of a table; models that write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from lossmith.data.labelled import LabelColumns, Labelled, read_labelled
from lossmith.data.tokenizers import tokenized
from lossmith.errors import DataError, InputError, did_you_mean
from lossmith.evaluate.encoders import Encoder, classes_of_model, logits, open_encoder
from lossmith.evaluate.generating import write_all
from lossmith.evaluate.predictions import Answers, text_rows
from lossmith.evaluate.tagging import first_places


class Options(Protocol):
    """Name what of the command line these evaluations read (see `lossmith eval --help`)."""

    text_column: tuple[str, ...]
    label_column: str | None
    source_column: str | None
    tokens_column: str
    tags_column: str
    encoding: str
    per_device_eval_batch_size: int
    max_examples: int | None
    max_new_tokens: int


def head_answers(
    folder: Path, data: Path, task: str, options: Options, tokenizer: str | None
) -> tuple[Answers, list[str]]:
    """Return what a model with a head for --task multi_label or tagging, or one that writes (generation), says; notes.

    Errors: DataError for a folder without such a head, or a label that the model does not have.
    """
    if task == "generation":
        return _generation(folder, data, options, tokenizer)
    columns = LabelColumns(
        text=options.text_column, label=options.label_column, tokens=options.tokens_column, tags=options.tags_column
    )
    table = read_labelled(data, task, columns, encoding=options.encoding, limit=options.max_examples)
    rows = table.rows
    kind = "AutoModelForSequenceClassification" if task == "multi_label" else "AutoModelForTokenClassification"
    encoder = open_encoder(folder, kind, tokenizer, several=task == "multi_label")
    classes = classes_of_model(encoder.model)
    _check_known(rows, classes)
    made = _several if task == "multi_label" else _tags
    answers = Answers([row.label for row in rows], made(encoder, rows, classes, options), classes=tuple(classes))
    left_out = f"{table.empty:,} rows without text are left out" if table.empty else None
    return answers, [note for note in (encoder.note(), left_out) if note]


def _check_known(rows: Sequence[Labelled], classes: Sequence[str]) -> None:
    for row in rows:
        for label in row.label:
            if label not in classes:
                raise DataError(
                    f"row {row.row}: the label {label!r} is none of the model's {', '.join(classes)}."
                    f"{did_you_mean(label, classes)}"
                )


def _several(encoder: Encoder, rows: Sequence[Labelled], classes: list[str], options: Options) -> list[tuple[str, ...]]:
    found = logits(encoder, (row.texts for row in rows), options.per_device_eval_batch_size) > 0
    return [tuple(name for name, has in zip(classes, row, strict=True) if has) for row in found]


def _tags(encoder: Encoder, rows: Sequence[Labelled], classes: list[str], options: Options) -> list[list[str]]:
    """The first piece of a word speaks for it; a word without one (cut off, or unknown) counts as wrong."""
    return [_tagged(encoder, row.texts, classes) for row in rows]


def _tagged(encoder: Encoder, words: tuple[str, ...], classes: list[str]) -> list[str]:
    import torch

    limits: dict[str, Any] = {"truncation": True, "max_length": encoder.context} if encoder.context else {}
    made = tokenized(encoder.tokenizer, list(words), is_split_into_words=True, return_tensors="pt", **limits)
    with torch.no_grad():
        out = encoder.model(**{name: tensor.to(encoder.model.device) for name, tensor in made.items()})
    best, owners = out.logits[0].argmax(-1).tolist(), made.word_ids()
    firsts = first_places(owners)
    encoder.texts, encoder.longer = encoder.texts + 1, encoder.longer + (bool(owners) and len(words) - 1 not in firsts)
    return [classes[best[firsts[i]]] if i in firsts else "" for i in range(len(words))]


def _generation(folder: Path, data: Path, options: Options, tokenizer: str | None) -> tuple[Answers, list[str]]:
    source, label = options.source_column or "source", options.label_column or "target"
    wanted = {source: "--source-column", label: "--label-column"}
    if source == label:
        raise InputError(
            f"--source-column and --label-column are both {source}: one is what is read, one what is right"
        )
    rows = text_rows(data, wanted, options.encoding, options.max_examples)
    sources, references = [row[0] for row in rows], [row[1] for row in rows]
    size, longest = options.per_device_eval_batch_size, options.max_new_tokens
    written, notes = write_all(folder, sources, tokenizer=tokenizer, batch_size=size, max_new_tokens=longest)
    return Answers(references, written, sources=sources), notes
