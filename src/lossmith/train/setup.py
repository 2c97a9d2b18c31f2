"""What an objective is trained with: its tokenizer, its examples, its model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from lossmith.data import Blocks, Pairs, Sentences, Tokenizer, TokenStore, held_out_texts, pair, windows
from lossmith.errors import DataError, InputError
from lossmith.models import bodies, build_model, check_causal, encode_decode, loss_path, rows_path, seq2seq_path
from lossmith.models.build import has_weights
from lossmith.objectives import CausalObjective, Objective, ObjectiveSpec, SpanObjective, loss_unit, spec_named
from lossmith.objectives.scoring import alike, tokens_in
from lossmith.train.config import TrainConfig, settled
from lossmith.train.options import RunOptions

EXAMPLES: dict[str, type[Blocks]] = {"blocks": Blocks, "pairs": Pairs, "sentences": Sentences}
"""What the examples of an objective are, by its spec's `examples`."""


@dataclass(frozen=True)
class Task:
    """An objective made for a token store, with the tokenizer and the training examples that it needs."""

    spec: ObjectiveSpec
    objective: Objective
    tokenizer: Tokenizer
    blocks: Blocks
    window: int
    """What `Blocks` and `windows` call the block size: the tokens of text in a block, less one."""
    document_mask: bool = False
    new_tokens: int = 0
    """Tokens that the objective added to the tokenizer: weights to continue from do not know them."""
    batch_size: int = 1
    pad_id: int | None = None
    """The token that means nothing, where the objective has one."""

    @property
    def judged_by(self) -> Objective:
        """The objective of an evaluation: a causal model's is the surprise at the next token, a student's its task."""
        return CausalObjective() if self.spec.causal else getattr(self.objective, "judged_by", self.objective)

    def held_out(self, store: TokenStore, limit: int | None) -> Iterator[dict[str, Any]]:
        """Yield the windows of the validation text in order, each with its place."""
        if self.spec.examples == "sentences":
            yield from held_out_texts(store.validation, self.window + 1, limit)
            return
        found = windows(store.validation, self.window, limit=limit, document_mask=self.document_mask)
        for place, example in enumerate(found):
            numbered: dict[str, Any] = example | {"index": np.int64(place)}
            start = place * self.window
            pairs = self.spec.examples == "pairs"
            yield pair(store.validation, numbered, start, (0, place)) if pairs else numbered

    def held_out_groups(self, store: TokenStore, limit: int | None, size: int) -> Iterator[list[dict[str, Any]]]:
        """Yield the validation examples in batches: of one length, or of as many texts as in training.

        A last batch with fewer texts is left out where there are others: it would have fewer negatives.
        """
        if self.spec.additive:
            yield from alike(self.held_out(store, limit), size, tokens_in)
            return
        found, number = self.held_out(store, limit), 0
        while group := list(islice(found, self.batch_size)):
            if len(group) == self.batch_size or (number == 0 and len(group) > 1):
                yield group
            number += 1

    @property
    def chance(self) -> tuple[float, str]:
        """The loss of knowing nothing, in nats, and what it is: ln V, or the logarithm of how many are compared."""
        if self.spec.additive:
            return math.log(self.tokenizer.vocab_size), "ln V"
        compared = self.batch_size * max(1, getattr(self.objective, "columns", 1) - 1)
        return math.log(compared), f"ln {compared:,}"

    @property
    def loss_unit(self) -> str:
        """What the loss is measured in; the validation loss of a causal model is that of the next token alone."""
        said = loss_unit(self.objective, self.spec.unit)
        return f"{said}; validation: per token" if self.judged_by is not self.objective and ":" in said else said

    def notes(self) -> list[str]:
        """Say what a reader should know of the objective and of the examples."""
        said = [self.objective.announces] if hasattr(self.objective, "announces") else []
        if not isinstance(self.blocks, Sentences):
            return said
        texts, longer = self.blocks.texts, self.blocks.longer
        cut = f"{longer:,} are longer than the context of {self.window + 3} tokens and are cut to it"
        return [*said, f"{texts:,} training texts; {cut if longer else 'none is longer than the context'}"]

    def comparable(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the baselines that the loss may be compared with.

        What guesses from both sides spells no text: it has no bits per byte, and neither have the rows beside it.
        """
        if self.spec.causal:
            return rows
        if not self.spec.additive:
            nats, label = self.chance
            definition = "the partner guessed at random among those that it is compared with"
            own = {"bits_per_byte": None, "definition": definition}
            return [{"name": "chance", "label": f"{label}: any of them", "nats_per_token": nats, **own}]
        if len(getattr(self.judged_by, "names", ())) > 1:  # a sum of several averages
            return []
        known = [row | {"bits_per_byte": None} for row in rows if row["name"] in ("uniform", "unigram")]
        return [self._per_target(row) for row in known] if self.spec.architecture == "seq2seq" else known

    def _per_target(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a unigram baseline per target token: the text in it at its cost, sentinels and end for nothing."""
        if row["name"] != "unigram":
            return row
        share = cast(SpanObjective, self.objective).text_share(self.window + 1)
        return row | {
            "label": f"{row['label']}; sentinels and end for nothing",
            "nats_per_token": row["nats_per_token"] * share,
            "definition": f"{row['definition']}, × {share:.4f}, the part of the targets that is text",
        }


def make_task(config: TrainConfig, store: TokenStore) -> Task:
    """Make the objective of resolved options; InputError where --block-size leaves no room for text."""
    spec, options = spec_named(settled(config.objective)), asdict(config)
    context, seed = settled(config.block_size), settled(config.seed)
    text, roles = spec.fitted(store.tokenizer, options, context)
    tokenizer = store.tokenizer.with_special(roles)
    window = text - 1
    if window < 1:
        least = next(n for n in count(1) if spec.fitted(store.tokenizer, options, n)[0] > 1)
        raise InputError(f"--block-size must be at least {least} for --objective {spec.name}; got {context}")
    if not (spec.keeps_documents_apart and spec.examples == "blocks") and config.document_mask:
        why = "writes from all of a block" if spec.examples == "blocks" else "compares them"
        raise InputError(f"--document-mask keeps documents apart, and --objective {spec.name} {why}: leave it out")
    compared = f"--objective {spec.name} compares the examples of a batch with each other"
    check_accumulation(config, spec.additive, f"{compared}, and parts of a batch know only their own")
    _check_teacher(config, tokenizer)
    blocks = EXAMPLES[spec.examples](store.train, window, seed=seed, document_mask=config.document_mask)
    objective = spec.make(tokenizer, options, seed)
    added, size = tokenizer.vocab_size - store.tokenizer.vocab_size, settled(config.per_device_train_batch_size)
    if not spec.additive and not 2 <= size <= len(blocks):
        raise InputError(
            f"--per-device-train-batch-size must be between 2 and the {len(blocks):,} examples there are: each is told "
            f"apart from the others of its batch; got {size}"
        )
    pad_id = tokenizer.special("pad") if roles else None
    return Task(spec, objective, tokenizer, blocks, window, config.document_mask, added, size, pad_id)


def check_accumulation(config: RunOptions, additive: bool, why: str) -> None:
    """Refuse to accumulate a loss that is not additive: the parts of a batch have fewer negatives than the whole."""
    parts, size = settled(config.gradient_accumulation_steps), settled(config.per_device_train_batch_size)
    if not additive and parts > 1:
        raise InputError(
            f"--gradient-accumulation-steps {parts} would train another loss: {why}. Leave it out and give "
            f"--per-device-train-batch-size {size * parts}"
        )


def _check_teacher(config: TrainConfig, tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer that is not the teacher's: the distributions would be over different tokens."""
    if config.teacher is None or not has_weights(Path(config.teacher)):  # the objective says what is missing
        return
    theirs = Tokenizer.load(config.teacher)
    if (theirs.eos_id, list(theirs.pieces)) != (tokenizer.eos_id, list(tokenizer.pieces)):
        raise InputError(
            f"--tokenizer must be that of --teacher {config.teacher} ({theirs.vocab_size} tokens), as the student "
            f"learns distributions over its tokens; got {config.tokenizer} ({tokenizer.vocab_size} tokens): leave "
            "--tokenizer out, and take a --model that is not trained yet or was trained with the same one"
        )


def make_model(config: TrainConfig, task: Task) -> Any:
    """Build the model of resolved options; DataError where it knows fewer tokens than the objective needs."""
    name, context = settled(config.model), settled(config.block_size)
    try:
        model = _built(config, task)
        if task.spec.causal:
            check_causal(model, name)
            if hasattr(task.objective, "check"):
                task.objective.check(model, name)
            return model
        _tried(model, torch.ones(1, context, dtype=torch.long))
    except (AssertionError, IndexError) as error:
        if task.spec.causal:
            raise
        raise InputError(
            f"--model {name} has no positions for --block-size {context} ({error or type(error).__name__}): models "
            "that count them from the padding token on (RoBERTa) can be continued from weights, not started here; take "
            "a preset, or the configuration of BERT, DistilBERT, ALBERT, ELECTRA, DeBERTa or ModernBERT"
        ) from None
    if hasattr(task.objective, "check"):
        task.objective.check(model, name)
    if getattr(model.config, "is_decoder", False):
        raise DataError(f'{name}/config.json says "is_decoder": true: --objective {task.spec.name} looks both ways')
    return model


def _tried(model: Any, ids: torch.Tensor) -> None:
    """Run a model on a full context: what it has no positions for fails here."""
    with torch.no_grad():
        if len(bodies(model)) > 1:
            encode_decode(model, {"input_ids": ids}, ids)
        else:
            model.base_model(input_ids=ids)


def _built(config: TrainConfig, task: Task) -> Any:
    tokenizer = task.tokenizer
    return build_model(
        settled(config.model), vocab_size=tokenizer.vocab_size, context=settled(config.block_size),
        seed=settled(config.seed), end_id=tokenizer.eos_id, exact=tokenizer.kind != "hf",
        architecture=task.spec.architecture, pad_id=task.pad_id, new_tokens=task.new_tokens,
    )  # fmt: skip


def path_of_loss(task: Task, model: Any) -> str:
    """Say which way the loss takes through the model."""
    if task.spec.architecture == "seq2seq":
        return seq2seq_path(model)
    if task.spec.architecture == "replaced_token":
        return "one logit a token"
    if task.spec.architecture == "encoder":
        return "pooled hidden states"
    return loss_path(model) if task.spec.causal else rows_path(model)
