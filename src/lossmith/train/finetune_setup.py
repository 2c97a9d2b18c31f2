"""From options to what a fine-tuning run trains: rows, their facts, tokenizer, model, examples in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossmith.data.labelled import Labelled, read_labelled
from lossmith.data.labelled_audit import audit, check_labels, split_rows
from lossmith.data.labelled_order import Examples
from lossmith.errors import InputError
from lossmith.evaluate.encoders import position_offset
from lossmith.evaluate.sampling import max_positions
from lossmith.train.config import settled
from lossmith.train.finetune_config import FinetuneConfig, presets_of
from lossmith.train.finetune_encode import Coder, Encoded, check_whole, encode
from lossmith.train.finetune_kinds import Classification, Kind, Regression
from lossmith.train.finetune_kinds_labels import MultiLabel, Tagging
from lossmith.train.finetune_kinds_pairs import Similarity
from lossmith.train.finetune_kinds_text import Instruction, Seq2Seq, seq2seq_class
from lossmith.train.finetune_model import Made, add_lora, drop, freeze, from_preset, load_pretrained
from lossmith.train.finetune_tokenizer import ROLES, SavedTokenizer, copy_tokenizer, new_tokenizer

KINDS: dict[str, type[Kind]] = {
    kind.task: kind for kind in (Classification, MultiLabel, Regression, Tagging, Seq2Seq, Instruction, Similarity)
}
UNLIMITED = 512  # tokens of a row where a model names no longest one


@dataclass(frozen=True)
class Rows:
    """Training and validation rows, and what is known of them."""

    training: list[Labelled]
    validation: list[Labelled]
    facts: dict[str, Any]


@dataclass(frozen=True)
class FineTask:
    """What a fine-tuning run is trained and judged with."""

    kind: Kind
    tokenizer: SavedTokenizer
    validation: Encoded
    blocks: Examples
    objective: Any


def read_rows(config: FinetuneConfig) -> Rows:
    """Read the tables, audit them and split; DataError for what cannot be learnt from."""
    task, encoding = settled(config.task), settled(config.encoding)
    source = Path(settled(config.train_data))
    table = read_labelled(source, task, config.columns, encoding=encoding, limit=config.max_train_examples)
    facts = {"train": audit(table, task)}
    if config.eval_data is None:
        training, validation = split_rows(table.rows, settled(config.validation_fraction), task, settled(config.seed))
        facts["held_out"] = {"rows": len(validation), "of": len(table.rows)}
    else:
        training = table.rows
        held = read_labelled(Path(config.eval_data), task, config.columns, encoding=encoding)
        validation, facts["validation"] = held.rows, audit(held, task)
        known = {row.texts or row.label for row in training}
        facts["validation"]["also_in_training"] = sum((row.texts or row.label) in known for row in validation)
    return Rows(training, validation, facts)


def make_kind(config: FinetuneConfig, rows: Rows) -> Kind:
    """Return the task of the options for these rows; DataError for validation labels that training does not have."""
    kind = KINDS[settled(config.task)](config, rows.training)
    if kind.classes:
        check_labels(rows.validation, kind.classes, kind.task, config.eval_data or settled(config.train_data))
    kind.check(rows.validation)
    return kind


def write_tokenizer(config: FinetuneConfig, model: Path | None, rows: Rows, folder: Path) -> None:
    """Write the run's tokenizer: the model's own, or for a preset a new one from the training texts."""
    if model is None:
        roles = ("pad",) if config.task in ("seq2seq", "instruction") else ROLES
        new_tokenizer(settled(config.tokenizer), texts_of(rows.training), folder, roles)
    else:
        copy_tokenizer(Path(config.tokenizer) if config.tokenizer else model, folder)


def texts_of(rows: Sequence[Labelled]) -> list[str]:
    """Return every text of rows that is to be encoded."""
    found: list[str] = []
    for row in rows:
        found += row.texts
        if isinstance(row.label, str):
            found.append(row.label)
        elif isinstance(row.label, tuple):
            found += [part[1] for part in row.label if isinstance(part, tuple)]
    return found


def make_model(config: FinetuneConfig, kind: Kind, model: Path | None, tokenizer: SavedTokenizer) -> Made:
    """Return the model with the task's head; what is frozen has no gradients.

    Errors: DataError where tokenizer and model do not fit, InputError for a model without such a head.
    """
    seed, settings = settled(config.seed), kind.settings()
    auto = seq2seq_class(model) if kind.task == "seq2seq" else kind.auto
    if model is None:
        presets = presets_of(kind.task)
        made = from_preset(settled(config.model), presets, auto, settings, tokenizer.hf, config.max_length, seed)
        drop(made.model, config.dropout, kind.task)
        return made
    settings |= {} if tokenizer.hf.pad_token_id is None else {"pad_token_id": tokenizer.hf.pad_token_id}
    made = load_pretrained(model, auto, kind.task, settings, seed, len(tokenizer.hf))
    if getattr(made.model.config, "pad_token_id", None) is None:
        made.model.config.pad_token_id = tokenizer.pad_id  # a causal classifier finds the last token by it
    drop(made.model, config.dropout, kind.task)
    if config.freeze:
        freeze(made, config.freeze)
    if config.lora_rank:
        add_lora(made, config)
    return made


def longest_row(config: FinetuneConfig, model: Any) -> int:
    """Return the tokens that a row may have; InputError for a --max-length beyond the model's positions."""
    limit = max_positions(model)
    limit = limit - position_offset(model) if limit else None
    if config.max_length and limit and config.max_length > limit:
        raise InputError(f"--max-length {config.max_length} is more than the {limit} positions of the model")
    return config.max_length or limit or UNLIMITED


def make_task(
    config: FinetuneConfig, kind: Kind, rows: Rows, tokenizer: SavedTokenizer, model: Any, ranks: int
) -> FineTask:
    """Encode the rows, put them in order and make the objective."""
    longest = longest_row(config, model)
    coder = Coder(tokenizer.hf, longest, settled(config.truncation))
    kind.use(coder, model)
    training = encode(rows.training, coder, lambda part: kind.examples(part, coder))
    validation = encode(rows.validation, coder, lambda part: kind.examples(part, coder))
    check_whole(training, "training")
    check_whole(validation, "validation")
    for name, part in (("train", training), ("validation", validation)):
        rows.facts.setdefault("tokens", {})[name] = {
            "rows": len(part.examples),
            "tokens": sum(part.lengths),
            "longest_allowed": longest,
            "longer": part.longer,
            "cut_tokens": part.cut_tokens,
            "left_out": part.dropped,
        }
    step = settled(config.per_device_train_batch_size) * settled(config.gradient_accumulation_steps) * ranks
    blocks = Examples(training.examples, lengths=training.lengths, step=step, seed=settled(config.seed))
    return FineTask(kind, tokenizer, validation, blocks, kind.objective(tokenizer.pad_id))
