"""What an objective is trained with: its tokenizer, its examples, its model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lossmith.data import Blocks, Pairs, Tokenizer, TokenStore, pair, windows
from lossmith.errors import DataError, InputError
from lossmith.models import build_model, check_causal, loss_path, rows_path
from lossmith.models.build import has_weights
from lossmith.objectives import CausalObjective, Objective, ObjectiveSpec, spec_named
from lossmith.objectives.sentence_pair import check_sentence_head
from lossmith.train.config import TrainConfig, settled

EXAMPLES: dict[str, type[Blocks]] = {"blocks": Blocks, "pairs": Pairs}
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
    added: int = 0
    """Special tokens that the objective brings along: a causal model with weights gets rows for them."""

    @property
    def judged_by(self) -> Objective:
        """The objective of an evaluation: every causal model is judged by the surprise at the next token."""
        return CausalObjective() if self.spec.causal else self.objective

    def held_out(self, store: TokenStore, limit: int | None) -> Iterator[dict[str, Any]]:
        """Yield the windows of the validation text in order, each with its place."""
        found = windows(store.validation, self.window, limit=limit, document_mask=self.document_mask)
        for place, example in enumerate(found):
            numbered: dict[str, Any] = example | {"index": np.int64(place)}
            start = place * self.window
            pairs = self.spec.examples == "pairs"
            yield pair(store.validation, numbered, start, (0, place)) if pairs else numbered

    def comparable(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the baselines that the loss may be compared with: what guesses from both sides is no compressor."""
        if self.spec.causal:
            return rows
        return [row for row in rows if row["name"] in ("uniform", "unigram") and self.spec.architecture == "masked"]


def make_task(config: TrainConfig, store: TokenStore) -> Task:
    """Make the objective of resolved options; InputError where --block-size leaves no room for text."""
    spec, options = spec_named(settled(config.objective)), asdict(config)
    tokenizer = store.tokenizer.with_special(spec.roles_for(options))
    context, seed = settled(config.block_size), settled(config.seed)
    frame = spec.frame_for(options)
    window = context - frame - 1
    if window < 1:
        raise InputError(f"--block-size must be at least {frame + 2} for --objective {spec.name}; got {context}")
    if spec.examples == "pairs" and config.document_mask:
        raise InputError(
            "--document-mask keeps documents apart, and --objective sentence_pair compares them: leave it out"
        )
    _check_whole(config, spec)
    _check_teacher(config, tokenizer)
    blocks = EXAMPLES[spec.examples](store.train, window, seed=seed, document_mask=config.document_mask)
    objective = spec.make(tokenizer, options, seed)
    added = tokenizer.vocab_size - store.tokenizer.vocab_size if spec.causal else 0
    return Task(spec, objective, tokenizer, blocks, window, config.document_mask, added)


def _check_whole(config: TrainConfig, spec: ObjectiveSpec) -> None:
    """Refuse to accumulate a loss that is not additive: the parts of a batch have fewer negatives than the whole."""
    parts = settled(config.gradient_accumulation_steps)
    if not spec.additive and parts > 1:
        size = settled(config.per_device_train_batch_size)
        raise InputError(
            f"--gradient-accumulation-steps {parts} would train another loss: --objective {spec.name} compares the "
            f"examples of a batch with each other, and parts of a batch know only their own. Leave it out and give "
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
        with torch.no_grad():
            model.base_model(input_ids=torch.ones(1, context, dtype=torch.long))
    except (AssertionError, IndexError) as error:
        if task.spec.causal:
            raise
        raise InputError(
            f"--model {name} has no positions for --block-size {context} ({error or type(error).__name__}): models "
            "that count them from the padding token on (RoBERTa) can be continued from weights, not started here; take "
            "a preset, or the configuration of BERT, DistilBERT, ALBERT, ELECTRA, DeBERTa or ModernBERT"
        ) from None
    if getattr(model.config, "is_decoder", False):
        raise DataError(f'{name}/config.json says "is_decoder": true: --objective {task.spec.name} looks both ways')
    if task.spec.architecture == "sentence_pair":
        check_sentence_head(model)
    return model


def _built(config: TrainConfig, task: Task) -> Any:
    tokenizer, roles = task.tokenizer, task.spec.roles_for(asdict(config))
    return build_model(
        settled(config.model), vocab_size=tokenizer.vocab_size, context=settled(config.block_size),
        seed=settled(config.seed), end_id=tokenizer.eos_id, exact=tokenizer.kind != "hf",
        architecture=task.spec.architecture, pad_id=tokenizer.special("pad") if roles else None, added=task.added,
    )  # fmt: skip


def path_of_loss(task: Task, model: Any) -> str:
    """Say which way the loss takes through the model."""
    return loss_path(model) if task.spec.causal else rows_path(model)
