"""Cross-entropy over a Stream: softmax and gradient in place, while the logits of a few rows are in the cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lossmith.losses.linear_cross_entropy._stream import Stream


@dataclass(frozen=True, slots=True)
class Options:
    """What changes the formula; a float each, as the custom op needs it."""

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    softcap: float | None = None
    logit_scale: float = 1.0
    filter_below: float = 0.0


def exponentials_(z: Tensor) -> tuple[Tensor, Tensor]:
    """Turn logits into exp(z − largest) in place; return the largest logit [r] and the sum of the row [r], ≥ 1.

    log(sum) + largest is logsumexp; apart, since what is near the largest is subtracted from it before anything is
    rounded. The division by the sum is left to the caller, whose gradient has a factor that can carry it.
    """
    largest = z.amax(1)
    z.sub_(largest[:, None]).exp_()
    return largest, z.sum(1)


def softmax_(z: Tensor) -> tuple[Tensor, Tensor]:
    """Turn logits into probabilities in place; return the largest logit [r] and log Σ exp(z − largest) [r]."""
    largest, total = exponentials_(z)
    z.mul_(total.reciprocal()[:, None])
    return largest, total.log_()


@dataclass(slots=True)
class RowTerms:
    """Loss of some rows, ``w·[(1−s)·c_t·(lse − z_t) + (s/V)·Σⱼ cⱼ·(lse − zⱼ) + ζ·lse²·c_t]``, and its gradient.

    targets int64[n], weights [n] or None, class_weights c [V] or None (ones); s: label smoothing; ζ: z-loss.
    """

    targets: Tensor
    weights: Tensor | None
    class_weights: Tensor | None
    options: Options
    classes: int

    def losses(self, z: Tensor, span: slice, gradient: bool) -> Tensor:
        """Return the loss of the rows `span` from their wide logits z [r, V], which become the gradient if wanted."""
        s, zeta = self.options.label_smoothing, self.options.z_loss
        target = self.targets[span, None]
        picked = z.gather(1, target)[:, 0]
        own = None if self.class_weights is None else self.class_weights[target[:, 0]].to(z.dtype)
        spread = self._spread(z) if s else None  # Σⱼ cⱼ·zⱼ and Σⱼ cⱼ
        largest, total = exponentials_(z)
        log_sum = total.log()
        lse = largest + log_sum
        loss = log_sum + (largest - picked)
        inner = loss if own is None else loss * own
        if spread is not None:
            inner = (1 - s) * inner + (s / self.classes) * (spread[1] * lse - spread[0])
        if zeta:
            inner = inner + zeta * lse * lse * (1.0 if own is None else own)
        each = torch.ones_like(lse) if self.weights is None else self.weights[span].to(z.dtype)
        if gradient:
            self._gradient(z, total, target, lse, own, spread, each)
        return inner * each

    def _spread(self, z: Tensor) -> tuple[Tensor, Tensor | float]:
        if self.class_weights is None:
            return z.sum(1), float(self.classes)
        c = self.class_weights.to(z.dtype)
        return z.mv(c), c.sum()

    def _gradient(
        self,
        e: Tensor,
        total: Tensor,
        target: Tensor,
        lse: Tensor,
        own: Tensor | None,
        spread: tuple[Tensor, Tensor | float] | None,
        each: Tensor,
    ) -> None:
        """Turn exponentials into the logits' gradient, in place: onehot is taken off before anything is rounded.

        Of a row: ``wᵢ·[(peak + 2ζ·lse·c_t + (s/V)·Σc)·e/Σe − (s/V)·c − peak·onehot]``, peak = (1 − s)·c_t.
        """
        s, zeta = self.options.label_smoothing, self.options.z_loss
        one = each if own is None else each * own
        peak = (1 - s) * one
        mass = peak + 2 * zeta * lse * one + (0.0 if spread is None else s / self.classes * spread[1] * each)
        e.mul_((mass / total)[:, None])
        if s:
            share = s / self.classes * each
            if self.class_weights is None:
                e.sub_(share[:, None])
            else:
                e.addr_(share, self.class_weights.to(e.dtype), alpha=-1)
        e.scatter_add_(1, target, -peak[:, None])


def chunked_sum(
    hidden: Tensor,
    head: Tensor,
    bias: Tensor | None,
    rows: Tensor | None,
    terms: RowTerms,
    want: tuple[bool, bool, bool],
    max_memory: int | None,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Return Σ loss over the counted rows and its gradients with respect to hidden, head (wide) and bias (wide)."""
    options = terms.options
    stream = Stream(
        hidden,
        head,
        bias,
        scale=options.logit_scale,
        softcap=options.softcap,
        rows=rows,
        exact=terms.targets,
        want=want,
        filter_below=options.filter_below,
        max_memory=max_memory,
    )
    losses = torch.empty(stream.count, dtype=stream.wide, device=hidden.device)

    def visit(z: Tensor, span: slice) -> None:
        losses[span] = terms.losses(z, span, any(want))

    stream.run(visit)
    return losses.sum(), stream.grad_hidden, stream.grad_head, stream.grad_bias
