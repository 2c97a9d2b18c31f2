"""lossmith eval: what a model, or a file of predictions, is worth: figures, intervals, baselines, paired tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from lossmith.errors import InputError

if TYPE_CHECKING:
    from lossmith.evaluate.bootstrap import Resampling
    from lossmith.evaluate.outcome import Outcome

Column = Annotated[str | None, arg(metavar="COLUMN", help_behavior_hint="")]
Columns = Annotated[tuple[str, ...], arg(metavar="COLUMN [COLUMN …]", help_behavior_hint="")]
Task = Literal[
    "language_modeling",
    "classification",
    "regression",
    "similarity",
    "generation",
    "minimal_pairs",
    "cloze",
    "retrieval",
    "multi_label",
    "tagging",
]
HEADS = ("generation", "multi_label", "tagging")
FROM_FILE = ("classification", "regression", "similarity", "generation")


@dataclass
class Args:
    """Evaluate a model on data, or a file of predictions (docs/evaluation.md)."""

    inputs: Positional[Annotated[tuple[str, ...], arg(metavar="MODEL DATA …")]] = ()
    """Run folder or Hugging Face folder, then what to evaluate on: as for lossmith train, or one table."""
    task: Task = "language_modeling"
    """What the model does; with --predictions one of classification, regression, similarity, generation."""
    predictions: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Evaluate this table of predictions (.jsonl, .csv, .tsv, .parquet) instead of a model."""
    compare: Annotated[Path | None, arg(metavar="OTHER", help_behavior_hint="")] = None
    """Another model, or another file of predictions, for a paired test on the same examples."""
    text_field: Column = None
    """Column of the text, where documents are rows of a table (language_modeling)."""
    text_column: Columns = ()
    """Column of the text, or two of a pair (classification, regression; similarity takes two)."""
    label_column: Column = None
    """Column of the label (default: label; generation: reference, with a model target)."""
    prediction_column: str = "prediction"
    """Column of the prediction (--predictions)."""
    source_column: Column = None
    """Column of the source text: for a model what it reads (default: source), and the baseline that copies it."""
    tokens_column: str = "tokens"
    """Column of the list of words (tagging)."""
    tags_column: str = "tags"
    """Column of the list of tags (tagging)."""
    max_new_tokens: int = 64
    """Longest text that a model writes, in tokens (generation)."""
    probability_columns: Columns = ()
    """Columns of the classes' probabilities, or one column that holds a list or {label: probability}."""
    logit_columns: Columns = ()
    """The same for logits."""
    labels: Annotated[tuple[str, ...], arg(metavar="LABEL [LABEL …]", help_behavior_hint="")] = ()
    """The classes, in the order of the scores; any other label is an error."""
    good_column: str = "good"
    """Column of the better sentence (minimal_pairs)."""
    bad_column: str = "bad"
    """Column of the worse sentence (minimal_pairs)."""
    prompt_column: str = "prompt"
    """Column of the prompt (cloze)."""
    candidates_column: str = "candidates"
    """Column of the list of candidates (cloze)."""
    answer_column: str = "answer"
    """Column of the right candidate, or its index from 0 (cloze)."""
    query_column: str = "query"
    """Column of the query (retrieval)."""
    document_column: str = "document"
    """Column of the document that belongs to the query (retrieval)."""
    pooling: Literal["mean", "cls", "last"] = "mean"
    """How token states become one vector (retrieval, similarity)."""
    bleu_tokenize: Annotated[str | None, arg(help_behavior_hint="(default: zh for Chinese, else 13a)")] = None
    """How BLEU splits words: 13a, zh, char, intl, none (generation)."""
    tokenizer: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: the model's)")] = None
    """Folder of the tokenizer."""
    encoding: str = "utf-8"
    """Encoding of text files."""
    context_length: Annotated[int | None, arg(help_behavior_hint="(default: the model's)")] = None
    """Longest input, in tokens (language_modeling, minimal_pairs, cloze)."""
    stride: Annotated[int | None, arg(help_behavior_hint="(default: the context)")] = None
    """New tokens scored per window; less gives more context and takes longer (language_modeling)."""
    per_device_eval_batch_size: int = 8
    """Windows or rows in a batch."""
    max_examples: Annotated[int | None, arg(help_behavior_hint="(default: all)")] = None
    """Only the first so many documents or rows."""
    bootstrap_samples: int = 1000
    """Resamples for intervals and tests."""
    confidence: float = 0.95
    """Share of the resamples that an interval covers."""
    seed: int = 0
    """Seed of the bootstrap."""
    pictures: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Write confusion.png and, with probabilities, reliability.png into this folder (classification)."""
    rivals: FlagCreatePairsOff[bool] = True
    """Leave out what compressors make of the text, which takes a while on long ones (language_modeling)."""
    given: Annotated[tuple[str, ...], arg(metavar="TEXT [TEXT …]", help_behavior_hint="(default: the run's own)")] = ()
    """What the model was trained on: the compressors may read it first (language_modeling)."""
    as_code_length: FlagCreatePairsOff[bool] = False
    """MODEL is a run, without DATA: the bytes in which it could have sent its training text while learning it."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object instead of tables."""


def run(args: Args) -> None:
    """Evaluate, compare, print."""
    from lossmith.cli.eval_show import show
    from lossmith.evaluate.bootstrap import Resampling

    if args.as_code_length:
        from lossmith.cli.eval_code_length import show_code_length

        show_code_length(args)
        return
    _check(args)
    how = Resampling(args.bootstrap_samples, args.confidence, args.seed)
    outcome = _predictions(args, how) if args.predictions is not None else _model(args, how)
    outcome.notes += _of_another_tokenizer(args)
    written = _draw(args, outcome)
    if args.json:
        told = {
            "model": None if args.predictions else args.inputs[0],
            "data": [str(args.predictions)] if args.predictions else list(args.inputs[1:]),
            "compare": None if args.compare is None else str(args.compare),
            "confidence": args.confidence,
            **outcome.to_json(),
            "pictures": [str(path) for path in written],
        }
        print(json.dumps(told, ensure_ascii=False, allow_nan=False))
    else:
        show(outcome, written, args.confidence)


def _check(args: Args) -> None:
    if args.predictions is not None:
        if args.inputs:
            raise InputError(f"with --predictions there is no MODEL and no DATA; got {' '.join(args.inputs)}")
        if args.task not in FROM_FILE:
            raise InputError(f"--predictions needs --task {', '.join(FROM_FILE)}; got --task {args.task}")
    elif len(args.inputs) < 2:
        raise InputError(
            "lossmith eval needs MODEL and DATA, as in lossmith eval runs/my-run text.txt, or --predictions FILE; got "
            f"{' '.join(args.inputs) or 'neither'}"
        )
    elif args.task != "language_modeling" and len(args.inputs) != 2:
        raise InputError(f"--task {args.task} takes one table; got {len(args.inputs) - 1}: {' '.join(args.inputs[1:])}")
    if args.max_examples is not None and args.max_examples < 1:
        raise InputError(f"--max-examples must be 1 or more; got {args.max_examples}")
    if len(set(args.labels)) < len(args.labels):
        raise InputError(f"--labels names a class twice: {' '.join(args.labels)}")
    if args.given and (args.task != "language_modeling" or args.predictions is not None or not args.rivals):
        raise InputError("--given is for the compressors beside a language model: leave it out here")
    if args.pictures is not None and args.task != "classification":
        raise InputError(f"--pictures draws classifications (--task classification); got --task {args.task}")


def _predictions(args: Args, how: Resampling) -> Outcome:
    from lossmith.evaluate.predictions import Answers, Columns, compare, judge, read_predictions

    assert args.predictions is not None
    columns = Columns(
        args.label_column,
        args.prediction_column,
        args.source_column,
        args.probability_columns,
        args.logit_columns,
        args.labels,
    )

    def answers(path: Path) -> Answers:
        return read_predictions(path, args.task, columns, encoding=args.encoding, limit=args.max_examples)

    ours = answers(args.predictions)
    outcome = judge(args.task, ours, how, tokenize=args.bleu_tokenize)
    if args.compare is not None:
        compare(outcome, ours, answers(args.compare), how, tokenize=args.bleu_tokenize)
    return outcome


def _model(args: Args, how: Resampling) -> Outcome:
    if args.task == "language_modeling":
        from lossmith.cli.eval_language import language

        return language(args, how)
    if args.task in ("minimal_pairs", "cloze"):
        return _choices(args, how)
    if args.task == "retrieval":
        return _retrieval(args, how)
    return _table(args, how)


def _folder(path: str | Path) -> Path:
    from lossmith.models.folder import find_model

    return find_model(Path(path))


def _of_another_tokenizer(args: Args) -> list[str]:
    """Say that --tokenizer has other tokens than the model's own: it fits by its size, and the figures mean nothing."""
    from lossmith.data import Tokenizer

    if args.tokenizer is None or args.predictions is not None:
        return []
    own = _folder(args.inputs[0])
    try:
        pair = [Tokenizer.load(folder).pieces for folder in (own, args.tokenizer)]
    except InputError:  # the folder has none, or one that only transformers can read
        return []
    if all(here == there for here, there in zip_longest(*pair, fillvalue=b"")):  # special tokens have no text
        return []
    return [f"{args.tokenizer} has other tokens than {own}: the model reads another text than it was trained on"]


def _choices(args: Args, how: Resampling) -> Outcome:
    from lossmith.evaluate.cloze import (
        CLOZE_FIGURES,
        PAIR_FIGURES,
        Choices,
        choice_outcome,
        choice_units,
        cloze,
        minimal_pairs,
    )
    from lossmith.evaluate.opening import open_causal
    from lossmith.evaluate.outcome import compare_means

    def choices(folder: str | Path, tokenizer: str | None) -> Choices:
        given, data = open_causal(_folder(folder), tokenizer, args.context_length), Path(args.inputs[1])
        size, limit = args.per_device_eval_batch_size, args.max_examples
        if args.task == "minimal_pairs":
            sides = (args.good_column, args.bad_column)
            return minimal_pairs(given, data, sides, batch_size=size, encoding=args.encoding, limit=limit)
        columns = (args.prompt_column, args.candidates_column, args.answer_column)
        return cloze(given, data, columns, batch_size=size, encoding=args.encoding, limit=limit)

    ours = choices(args.inputs[0], args.tokenizer)
    outcome = choice_outcome(args.task, ours, how)
    if args.compare is not None:
        names = PAIR_FIGURES if args.task == "minimal_pairs" else CLOZE_FIGURES
        other = choice_units(args.task, choices(args.compare, None))
        outcome.differences = compare_means(names, choice_units(args.task, ours), other, how)
    return outcome


def _table(args: Args, how: Resampling) -> Outcome:
    """What a model says of each row of a table, judged and compared as a file of its predictions would be."""
    from lossmith.evaluate.heads import head_answers
    from lossmith.evaluate.predictions import compare, judge
    from lossmith.evaluate.scoring import model_answers

    answers, data = head_answers if args.task in HEADS else model_answers, Path(args.inputs[1])
    ours, notes = answers(_folder(args.inputs[0]), data, args.task, args, args.tokenizer)
    outcome = judge(args.task, ours, how, tokenize=args.bleu_tokenize)
    outcome.notes += notes
    if args.compare is not None:
        other, told = answers(_folder(args.compare), data, args.task, args, None)
        outcome.notes += [f"{args.compare}: {note}" for note in told if note not in notes]
        compare(outcome, ours, other, how, tokenize=args.bleu_tokenize)
    return outcome


def _retrieval(args: Args, how: Resampling) -> Outcome:
    from lossmith.evaluate.outcome import compare_means
    from lossmith.evaluate.retrieval import FIGURES, retrieval_outcome, retrieval_units
    from lossmith.evaluate.scoring import pair_embeddings

    queries, documents, own, notes = pair_embeddings(
        _folder(args.inputs[0]), Path(args.inputs[1]), args, args.tokenizer
    )
    outcome, units = retrieval_outcome(queries, documents, own, how)
    outcome.notes += notes
    if args.compare is not None:
        other = pair_embeddings(_folder(args.compare), Path(args.inputs[1]), args, None)
        outcome.differences = compare_means(FIGURES, units, retrieval_units(*other[:3]), how)
    return outcome


def _draw(args: Args, outcome: Outcome) -> list[Path]:
    from lossmith.evaluate.calibration import draw_reliability
    from lossmith.evaluate.confusion import draw_confusion

    if args.pictures is None:
        return []
    written = []
    if outcome.confusion is not None:
        written.append(args.pictures / "confusion.png")
        draw_confusion(outcome.confusion, written[-1])
    if outcome.reliability is not None:
        written.append(args.pictures / "reliability.png")
        draw_reliability(outcome.reliability, written[-1])
    return written
