"""CoSENT: put the cosines of pairs in the order of their scores, with one logsumexp over all pairs of pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cosine_similarity

from lossmith.errors import InputError
from lossmith.losses._items import blank, not_nan, same_shape, widest
from lossmith.losses._spec import LossSpec
from lossmith.losses.contrastive._similarity import check_pairs, check_scalar, kept_pairs, unit
from lossmith.total import Total


def cosent(
    queries: Tensor,
    keys: Tensor,
    scores: Tensor,
    *,
    scale: float | Tensor = 20.0,
    weights: Tensor | None = None,
) -> Total:
    """Return the CoSENT loss: a pair with the higher score shall have the higher cosine.

    Formula: ``cᵢ = cos(qᵢ, kᵢ)``; ``L = log(1 + Σ_{scoreᵢ < scoreⱼ} wᵢwⱼ·exp(scale·(cᵢ − cⱼ)))`` nats, of the batch as
        a whole: value is ``L·Σ wᵢ``, weight ``Σ wᵢ``. A weight of k is the pair occurring k times. All scores equal: 0.
    Shapes: queries and keys [N, D], scores [N] (only their order counts), scale a number or a tensor without
        dimensions, weights [N], not negative. Not additive.
    Use: for sentence pairs with graded similarity (STS), evaluated by rank correlation.
    Avoid: for labels 0 and 1 with few of one kind, and where cosines must mean something by themselves: mse of cosines.
    Memory: O(N·D + N): sorted by score, the N² terms are two running logsumexps.
    Errors: InputError for shapes that do not fit, a scale that is not above 0 and scores without an order (NaN).
    Source: https://kexue.fm/archives/8847 (Su 2022)

    >>> x = torch.ones(3, 2)
    >>> cosent(x, x, torch.tensor([0.0, 0.5, 1.0])).mean()  # all cosines equal, 3 ordered pairs: ln(1 + 3)
    tensor(1.3863)
    """
    check_pairs(queries, keys, weights)
    check_scalar("scale", scale)
    if len(keys) != len(queries):
        raise InputError(f"keys must be as many as queries; got {len(keys)} and {len(queries)}")
    same_shape("scores", scores, queries.shape[:1], "the queries' rows")
    w, kept = kept_pairs(queries, keys, weights)
    cosines = (unit(blank(queries, kept)) * unit(blank(keys, kept))).sum(-1)
    x = cosines * scale
    with torch.no_grad():
        scores = blank(scores, kept)
        not_nan("scores", scores)
        value, gradient = _ordered(x, scores, w)
    whole: Tensor = _Given.apply(x, value, gradient)  # type: ignore[no-untyped-call]
    return Total(whole * w.sum(), w.sum())


def _ordered(x: Tensor, scores: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``log(1 + Σ_{scoreᵢ<scoreⱼ} wᵢwⱼ·exp(xᵢ − xⱼ))`` and its gradient for x: every exponent is at most 0."""
    scores, order = scores.sort()
    x, log_w, dtype = widest(x)[order], widest(w)[order].log(), x.dtype
    none = x.new_full((1,), -torch.inf)
    rising = torch.cat([none, torch.logcumsumexp(x + log_w, 0)])
    falling = torch.cat([none, torch.logcumsumexp((log_w - x).flip(0), 0)]).flip(0)
    lower = rising[torch.searchsorted(scores, scores)]  # over those of a strictly lower score
    higher = falling[torch.searchsorted(scores, scores, right=True)]
    value = torch.logsumexp(torch.cat([x.new_zeros(1), lower - x + log_w]), 0)
    gradient = (x + log_w + higher - value).exp() - (lower - x + log_w - value).exp()
    return value.to(dtype), torch.zeros_like(x).scatter(0, order, gradient).to(dtype)


class _Given(torch.autograd.Function):
    """A value whose gradient has been made beside it; asking for a second derivative raises."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        return upstream * ctx.saved_tensors[0], None, None


def _cosent_reference(
    queries: Tensor, keys: Tensor, scores: Tensor, *, scale: float | Tensor = 20.0, weights: Tensor | None = None
) -> Total:
    w = queries.new_ones(len(queries)) if weights is None else weights.detach()
    kept = w != 0
    c, scores, w = cosine_similarity(queries[kept], keys[kept], dim=1), scores[kept], w[kept]
    terms = torch.exp(scale * (c[:, None] - c)) * w[:, None] * w
    loss = torch.log(1 + torch.where(scores[:, None] < scores, terms, 0).sum())
    return Total(loss * w.sum(), w.sum())


def _example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return {
        "queries": normal(7, 5).requires_grad_(),
        "keys": normal(7, 5).requires_grad_(),
        "scores": torch.tensor([0.5, 0.0, 1.0, 0.5, 0.25, 0.0, 0.75], dtype=dtype),
        "scale": torch.tensor(3.0, dtype=dtype, requires_grad=True),
        "weights": (torch.rand(7, generator=generator, dtype=torch.float64) + 0.5).to(dtype),
    }


def _curve(cosines: Tensor) -> Tensor:
    """The pair that should be nearer, at each cosine, against one at right angles."""

    def at(c: Tensor) -> Tensor:
        keys = torch.stack([torch.stack([c, (1 - c * c).clamp_min(0).sqrt()]), c.new_tensor([0.0, 1.0])])
        return cosent(c.new_tensor([[1.0, 0.0]]).expand(2, 2), keys, torch.tensor([1.0, 0.0])).mean()

    return torch.stack([at(c) for c in cosines])


SPECS: tuple[LossSpec, ...] = (
    LossSpec(
        name="cosent",
        family="contrastive",
        fn=cosent,
        reference=_cosent_reference,
        example=_example,
        items=("queries", "keys", "scores"),
        variants=({}, {"scale": 20.0}),
        additive=False,
        picture="similarity",
        curve=_curve,
    ),
)
