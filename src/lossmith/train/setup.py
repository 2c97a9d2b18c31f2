"""What an objective is trained with: its tokenizer, its examples, its model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from lossmith.data import Blocks, Pairs, Sentences, Tokenizer, TokenStore, held_out_texts, pair, windows
from lossmith.errors import DataError, InputError
from lossmith.models import build_model, check_causal, loss_path, rows_path
from lossmith.objectives import OBJECTIVES, CausalObjective, Objective, ObjectiveSpec
from lossmith.objectives.scoring import alike, tokens_in
from lossmith.objectives.sentence_pair import check_sentence_head
from lossmith.train.config import TrainConfig, settled

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
    batch_size: int = 1

    @property
    def judged_by(self) -> Objective:
        """The objective of an evaluation: every causal model is judged by the surprise at the next token."""
        return CausalObjective() if self.spec.causal else self.objective

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

    def notes(self) -> list[str]:
        """Say what a reader should know of the examples."""
        if not isinstance(self.blocks, Sentences):
            return []
        texts, longer = self.blocks.texts, self.blocks.longer
        cut = f"{longer:,} are longer than the context of {self.window + 3} tokens and are cut to it"
        return [f"{texts:,} training texts; {cut if longer else 'none is longer than the context'}"]

    def comparable(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the baselines that the loss may be compared with: what guesses from both sides is no compressor."""
        if self.spec.causal:
            return rows
        if not self.spec.additive:
            nats, label = self.chance
            definition = "the partner guessed at random among those that it is compared with"
            known = {"bits_per_byte": None, "definition": definition}
            return [{"name": "chance", "label": f"{label}: any of them", "nats_per_token": nats, **known}]
        return [row for row in rows if row["name"] in ("uniform", "unigram") and self.spec.architecture == "masked"]


def make_task(config: TrainConfig, store: TokenStore) -> Task:
    """Make the objective of resolved options; InputError where --block-size leaves no room for text."""
    spec = OBJECTIVES[settled(config.objective)]
    tokenizer = store.tokenizer.with_special(spec.roles)
    context, seed = settled(config.block_size), settled(config.seed)
    window = context - spec.frame - 1
    if window < 1:
        raise InputError(f"--block-size must be at least {spec.frame + 2} for --objective {spec.name}; got {context}")
    if spec.examples != "blocks" and config.document_mask:
        raise InputError(
            f"--document-mask keeps documents apart, and --objective {spec.name} compares them: leave it out"
        )
    _check_whole(config, spec)
    blocks = EXAMPLES[spec.examples](store.train, window, seed=seed, document_mask=config.document_mask)
    objective = spec.make(tokenizer, asdict(config), seed)
    size = settled(config.per_device_train_batch_size)
    if not spec.additive and not 2 <= size <= len(blocks):
        raise InputError(
            f"--per-device-train-batch-size must be between 2 and the {len(blocks):,} examples there are: each is told "
            f"apart from the others of its batch; got {size}"
        )
    return Task(spec, objective, tokenizer, blocks, window, config.document_mask, size)


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


def make_model(config: TrainConfig, task: Task) -> Any:
    """Build the model of resolved options; DataError where it knows fewer tokens than the objective needs."""
    name, context = settled(config.model), settled(config.block_size)
    try:
        model = _built(config, task)
        if task.spec.causal:
            check_causal(model, name)
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
    tokenizer = task.tokenizer
    return build_model(
        settled(config.model), vocab_size=tokenizer.vocab_size, context=settled(config.block_size),
        seed=settled(config.seed), end_id=tokenizer.eos_id, exact=tokenizer.kind != "hf",
        architecture=task.spec.architecture, pad_id=tokenizer.special("pad") if task.spec.roles else None,
    )  # fmt: skip


def path_of_loss(task: Task, model: Any) -> str:
    """Say which way the loss takes through the model."""
    if task.spec.architecture == "encoder":
        return "pooled hidden states"
    return loss_path(model) if task.spec.causal else rows_path(model)
