"""Fine-tuning that answers with text: only the answer weighs, and only its rows reach the output head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossmith.models.head import Head, hidden_and_head
from lossmith.models.seq2seq import encode_decode
from lossmith.objectives.shared import number_of, padded, text_inputs, token_loss
from lossmith.objectives.tasks import Example
from lossmith.objectives.tasks_losses import TaskLoss
from lossmith.total import Total


@dataclass(frozen=True)
class AnswerObjective:
    """Give a source or a prompt, and ask for the tokens of its answer.

    Formula: ``Σ −ln p(answer token | source, answer tokens before it)`` in nats, divided by the answer's tokens; the
    prompt costs nothing.
    Examples: {"tokens": int64[T]} and {"labels"}: for encoder–decoders int64[U], the target with its end; for causal
    models int64[T], −100 where nothing is asked, of the token that stands there. "generate": whether to write it, too.
    """

    loss: TaskLoss
    pad_id: int
    two_sided: bool
    """An encoder reads the source and a decoder writes; else one causal model does both."""
    additive = True
    types = False

    def batch(self, examples: Sequence[Example], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return input_ids and attention_mask int64[B, T], labels int64[B, U] (−100: nothing asked)."""
        batch = text_inputs([example["tokens"] for example in examples], self.pad_id)
        labels = padded([example["labels"] for example in examples], -100)
        flags = torch.tensor([bool(example.get("generate", False)) for example in examples])
        return batch | {"labels": labels if self.two_sided else shifted(labels), "generate": flags}

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tokens of the answers."""
        return {"answer": number_of(batch["labels"])}

    def states(self, model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Head | None, Tensor]:
        """Return the states [M, D] (or logits [M, V]) where something is asked, the head (or None), and the targets."""
        asked, inputs = batch["labels"] != -100, {key: batch[key] for key in ("input_ids", "attention_mask")}
        if self.two_sided:
            out = encode_decode(model, inputs, batch["labels"])
            states, head = out.decoder, out.head
        else:
            states, head = hidden_and_head(model, inputs)
        return states[asked], head, batch["labels"][asked]

    def total(self, parts: tuple[Tensor, Head | None, Tensor]) -> Total:
        """Return what the answers cost."""
        return token_loss(*parts, **self.loss.options)

    def terms(self, model: Any, batch: dict[str, Tensor]) -> dict[str, Total]:
        """Return {"answer": Total} in nats."""
        return {"answer": self.total(self.states(model, batch))}


def shifted(labels: Tensor) -> Tensor:
    """Return labels one place to the left: at each token what comes next is asked.

    >>> shifted(torch.tensor([[-100, 5, 6]]))
    tensor([[   5,    6, -100]])
    """
    return torch.cat([labels[:, 1:], labels.new_full((len(labels), 1), -100)], 1)


def right_tokens(parts: tuple[Tensor, Head | None, Tensor]) -> tuple[Tensor, Tensor]:
    """Return for each asked token whether the best guess is right, and its −ln p (nats)."""
    states, head, targets = parts
    logits = states if head is None else head(states)
    return logits.argmax(-1) == targets, -torch.log_softmax(logits.float(), -1).gather(1, targets[:, None])[:, 0]
