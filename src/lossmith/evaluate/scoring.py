"""What a model answers for the rows of a table: classes, numbers, similarities, embeddings of pairs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lossmith.data.labelled import label_text
from lossmith.data.rows import table_rows
from lossmith.errors import DataError, InputError, did_you_mean
from lossmith.evaluate.bootstrap import Floats
from lossmith.evaluate.encoders import Encoder, classes_of_model, embeddings, logits, open_encoder
from lossmith.evaluate.predictions import Answers, _number, scored_answers, softmax
from lossmith.evaluate.retrieval import distinct

COSINE_DECIMALS = 6  # states are float32, and padding moves their last digits: what is equal must stay a tie


class Options(Protocol):
    """Name what of the command line says how a table is read and a model is run (see `lossmith eval --help`)."""

    text_column: tuple[str, ...]
    label_column: str | None
    labels: tuple[str, ...]
    query_column: str
    document_column: str
    encoding: str
    per_device_eval_batch_size: int
    max_examples: int | None

    @property
    def pooling(self) -> str:
        """How token states become one vector."""


def model_answers(
    folder: Path, data: Path, task: str, options: Options, tokenizer: str | None
) -> tuple[Answers, list[str]]:
    """Return what a model says of each row, and notes; texts stream, a row leaves its label and its scores.

    classification: the head's softmax; regression: its one output; similarity: the cosine of two texts' embeddings.
    """
    columns = _text_columns(options, task)
    wanted = dict.fromkeys(columns, "--text-column") | {options.label_column or "label": "--label-column"}
    rows = table_rows(data, wanted, options.encoding, options.max_examples)
    if task == "similarity":
        return _similarity(folder, rows, options, tokenizer)
    encoder = open_encoder(folder, "AutoModelForSequenceClassification", tokenizer)
    single = encoder.model.config.num_labels == 1
    if single != (task == "regression"):
        raise InputError(
            f"--task {task} needs a head of {'one output' if task == 'regression' else 'two outputs or more'}; the "
            f"model in {folder} has {encoder.model.config.num_labels}"
        )
    true: list[Any] = []
    found = logits(encoder, _taken(rows, columns, true), options.per_device_eval_batch_size)
    if single:
        answers = Answers(_numbers(true, options), found[:, 0].tolist())
    else:
        classes = list(options.labels) or classes_of_model(encoder.model)
        answers = scored_answers(_known(true, classes, encoder, options), softmax(found), classes)
    return answers, _notes(encoder)


def _text_columns(options: Options, task: str) -> tuple[str, ...]:
    columns = options.text_column or (("text",) if task != "similarity" else ())
    if len(columns) > 2 or (task == "similarity" and len(columns) != 2):
        want = "two columns" if task == "similarity" else "one column, or two of a pair"
        raise InputError(f"--text-column takes {want} for --task {task}; got {' '.join(columns) or 'none'}")
    return columns


def _taken(rows: Iterator[tuple[Any, ...]], columns: tuple[str, ...], true: list[Any]) -> Iterator[tuple[str, ...]]:
    """Yield the texts of each row, and keep its label."""
    for number, row in enumerate(rows, 1):
        texts = row[: len(columns)]
        for name, cell in zip(columns, texts, strict=True):
            _text(cell, name, number)
        true.append(row[-1])
        yield texts


def _text(cell: Any, name: str, row: int) -> str:
    if not isinstance(cell, str) or not cell.strip():
        raise DataError(f"row {row}: {name!r} must be text; got {cell!r}. Fill it in, or take the row out")
    return cell


def _numbers(true: list[Any], options: Options) -> list[float]:
    return [_number(cell, options.label_column or "label", row) for row, cell in enumerate(true, 1)]


def _known(true: list[Any], classes: list[str], encoder: Encoder, options: Options) -> list[str]:
    """Return labels as class names; a table may have names, or the indices of the head's outputs."""
    if len(classes) != encoder.model.config.num_labels:
        raise InputError(
            f"--labels names {len(classes)} classes and the model has {encoder.model.config.num_labels}: "
            f"{', '.join(classes_of_model(encoder.model))}"
        )
    column = options.label_column or "label"
    texts = [label_text(cell, column, row) for row, cell in enumerate(true, 1)]
    by_index = {str(i): name for i, name in enumerate(classes)}
    if all(text in by_index for text in texts) and not all(text in classes for text in texts):
        return [by_index[text] for text in texts]
    for row, text in enumerate(texts, 1):
        if text not in classes:
            raise DataError(
                f"row {row}: the label {text!r} is none of the model's classes {', '.join(classes)}."
                f"{did_you_mean(text, classes)} Say which label each output stands for with --labels"
            )
    return texts


def _notes(encoder: Encoder) -> list[str]:
    note = encoder.note()
    return [] if note is None else [note]


def _similarity(
    folder: Path, rows: Iterator[tuple[Any, ...]], options: Options, tokenizer: str | None
) -> tuple[Answers, list[str]]:
    encoder = open_encoder(folder, "AutoModel", tokenizer)
    true: list[Any] = []
    columns, size = options.text_column, options.per_device_eval_batch_size
    texts = (text for pair in _taken(rows, columns, true) for text in pair)
    vectors = embeddings(encoder, texts, size, options.pooling)
    cosines = (vectors[::2] * vectors[1::2]).sum(1).round(COSINE_DECIMALS)
    return Answers(_numbers(true, options), cosines.tolist()), _notes(encoder)


def pair_embeddings(
    folder: Path, data: Path, options: Options, tokenizer: str | None
) -> tuple[Floats, Floats, list[int], list[str]]:
    """Return the unit vectors of queries [n, D] and of different documents [m, D], each query's document, and notes."""
    encoder = open_encoder(folder, "AutoModel", tokenizer)
    names = (options.query_column, options.document_column)
    wanted = dict(zip(names, ("--query-column", "--document-column"), strict=True))
    rows = list(table_rows(data, wanted, options.encoding, options.max_examples))
    pairs = [[_text(cell, name, n) for cell, name in zip(row, names, strict=True)] for n, row in enumerate(rows, 1)]
    documents, own = distinct([pair[1] for pair in pairs])
    size = options.per_device_eval_batch_size
    queries = embeddings(encoder, [pair[0] for pair in pairs], size, options.pooling)
    found = embeddings(encoder, documents, size, options.pooling)
    return np.asarray(queries), np.asarray(found), own, _notes(encoder)
