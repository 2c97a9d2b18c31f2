"""Symmetric InfoNCE over the same similarities: rows and columns share two walks, four products in place of six.

The first walk leaves logsumexp of each row and of each column; the second makes the similarities again, and from both
sides' probabilities one gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.losses.linear_cross_entropy._made import gradients_are_made
from lossmith.losses.linear_cross_entropy._stream import Stream
from lossmith.total import Total


def _statistics(z: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return logsumexp of rows as (largest [r], log Σ [r]), and update the columns' running (largest, Σ) [2, n]."""
    square = z[:, : columns.shape[1]]
    largest = torch.maximum(columns[0], square.amax(0))
    columns[1].mul_(torch.exp(columns[0] - largest)).add_(torch.exp(square - largest).sum(0))
    columns[0] = largest
    top = z.amax(1)
    return top, z.sub_(top[:, None]).exp_().sum(1).log_()


def _forward(queries: Tensor, keys: Tensor, want: list[bool], max_memory: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return Σ of half of both ways' losses, and the gradients of queries [N, D] and keys [M, D] (or empty)."""
    n = len(queries)
    columns = torch.stack([queries.new_full((n,), -torch.inf), queries.new_zeros(n)])
    tops, sums = queries.new_empty(n), queries.new_empty(n)
    own = torch.arange(n, device=queries.device)

    def first(z: Tensor, span: slice) -> None:
        tops[span], sums[span] = _statistics(z, columns)

    def second(z: Tensor, span: slice) -> None:
        square = z[:, :n]
        back = torch.exp(square - columns_lse).mul_(0.5)
        z.sub_((tops[span] + sums[span])[:, None]).exp_().mul_(0.5)
        square.add_(back)
        z.scatter_add_(1, own[span, None], z.new_full((span.stop - span.start, 1), -1.0))

    with torch.autocast(queries.device.type, enabled=False):
        Stream(queries, keys, max_memory=max_memory).run(first)
        columns_lse = columns[0] + columns[1].log()
        at = torch.bmm(queries[:, None, :], keys[:n, :, None])[:, 0, 0]  # no N×D between, as the sum of products has
        value = (sums + (tops - at) + columns[1].log() + (columns[0] - at)).sum() / 2
        walk = Stream(queries, keys, want=(want[0], want[1], False), max_memory=max_memory)
        if any(want):
            walk.run(second)
    empty = value.new_empty(0)
    one, other = (empty.clone() if g is None else g for g in (walk.grad_hidden, walk.grad_head))
    return value, one, other


both_ways_op = torch.library.custom_op("lossmith::both_ways", _forward, mutates_args=())


@both_ways_op.register_fake
def _shapes(queries: Tensor, keys: Tensor, want: list[bool], max_memory: int | None) -> tuple[Tensor, ...]:
    grads = zip((queries, keys), want, strict=True)
    return queries.new_empty(()), *(torch.empty_like(x) if wanted else x.new_empty(0) for x, wanted in grads)


gradients_are_made(
    both_ways_op,
    totals=1,
    want=2,
    refusal="info_nce has no second derivative: its gradient is made in the forward pass",
)


def both_ways_total(queries: Tensor, keys: Tensor, max_memory: int | None) -> Total:
    """Return half of InfoNCE both ways, over queries [N, D] (scaled) and keys [M, D] (M ≥ N), both wide."""
    queries, keys = queries.contiguous(), keys.to(queries.dtype).contiguous()
    recorded = torch.is_grad_enabled()
    value, *_ = both_ways_op(queries, keys, [recorded and x.requires_grad for x in (queries, keys)], max_memory)
    return Total(value, queries.new_full((), len(queries)))
