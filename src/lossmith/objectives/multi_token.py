"""Multi-token prediction: further heads guess the tokens after the next one from the same hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossmith.errors import InputError
from lossmith.models.head import hidden_and_head, reachable
from lossmith.objectives.causal import CausalObjective
from lossmith.objectives.shared import inputs_of, number_of, token_loss
from lossmith.total import Total


class FurtherHead(nn.Module):
    """One residual block on hidden states [..., D] of width D: ``h + W₂·silu(W₁·norm(h))``, W₂ zero at the start."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.into, self.out = nn.Linear(width, inner, bias=False), nn.Linear(inner, width, bias=False)
        nn.init.normal_(self.into.weight, std=0.5 * width**-0.5)
        nn.init.zeros_(self.out.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the states that predict a token further on."""
        change: Tensor = self.out(nn.functional.silu(self.into(self.norm(hidden))))
        return hidden + change


@dataclass(frozen=True)
class MultiTokenObjective:
    """Predict the next token as `base` does, and with `heads` further heads the tokens t+2 … t+heads+1.

    Formula: ``L_base + weight/heads · Σᵢ L_mtp_i`` with ``L_mtp_i = Σₜ −ln p(xₜ₊ᵢ | x≤ₜ)`` over its own count, nats. A
    head is one block on the model's last hidden states; all share its output head. A head guesses nothing beyond the
    end of a document that is masked from the next. The heads belong to the objective: they are trained and kept in
    checkpoints, and the model that is saved is the ordinary one.
    Source: https://arxiv.org/abs/2404.19737 (parallel heads, shared output head), https://arxiv.org/abs/2412.19437
    (DeepSeek-V3, equation 25: λ over the number of heads).
    """

    base: CausalObjective
    heads: int
    weight: float
    seed: int = 0
    own: nn.ModuleList | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the terms."""
        return (*self.base.names, *(f"mtp_{i}" for i in self._steps))

    @property
    def coefficients(self) -> dict[str, float]:
        """What the mean of each term is multiplied with."""
        return {f"mtp_{i}": self.weight / self.heads for i in self._steps}

    def adopt(self, model: Any) -> MultiTokenObjective:
        """Return the objective with heads of the model's width, drawn from the seed."""
        width = model.get_output_embeddings().weight.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            heads = nn.ModuleList(FurtherHead(width, 4 * width) for _ in self._steps)
        return replace(self, own=heads.to(model.device, model.dtype))

    def check(self, model: Any, name: str) -> None:
        """Raise InputError where the model's output head cannot be reached, and so not be shared."""
        if not reachable(model):
            raise InputError(f"--mtp-heads needs a model whose output head can be shared; --model {name} hides it")

    def batch(self, examples: Sequence[dict[str, np.ndarray]], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the batch of `base` and labels_2 … int64[B, T], the tokens i places on (−100: there is none)."""
        batch = self.base.batch(examples, rng)
        return batch | {f"labels_{i}": _further(batch, i) for i in self._steps}

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the number of labels of each head."""
        return self.base.counts(batch) | {f"mtp_{i}": number_of(batch[f"labels_{i}"]) for i in self._steps}

    def terms(self, model: Any, batch: dict[str, Tensor]) -> dict[str, Total]:
        """Return the term of `base` and one for each head, in nats; no logits are stored."""
        assert self.own is not None, "adopt(model) makes the heads"
        states, head = hidden_and_head(model, inputs_of(batch))
        terms = {self.base.term: token_loss(states, head, batch["labels"])}
        for i, block in zip(self._steps, self.own, strict=True):
            terms[f"mtp_{i}"] = token_loss(block(states), head, batch[f"labels_{i}"])
        return terms

    def says(self, batch: dict[str, Tensor], row: int) -> str:
        """Say what the further heads must guess."""
        return f"{self.heads} further head(s) must guess the token {' and '.join(map(str, self._steps))} places on"

    @property
    def _steps(self) -> range:
        return range(2, self.heads + 2)


def _further(batch: dict[str, Tensor], i: int) -> Tensor:
    """Return the token i places on: the label of the place i − 1 later, where that one may see this one."""
    labels = batch["labels"]
    further = torch.full_like(labels, -100)
    further[:, : 1 - i] = labels[:, i - 1 :]
    if "attention_mask" in batch:
        seen = batch["attention_mask"][:, 0].diagonal(1 - i, -2, -1)
        further[:, : 1 - i][~seen] = -100
    return further
