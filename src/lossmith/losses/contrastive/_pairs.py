"""Losses of a row of similarities, streamed: N×M similarities are made, used and multiplied back some rows at a time.

Every loss here is a function of one anchor's similarities to all candidates. The operator walks over the anchors with
the Stream that also serves the head of a language model, makes the gradient in the forward pass, and is opaque to
torch.compile. Temperature and unit length stay outside, where autograd carries them: memory is O(rows at a time · M).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossmith.losses.linear_cross_entropy._chunked import softmax_
from lossmith.losses.linear_cross_entropy._made import gradients_are_made
from lossmith.losses.linear_cross_entropy._stream import Stream
from lossmith.total import Total

Results = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Say how anchors [A] and candidates [C] belong together.

    own: an anchor's own candidate (its positive, or itself), int64[A]. groups: int64[A] and int64[C]. kept: the
    candidates that are there, bool[C].
    """

    own: Tensor
    anchor_groups: Tensor
    candidate_groups: Tensor
    kept: Tensor

    def apart(self, span: slice) -> Tensor:
        """Return which candidates are of another group than the anchors of `span`: bool [r, C]."""
        return (self.anchor_groups[span, None] != self.candidate_groups) & self.kept

    def others(self, span: slice) -> Tensor:
        """Return which candidates are not the anchors' own: bool [r, C]."""
        return self.kept.repeat(span.stop - span.start, 1).scatter_(1, self.own[span, None], False)


def sigmoid_rows(z: Tensor, pairs: Pairs, span: slice, bias: Tensor) -> tuple[Tensor, Tensor]:
    """SigLIP: −log σ(z) of the own candidate, −log σ(−z) of those apart; z becomes its gradient."""
    z.add_(bias)
    own, apart = pairs.own[span, None], pairs.apart(span)
    at = z.gather(1, own)
    losses = -logsigmoid(at)[:, 0] - torch.where(apart, logsigmoid(-z), 0).sum(1)
    z.sigmoid_().masked_fill_(~apart, 0).scatter_(1, own, -torch.sigmoid(-at))
    return losses, torch.ones_like(losses, dtype=torch.bool)


def info_nce_rows(z: Tensor, pairs: Pairs, span: slice, bias: Tensor) -> tuple[Tensor, Tensor]:
    """InfoNCE: logsumexp over the own candidate and those apart, minus the own candidate's z."""
    own = pairs.own[span, None]
    z.masked_fill_(~pairs.apart(span).scatter_(1, own, True), -torch.inf)
    return info_nce_all_rows(z, pairs, span, bias)


def info_nce_all_rows(z: Tensor, pairs: Pairs, span: slice, bias: Tensor) -> tuple[Tensor, Tensor]:
    """InfoNCE where every candidate is there."""
    own = pairs.own[span, None]
    at = z.gather(1, own)[:, 0]
    largest, log_sum = softmax_(z)
    z.scatter_add_(1, own, z.new_full(own.shape, -1.0))
    return log_sum + (largest - at), torch.ones_like(at, dtype=torch.bool)


def labelled_rows(z: Tensor, pairs: Pairs, span: slice, bias: Tensor) -> tuple[Tensor, Tensor]:
    """InfoNCE with the candidates of an anchor's group as its positives: logsumexp minus their mean z."""
    alike = pairs.anchor_groups[span, None] == pairs.candidate_groups
    share = alike / alike.sum(1, keepdim=True).to(z.dtype).clamp_min(1)
    mean = (share * z).sum(1)
    largest, log_sum = softmax_(z)
    z.sub_(share)
    return log_sum + (largest - mean), alike.any(1)


def decoupled_rows(z: Tensor, pairs: Pairs, span: slice, bias: Tensor) -> tuple[Tensor, Tensor]:
    """DCL: logsumexp over those apart, minus the own candidate's z."""
    own, apart = pairs.own[span, None], pairs.apart(span)
    at = z.gather(1, own)
    largest, some = shift_(z, apart)
    top, log_sum = softmax_(z)
    losses = log_sum + top + (largest - at)[:, 0]
    z.scatter_(1, own, -1.0)
    return losses, some


def supervised_rows(z: Tensor, pairs: Pairs, span: slice, bias: Tensor) -> tuple[Tensor, Tensor]:
    """SupCon: logsumexp over all others, minus the mean z of the others of the anchor's group."""
    others = pairs.others(span)
    alike = others & (pairs.anchor_groups[span, None] == pairs.candidate_groups)
    shift_(z, others)
    count = alike.sum(1, keepdim=True).to(z.dtype).clamp_min(1)
    mean = (torch.where(alike, z, 0) / count).sum(1)
    top, log_sum = softmax_(z)
    losses = log_sum + (top - mean)
    z.sub_(alike / count)
    return losses, alike.any(1)


def shift_(z: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract a row's largest entry `among`, and put −inf elsewhere; return the largest [r, 1], and who has any [r].

    Near the end of training the entries are 1/temperature and the loss is tiny: what is subtracted from them is first.
    """
    some = among.any(1)
    z.masked_fill_(~among, -torch.inf).masked_fill_(
        ~some[:, None], 0
    )  # nobody uses a row without any: finite is enough
    largest = z.amax(1, keepdim=True)
    z.sub_(largest)
    return largest, some


ROWS: dict[str, Callable[[Tensor, Pairs, slice, Tensor], tuple[Tensor, Tensor]]] = {
    "sigmoid": sigmoid_rows,
    "info_nce": info_nce_rows,
    "info_nce_all": info_nce_all_rows,
    "labelled": labelled_rows,
    "decoupled": decoupled_rows,
    "supervised": supervised_rows,
}


def _forward(
    anchors: Tensor,
    candidates: Tensor,
    bias: Tensor,
    weights: Tensor,
    own: Tensor,
    anchor_groups: Tensor,
    candidate_groups: Tensor,
    kept: Tensor,
    rows: str,
    want: list[bool],
    max_memory: int | None,
) -> Results:
    """Return Σ w·loss and Σ w over the anchors that count, and gradients for anchors, candidates, bias (or empty)."""
    pairs = Pairs(own, anchor_groups, candidate_groups, kept)
    stream = Stream(anchors, candidates, want=(want[0], want[1], False), max_memory=max_memory)
    value, weight = anchors.new_zeros(len(anchors)), anchors.new_zeros(len(anchors))
    slope = torch.zeros_like(bias)

    def visit(z: Tensor, span: slice) -> None:
        losses, some = ROWS[rows](z, pairs, span, bias)
        w = torch.where(some, weights[span], 0)
        value[span], weight[span] = torch.where(w != 0, losses, 0) * w, w
        z.mul_(w[:, None])
        if want[2]:
            slope.add_(z.sum())

    with torch.autocast(anchors.device.type, enabled=False):
        stream.run(visit)
    nothing = value.new_empty(0)
    grads = [nothing.clone() if grad is None else grad for grad in (stream.grad_hidden, stream.grad_head)]
    return value.sum(), weight.sum(), grads[0], grads[1], slope


pairs_op = torch.library.custom_op("lossmith::contrastive_pairs", _forward, mutates_args=())


@pairs_op.register_fake
def _shapes(anchors: Tensor, candidates: Tensor, bias: Tensor, *rest: Any) -> Results:
    want = rest[-2]
    pairs = zip((anchors, candidates), want[:2], strict=True)
    like = [torch.empty_like(x) if wanted else x.new_empty(0) for x, wanted in pairs]
    return anchors.new_empty(()), anchors.new_empty(()), like[0], like[1], torch.empty_like(bias)


gradients_are_made(
    pairs_op,
    totals=2,
    want=-2,
    refusal="the contrastive losses have no second derivative: their gradient is made in the forward pass",
)


def pairs_total(
    rows: str,
    anchors: Tensor,
    candidates: Tensor,
    pairs: Pairs,
    weights: Tensor,
    bias: Tensor | None = None,
    max_memory: int | None = None,
) -> Total:
    """Return Σ wᵢ·loss(anchorᵢ·candidatesᵀ + bias) over the anchors that count; anchors and candidates are wide."""
    dtype = torch.promote_types(anchors.dtype, candidates.dtype)
    anchors, candidates = anchors.to(dtype).contiguous(), candidates.to(dtype).contiguous()
    bias = anchors.new_zeros(()) if bias is None else bias.to(dtype)
    if not len(anchors):
        return Total(0 * (anchors.sum() + candidates[:0].sum() + bias), anchors.new_zeros(()))
    recorded = torch.is_grad_enabled()
    value, weight, *_ = pairs_op(
        anchors,
        candidates,
        bias,
        weights.to(dtype),
        pairs.own,
        pairs.anchor_groups,
        pairs.candidate_groups,
        pairs.kept,
        rows,
        [recorded and x.requires_grad for x in (anchors, candidates, bias)],
        max_memory,
    )
    return Total(value, weight.detach())
