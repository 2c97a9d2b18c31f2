"""Similarity: embeddings of texts that belong together, graded or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lossmith.data.labelled import Labelled
from lossmith.errors import DataError
from lossmith.evaluate.bootstrap import Resampling
from lossmith.evaluate.outcome import Figure, Outcome
from lossmith.evaluate.predictions import Answers, judge
from lossmith.evaluate.retrieval import distinct, retrieval_outcome
from lossmith.objectives.tasks_losses import TaskLoss, task_loss
from lossmith.objectives.tasks_similarity import SimilarityObjective
from lossmith.train.config import settled
from lossmith.train.finetune_encode import Coder
from lossmith.train.finetune_kinds import Found, Kind

IN_NATS = ("cosent", "info_nce", "decoupled", "siglip")


class Similarity(Kind):
    """An encoder whose cosines say how near two texts are."""

    task = "similarity"
    auto = "AutoModel"

    @property
    def unit(self) -> str:
        """Nats, but of losses that are errors or margins of cosines."""
        return "nats/pair" if self.loss().name in IN_NATS else "loss/pair"

    def use(self, coder: Coder, model: Any) -> None:
        """Judge in batches as they are trained: with more negatives the loss is larger."""
        self.batch_size = settled(self.config.per_device_train_batch_size)

    @property
    def scored(self) -> bool:
        """Whether pairs are graded."""
        return self.config.label_column is not None

    @property
    def texts(self) -> int:
        """Texts in a row."""
        return len(self.training[0].texts)

    def find_classes(self, training: Sequence[Labelled]) -> tuple[str, ...]:
        """Return no classes; DataError where all scores are the same."""
        if training[0].label is not None and len({row.label for row in training}) < 2:
            raise DataError(
                f"all {len(training)} pairs have the score {training[0].label:g}: there is no order to learn"
            )
        return ()

    def check(self, validation: Sequence[Labelled]) -> None:
        """Raise DataError for validation pairs that have no order, or one document only."""
        different = {row.label if self.scored else row.texts[1] for row in validation}
        if len(different) < 2:
            raise DataError(f"the {len(validation)} validation rows are too alike to be judged: give more rows")

    def examples(self, rows: Sequence[Labelled], coder: Coder) -> list[dict[str, Any]]:
        """Return the tokens of every text of a row, each framed by itself."""
        columns = [coder.texts([(row.texts[i],) for row in rows]) for i in range(self.texts)]
        found = []
        for row, *codes in zip(rows, *columns, strict=True):
            example = {f"tokens_{i}" if i else "tokens": code["tokens"] for i, code in enumerate(codes)}
            cut = sum(code["whole"] - len(code["tokens"]) for code in codes)
            example["whole"] = len(example["tokens"]) + cut
            found.append(example | ({"target": row.label} if self.scored else {}))
        return found

    def loss(self) -> TaskLoss:
        """Return the loss that --loss asks for."""
        shape = "scored" if self.scored else ("paired" if self.texts == 2 else "triplet")
        return task_loss(f"similarity_{shape}", self.config.loss, self.config.loss_options)

    def objective(self, pad_id: int) -> SimilarityObjective:
        """Return the objective of embeddings."""
        return SimilarityObjective(self.loss(), pad_id, settled(self.config.pooling), self.texts, self.scored)

    def answers(self, model: Any, objective: Any, batch: dict[str, Tensor]) -> tuple[Found, Any]:
        """Return the unit vectors of each row's texts, float64[k, D]."""
        output = objective.output(model, batch)
        vectors = output.double()
        vectors = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return list(vectors.transpose(0, 1).cpu().numpy()), objective.total(output, batch)

    def outcome(self, rows: Sequence[Labelled], found: Found, how: Resampling) -> Outcome:
        """Return rank correlation with the scores; without scores, whether each text finds its own among all."""
        vectors = np.stack(found)
        near = (vectors[:, 0] * vectors[:, 1]).sum(-1)
        if self.scored:
            return judge("similarity", Answers([row.label for row in rows], near.tolist()), how)
        documents, own = distinct([row.texts[1] for row in rows])
        first = [own.index(i) for i in range(len(documents))]
        outcome, _ = retrieval_outcome(vectors[:, 0], vectors[first, 1], own, how)
        if self.texts == 3:
            right = near > (vectors[:, 0] * vectors[:, 2]).sum(-1)
            outcome.figures.append(Figure("triplet_accuracy", float(right.mean())))
        return outcome

    def asked(self, row: Labelled) -> str:
        """Return the texts."""
        return " ⏐ ".join(text[:80] for text in row.texts)

    def shown(self, row: Labelled, answer: Any) -> str:
        """Return the cosines, and the score where there is one."""
        cosines = ", ".join(f"{float(answer[0] @ other):.3f}" for other in answer[1:])
        return f"cosine {cosines}" + (f" · score {row.label:g}" if self.scored else "")
