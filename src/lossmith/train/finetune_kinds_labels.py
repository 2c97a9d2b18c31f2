"""The tasks with several labels to a text, and with a tag to each word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lossmith.data.labelled import Labelled, order_of
from lossmith.errors import DataError
from lossmith.evaluate.bootstrap import Resampling
from lossmith.evaluate.multi_label import flags, multi_label_outcome
from lossmith.evaluate.outcome import Outcome
from lossmith.evaluate.tagging import tagging_outcome
from lossmith.objectives.tasks import HeadObjective
from lossmith.objectives.tasks_losses import task_loss
from lossmith.train.finetune_config import FinetuneConfig
from lossmith.train.finetune_encode import Coder
from lossmith.train.finetune_kinds import Found, Kind
from lossmith.train.finetune_model import named


class MultiLabel(Kind):
    """Any number of labels to a text or a pair; one is given where its probability is above one half."""

    task = "multi_label"
    unit = "nats/label"

    def find_classes(self, training: Sequence[Labelled]) -> tuple[str, ...]:
        """Return the labels in order; DataError where no row has one."""
        classes = order_of(name for row in training for name in row.label)
        if not classes:
            raise DataError(f"none of the {len(training)} training rows has a label: there is nothing to learn")
        return tuple(classes)

    def check(self, validation: Sequence[Labelled]) -> None:
        """Raise DataError where no validation row has a label."""
        if not any(row.label for row in validation):
            raise DataError(f"none of the {len(validation)} validation rows has a label: give more rows")

    def settings(self) -> dict[str, Any]:
        """Return the names of the outputs."""
        return named(self.classes) | {"problem_type": "multi_label_classification"}

    def examples(self, rows: Sequence[Labelled], coder: Coder) -> list[dict[str, Any]]:
        """Return tokens, types and float32[C] of zeros and ones."""
        coded = coder.texts([row.texts for row in rows])
        targets = flags([row.label for row in rows], self.classes).astype(np.float32)
        return [code | {"target": target} for code, target in zip(coded, targets, strict=True)]

    def objective(self, pad_id: int) -> HeadObjective:
        """Return the objective of a head over texts."""
        counts = flags([row.label for row in self.training], self.classes).sum(0).tolist()
        loss = task_loss(self.task, self.config.loss, self.config.loss_options, counts, len(self.training))
        return HeadObjective(self.task, loss, len(self.classes), pad_id)

    def outcome(self, rows: Sequence[Labelled], found: Found, how: Resampling) -> Outcome:
        """Return micro and macro F1 and exact match; a logit above 0 is a probability above one half."""
        true = flags([row.label for row in rows], self.classes)
        return multi_label_outcome(true, np.stack(found) > 0, self.classes, how)

    def guess(self) -> tuple[float, str]:
        """Return ln 2, the cost of one half for every label."""
        plain = (self.config.loss or "binary_cross_entropy") == "binary_cross_entropy" and not self.config.loss_options
        return (float(np.log(2)), "ln 2") if plain else (float("inf"), "")

    def shown(self, row: Labelled, answer: Any) -> str:
        """Return the labels given and the right ones."""
        given = [name for name, logit in zip(self.classes, answer, strict=True) if logit > 0]
        return f"{', '.join(given) or 'none'} · it is {', '.join(row.label) or 'none'}"


class Tagging(Kind):
    """A tag to each word; the first piece of a word speaks for it."""

    task = "tagging"
    auto = "AutoModelForTokenClassification"
    unit = "nats/word"

    def __init__(self, config: FinetuneConfig, training: Sequence[Labelled]) -> None:
        super().__init__(config, training)
        self.silent: dict[int, set[int]] = {}  # by row: words without a token within the context

    def find_classes(self, training: Sequence[Labelled]) -> tuple[str, ...]:
        """Return the tags in order; DataError where there is one only."""
        classes = order_of(tag for row in training for tag in row.label)
        if len(classes) < 2:
            raise DataError(f"all words of the training rows have the tag {classes[0]!r}: there is nothing to learn")
        return tuple(classes)

    def settings(self) -> dict[str, Any]:
        """Return the names of the outputs."""
        return named(self.classes)

    def examples(self, rows: Sequence[Labelled], coder: Coder) -> list[dict[str, Any]]:
        """Return tokens, and the tag of each word at its first piece (−100 elsewhere)."""
        place = {name: i for i, name in enumerate(self.classes)}
        found = []
        for row in rows:
            example = coder.words(row.texts)
            target = np.full(len(example["tokens"]), -100, np.int64)
            for first, tag in zip(example["firsts"], row.label, strict=True):
                if first >= 0:
                    target[first] = place[tag]
            self.silent[id(row)] = {i for i, first in enumerate(example["firsts"]) if first < 0}
            weightless = not (target != -100).any()
            found.append({key: example[key] for key in ("tokens", "firsts", "whole")} | {"target": target})
            found[-1] |= {"weightless": True} if weightless else {}
        return found

    def objective(self, pad_id: int) -> HeadObjective:
        """Return the objective of a head over words."""
        tags = [tag for row in self.training for tag in row.label]
        counts = [tags.count(name) for name in self.classes]
        loss = task_loss(self.task, self.config.loss, self.config.loss_options, counts, len(tags))
        return HeadObjective(self.task, loss, len(self.classes), pad_id)

    def answers(self, model: Any, objective: Any, batch: dict[str, Tensor]) -> tuple[Found, Any]:
        """Return each row's best tag at each word's first piece, in order of the words."""
        output = objective.output(model, batch)
        best, asked = output.argmax(-1).cpu().numpy(), (batch["targets"] != -100).cpu().numpy()
        return [row[where] for row, where in zip(best, asked, strict=True)], objective.total(output, batch)

    def outcome(self, rows: Sequence[Labelled], found: Found, how: Resampling) -> Outcome:
        """Return accuracy and the F1 of entities; words that were cut off count as wrong."""
        true = [list(row.label) for row in rows]
        return tagging_outcome(true, [self.tags(row, answer) for row, answer in zip(rows, found, strict=True)], how)

    def tags(self, row: Labelled, answer: Any) -> list[str]:
        """Return a tag for each word; an empty one for a word without a token of its own, and for what was cut off."""
        given, silent = iter(answer), self.silent.get(id(row), set())
        return ["" if i in silent else self.classes[next(given)] for i in range(len(row.texts))]

    def guess(self) -> tuple[float, str]:
        """Return ln C where the loss is in nats."""
        plain = (self.config.loss or "cross_entropy") == "cross_entropy"
        return (float(np.log(len(self.classes))), "ln C") if plain else (float("inf"), "")

    def asked(self, row: Labelled) -> str:
        """Return the first words with their right tags."""
        return " ".join(f"{word}/{tag}" for word, tag in zip(row.texts[:15], row.label, strict=False))

    def shown(self, row: Labelled, answer: Any) -> str:
        """Return the first words with the tags given."""
        return " ".join(f"{word}/{tag}" for word, tag in zip(row.texts[:15], self.tags(row, answer), strict=False))
