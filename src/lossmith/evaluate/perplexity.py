"""Perplexity and bits per byte of a model over a split of text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lossmith.errors import DataError

if TYPE_CHECKING:
    import torch

    from lossmith.data import Split, Tokenizer
    from lossmith.objectives import Objective
    from lossmith.total import Total

Example = dict[str, np.ndarray]


class _ByteCounter(Protocol):
    def n_bytes(self, ids: Any) -> int: ...


@dataclass(frozen=True)
class Evaluation:
    """What a model paid for a text: Σ −ln p in nats, over so many predicted tokens and UTF-8 bytes of text.

    Bits per byte compares models of different vocabularies, and models with compressors; loss and perplexity do not.

    >>> result = Evaluation(nats=200.0, tokens=100, bytes=400)
    >>> result.loss, round(result.perplexity, 3), round(result.bits_per_byte, 4)
    (2.0, 7.389, 0.7213)
    """

    nats: float
    tokens: int
    bytes: int | None

    @property
    def loss(self) -> float:
        """Nats per token: nats / tokens."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """e^loss: the number of equally likely tokens that would be as hard to guess; inf where it overflows."""
        return math.exp(self.loss) if not self.loss > 700 else math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """nats / ln 2 / bytes; None when the number of bytes is unknown.

        Source: Gao et al. 2020, The Pile, https://arxiv.org/abs/2101.00027, section 3.1.
        """
        return self.nats / math.log(2) / self.bytes if self.bytes else None


def evaluate(
    model: Any,
    objective: Objective,
    split: Split,
    tokenizer: Tokenizer,
    *,
    block_size: int,
    batch_size: int,
    limit: int | None = None,
    document_mask: bool = False,
    device: torch.device | str | None = None,
) -> Evaluation:
    """Score `model` on disjoint windows of `split`, in order, over its first `limit` predictions or all of them.

    Every prediction is counted once, so the result does not depend on `batch_size`, nor on the number of ranks of an
    initialised torch.distributed group (each takes every world_size-th batch; the totals are all-reduced).
    Sums are float64. The model's train/eval mode is restored. A split without a prediction is a DataError.
    """
    from lossmith.data import windows
    from lossmith.objectives.scoring import alike, tokens_in

    examples = windows(split, block_size, limit=limit, document_mask=document_mask)
    nats, tokens = _score(model, objective, _mine(alike(examples, batch_size, tokens_in)), device)
    if not tokens:
        raise DataError(
            f"nothing to evaluate: the validation text has {len(split.tokens)} token(s) and at least 2 are needed; "
            "give a longer text, a larger --validation-fraction or an --eval-file"
        )
    return Evaluation(nats, tokens, _bytes_predicted(split, tokenizer, tokens))


def _distributed() -> Any | None:
    import torch.distributed as dist

    return dist if dist.is_available() and dist.is_initialized() else None


def _mine(batches: Iterator[list[Example]]) -> Iterator[list[Example]]:
    """Leave this rank its share of the batches."""
    dist = _distributed()
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist else (0, 1)
    return (batch for i, batch in enumerate(batches) if i % world == rank)


def _score(
    model: Any, objective: Objective, batches: Iterator[list[Example]], device: torch.device | str | None
) -> tuple[float, int]:
    import torch

    from lossmith.models.mode import evaluating

    device = next(model.parameters()).device if device is None else torch.device(device)
    rng = np.random.default_rng(0)
    values: list[torch.Tensor] = []
    with evaluating(model):
        for examples in batches:
            batch = {key: value.to(device) for key, value in objective.batch(examples, rng).items()}
            values.append(_stacked(objective.terms(model, batch)))
    return _reduced(values, device)


def _stacked(terms: dict[str, Total]) -> torch.Tensor:
    """(Σ nats, Σ weight) of the first term: the one that predicts tokens; those after it are auxiliary."""
    import torch

    total = next(iter(terms.values()))
    return torch.stack([total.value, total.weight.to(total.value)])


def _reduced(values: list[torch.Tensor], device: torch.device) -> tuple[float, int]:
    """Add up all batches of all ranks; the device is read once, at the end, so that it never waits for us."""
    import torch

    rows = torch.stack(values).double().cpu() if values else torch.zeros(1, 2, dtype=torch.float64)
    sums = torch.tensor([math.fsum(column) for column in rows.T.tolist()], dtype=torch.float64)
    dist = _distributed()
    if dist:
        sums = sums.to(device)
        dist.all_reduce(sums)
    nats, tokens = sums.tolist()
    return nats, round(tokens)


def _bytes_predicted(split: Split, tokenizer: _ByteCounter, tokens: int) -> int:
    """UTF-8 bytes of the predicted text: all of the split, or what its first `tokens` labels stand for.

    The first token of the stream is never predicted; it is the document mark, or text where a tokenizer has no mark.
    """
    if tokens >= len(split.tokens) - 1:
        return int(split.n_bytes) - tokenizer.n_bytes(split.tokens[:1])
    return tokenizer.n_bytes(split.tokens[1 : tokens + 1])
