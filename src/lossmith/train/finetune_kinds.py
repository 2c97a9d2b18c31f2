"""The fine-tuning tasks: what their examples are, which head they need, and by which figures they are judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lossmith.data.labelled import Labelled, order_of
from lossmith.errors import DataError
from lossmith.evaluate.bootstrap import Resampling
from lossmith.evaluate.outcome import Outcome
from lossmith.evaluate.predictions import Answers, judge, scored_answers, softmax
from lossmith.objectives.tasks import HeadObjective
from lossmith.objectives.tasks_losses import TaskLoss, task_loss
from lossmith.train.finetune_config import FinetuneConfig
from lossmith.train.finetune_encode import Coder
from lossmith.train.finetune_model import named

Found = list[Any]
"""What a model answers to each validation row, in order."""


class Kind:
    """A task; subclasses say what differs. `classes`: names of the head's outputs in order."""

    task = ""
    auto = "AutoModelForSequenceClassification"
    batch_size: int | None = None
    """Rows judged together, where the loss depends on it; None: as many as are fast."""

    def __init__(self, config: FinetuneConfig, training: Sequence[Labelled]) -> None:
        self.config, self.classes = config, self.find_classes(training)
        self.training = training

    @property
    def unit(self) -> str:
        """What the loss is measured in."""
        return "nats/row"

    def find_classes(self, training: Sequence[Labelled]) -> tuple[str, ...]:
        """Return the classes of the training rows; DataError where they cannot be learnt from."""
        return ()

    def check(self, validation: Sequence[Labelled]) -> None:
        """Raise DataError for validation rows that could not be judged."""

    def settings(self) -> dict[str, Any]:
        """Return what the model's configuration must say of the head."""
        return {}

    def examples(self, rows: Sequence[Labelled], coder: Coder) -> list[dict[str, Any]]:
        """Return an example of each row, with "whole": how many tokens it had before it was cut."""
        raise NotImplementedError

    def use(self, coder: Coder, model: Any) -> None:
        """Know the tokenizer and the model before examples are made."""

    def objective(self, pad_id: int) -> Any:
        """Return the objective."""
        raise NotImplementedError

    def answers(self, model: Any, objective: Any, batch: dict[str, Tensor]) -> tuple[Found, Any]:
        """Return what the model says of each row of a batch, and the total of what it costs."""
        output = objective.output(model, batch)
        return list(output.double().cpu().numpy()), objective.total(output, batch)

    def outcome(self, rows: Sequence[Labelled], found: Found, how: Resampling) -> Outcome:
        """Return the figures of answers beside a baseline."""
        raise NotImplementedError

    def guess(self) -> tuple[float, str]:
        """Return the loss of knowing nothing and its name; inf where it has none."""
        return float("inf"), ""

    def asked(self, row: Labelled) -> str:
        """Return the beginning of a row's texts."""
        return " ⏐ ".join(row.texts)[:200]

    def shown(self, row: Labelled, answer: Any) -> str:
        """Return the answer to a row in words."""
        raise NotImplementedError


class Classification(Kind):
    """One class of several to a text or a pair."""

    task = "classification"

    def find_classes(self, training: Sequence[Labelled]) -> tuple[str, ...]:
        """Return the classes in order; DataError where there is one only."""
        classes = order_of(row.label for row in training)
        if len(classes) < 2:
            raise DataError(
                f"all {len(training)} training rows have the label {classes[0]!r}: with one class there is nothing to "
                "learn. Give rows of two classes or more"
            )
        return tuple(classes)

    def check(self, validation: Sequence[Labelled]) -> None:
        """Raise DataError where the validation rows are all of one class."""
        if len({row.label for row in validation}) < 2:
            counts = [f"{n:,} of {name!r}" for name, n in zip(self.classes[:12], self.counts(), strict=False)]
            mend = "more rows of the rare ones, a larger --validation-fraction, or --eval-data FILE"
            raise DataError(
                f"the {len(validation)} validation rows are all {validation[0].label!r}: nothing could be told from "
                f"them. Training has {', '.join(counts)}: give "
                f"{'rows of the others to --eval-data' if self.config.eval_data else mend}"
            )

    def counts(self) -> list[int]:
        """Return the training rows of each class."""
        found = Counter(row.label for row in self.training)
        return [found[name] for name in self.classes]

    def settings(self) -> dict[str, Any]:
        """Return the names of the outputs."""
        return named(self.classes) | {"problem_type": "single_label_classification"}

    def loss(self) -> TaskLoss:
        """Return the loss that --loss asks for."""
        return task_loss(self.task, self.config.loss, self.config.loss_options, self.counts(), len(self.training))

    def examples(self, rows: Sequence[Labelled], coder: Coder) -> list[dict[str, Any]]:
        """Return tokens, types and the class id of each row."""
        coded = coder.texts([row.texts for row in rows])
        place = {name: i for i, name in enumerate(self.classes)}
        return [code | {"target": np.int64(place[row.label])} for row, code in zip(rows, coded, strict=True)]

    def objective(self, pad_id: int) -> HeadObjective:
        """Return the objective of a head over texts."""
        return HeadObjective(self.task, self.loss(), len(self.classes), pad_id)

    def outcome(self, rows: Sequence[Labelled], found: Found, how: Resampling) -> Outcome:
        """Return accuracy, F1, calibration and the rest beside the majority class."""
        probabilities = softmax(np.stack(found))
        return judge("classification", scored_answers([row.label for row in rows], probabilities, self.classes), how)

    def guess(self) -> tuple[float, str]:
        """Return ln C where the loss is in nats."""
        name = self.config.loss or "cross_entropy"
        return (float(np.log(len(self.classes))), "ln C") if name == "cross_entropy" else (float("inf"), "")

    def shown(self, row: Labelled, answer: Any) -> str:
        """Return label and guess with its probability."""
        p = softmax(np.asarray(answer)[None])[0]
        best = int(p.argmax())
        verdict = "right" if self.classes[best] == row.label else f"wrong: it is {row.label}"
        return f"{self.classes[best]} ({p[best]:.0%}) · {verdict}"


class Regression(Kind):
    """A number to a text or a pair."""

    task = "regression"
    unit = "loss/row"

    def settings(self) -> dict[str, Any]:
        """Return a head of one output."""
        return {"num_labels": 1, "problem_type": "regression"}

    def find_classes(self, training: Sequence[Labelled]) -> tuple[str, ...]:
        """Return no classes; DataError where all numbers are the same."""
        if len({row.label for row in training}) < 2:
            raise DataError(
                f"all {len(training)} training rows have the number {training[0].label:g}: nothing to learn"
            )
        return ()

    def examples(self, rows: Sequence[Labelled], coder: Coder) -> list[dict[str, Any]]:
        """Return tokens, types and the number of each row."""
        coded = coder.texts([row.texts for row in rows])
        return [code | {"target": np.float32(row.label)} for row, code in zip(rows, coded, strict=True)]

    def objective(self, pad_id: int) -> HeadObjective:
        """Return the objective of a head of one output."""
        return HeadObjective(self.task, task_loss(self.task, self.config.loss, self.config.loss_options), 1, pad_id)

    def outcome(self, rows: Sequence[Labelled], found: Found, how: Resampling) -> Outcome:
        """Return MSE, MAE, R² and the correlations beside always saying the mean."""
        return judge("regression", Answers([row.label for row in rows], [float(x) for x in found]), how)

    def guess(self) -> tuple[float, str]:
        """Return the variance of the numbers, the squared error of always saying their mean."""
        if (self.config.loss or "mse") != "mse":
            return float("inf"), ""
        return float(np.var([row.label for row in self.training])), "variance"

    def shown(self, row: Labelled, answer: Any) -> str:
        """Return the number and the guess."""
        return f"{float(answer):.3f} · it is {row.label:g}"
