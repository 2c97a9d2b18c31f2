"""Distillation: a student learns the whole distribution of a teacher, alone or beside the text's own tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses import linear_distillation
from lossmith.models.head import Head, hidden_and_head, reachable
from lossmith.models.rows import head_on_rows, rows_path
from lossmith.objectives.causal import CausalObjective
from lossmith.objectives.masked import MaskedObjective
from lossmith.objectives.preview import Decoder, fill_in
from lossmith.objectives.shared import inputs_of, number_of, token_loss
from lossmith.total import Total

DIRECTIONS = {"forward": 0.0, "reverse": 1.0, "js": 0.5}
"""KL(teacher ‖ student), KL(student ‖ teacher), Jensen–Shannon: the beta of linear_distillation."""


@dataclass(frozen=True)
class DistillObjective:
    """Learn from a frozen teacher's distributions of what the task asks; its logits and the student's are never stored.

    The task is the next token, or hidden tokens: then both see the same hidden text, and only its rows reach the heads.

    Formula: ``weight·T²·D(q_T, p_T) + (1 − weight)·L_task``, each over its own count, nats; q teacher, p student, both
    softmax of logits/T. D: forward ``KL(q ‖ p)``, reverse ``KL(p ‖ q)``, js ``½KL(q ‖ m) + ½KL(p ‖ m), m = ½(p + q)``.
    Places whose label is −100 weigh nothing in either. With weight 1 the task's loss is not computed. Where the teacher
    has rows beyond the student's vocabulary (padding), they are left out and the rest normalized.
    `load`: gives the teacher when the student is there. It is neither trained nor saved.
    Source: https://arxiv.org/abs/1503.02531 (Hinton et al. 2015: T²), https://arxiv.org/abs/2306.13649 (GKD),
    https://arxiv.org/abs/1910.01108 (DistilBERT).
    """

    task: CausalObjective | MaskedObjective
    load: Any
    weight: float = 0.5
    temperature: float = 1.0
    direction: str = "forward"
    teacher: Any = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the terms."""
        return ("distill", *(self.task.names if self.weight < 1 else ()))

    @property
    def coefficients(self) -> dict[str, float]:
        """What the mean of each term is multiplied with."""
        return {"distill": self.weight, self.task.names[0]: 1 - self.weight}

    @property
    def judged_by(self) -> CausalObjective | MaskedObjective:
        """The task: by its loss a student compares with models that had no teacher."""
        return self.task

    def adopt(self, model: Any) -> DistillObjective:
        """Return the objective with its teacher: on the student's device, evaluating, without gradients."""
        teacher = self.load().to(model.device).eval().requires_grad_(False)
        self._check_reachable(teacher, "--teacher")
        return replace(self, teacher=teacher)

    def check(self, model: Any, name: str) -> None:
        """Raise InputError where the student's output head cannot be reached."""
        self._check_reachable(model, f"--model {name}")

    def _check_reachable(self, model: Any, name: str) -> None:
        masked = isinstance(self.task, MaskedObjective)
        if rows_path(model) != "masked hidden states" if masked else not reachable(model):
            raise InputError(
                f"--objective distill needs models whose output head can be reached; {name} ({type(model).__name__}) "
                f"hides it: take a {'BERT-like' if masked else 'Llama-style, GPT-2 or GPT-NeoX'} one"
            )

    def batch(self, examples: Sequence[dict[str, np.ndarray]], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the batch of the task."""
        return self.task.batch(examples, rng)

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the number of places that are learnt from, for each term."""
        return dict.fromkeys(self.names, number_of(batch["labels"]))

    def terms(self, model: Any, batch: dict[str, Tensor]) -> dict[str, Total]:
        """Return {"distill": …} and with a weight below 1 the task's term, in nats."""
        states, head, labels = _asked(model, batch)
        with torch.no_grad():
            theirs, teacher_head, _ = _asked(self.teacher, batch)
        assert head is not None
        assert teacher_head is not None
        terms = {"distill": self._distilled(states, head, theirs, teacher_head, labels)}
        if self.weight < 1:
            terms[self.task.names[0]] = token_loss(states, head, labels)
        return terms

    def shown(self, model: Any, batch: dict[str, Tensor], tokenizer: Decoder, length: int) -> tuple[str, str]:
        """Return a hidden text, and with the student's guesses in place (where the task hides tokens)."""
        return fill_in(model, self.task, batch, tokenizer, length)

    def says(self, batch: dict[str, Tensor], row: int) -> str:
        """Say what is learnt beside the answers."""
        also = "and these answers" if self.weight < 1 else "instead of these answers"
        return f"at each of these places the teacher's whole distribution is learnt, {also}"

    def _distilled(self, states: Tensor, head: Head, theirs: Tensor, teacher: Head, labels: Tensor) -> Total:
        size = len(head.weight)
        return linear_distillation(
            states, head.weight, theirs, teacher.weight[:size],
            bias=head.bias, teacher_bias=None if teacher.bias is None else teacher.bias[:size],
            weights=(labels != -100).to(torch.float32),
            beta=DIRECTIONS[self.direction], temperature=self.temperature, rescale=True,
            softcap=head.softcap, teacher_softcap=teacher.softcap,
            logit_scale=head.logit_scale, teacher_logit_scale=teacher.logit_scale,
        )  # fmt: skip


def _asked(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Head | None, Tensor]:
    """Return states, head and labels of all places, or of hidden tokens alone."""
    if "rows" not in batch:
        return *hidden_and_head(model, inputs_of(batch)), batch["labels"]
    out = head_on_rows(model, inputs_of(batch), batch["rows"])
    return out.states, out.head, batch["labels"].flatten()[batch["rows"]]
