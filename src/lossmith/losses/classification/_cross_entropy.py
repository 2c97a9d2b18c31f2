"""Cross-entropy against class ids or probabilities, with torch's options, z-loss and soft-cap; logit adjustment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses._items import blank, counted, positive, product, same_shape, total, wide
from lossmith.losses._spec import LossSpec
from lossmith.losses.classification._ids import (
    ROWS,
    check_logits,
    class_ids,
    example,
    over_probability,
    pick,
    remaining,
)
from lossmith.total import Total


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
) -> Total:
    """Return the cross-entropy of softmax(logits) against class ids or probabilities.

    Formula: with class weights c (ones), label smoothing s and ``lse = logsumexp(z)``, z the logits (``k·tanh(z/k)``
        where softcap is k): an id t costs ``(1−s)·c_t·(lse − z_t) + (s/C)·Σⱼ cⱼ·(lse − zⱼ) + z_loss·c_t·lse²`` nats
        and weighs ``wᵢ·c_t``; probabilities q cost ``Σⱼ ((1−s)·qⱼ + s/C)·cⱼ·(lse − zⱼ) + z_loss·lse²`` and weigh wᵢ.
        The mean is torch's in both cases.
    Shapes: logits [..., C]; targets [...] of integers, or [..., C] of probabilities; weights [...]; class_weights [C].
        −100, a weight of 0 and (without smoothing) an id whose class weighs 0 weigh nothing.
    Use: for classes that exclude each other.
    Avoid: for a language model's head (linear_cross_entropy never holds the logits), and where several classes may be
        right at once (binary_cross_entropy).
    Errors: InputError for shapes that do not fit, ids outside [0, C), and options outside their range.
    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html (torch has the classes
        in dimension 1, here they are last); z-loss: https://arxiv.org/abs/2204.02311 (PaLM, 5); soft-cap:
        https://arxiv.org/abs/2408.00118 (Gemma 2, 2)

    A logit of −∞ masks its class: no cost and no gradient where nothing is asked of it, infinite cost where it is the
    target, or where smoothing spreads over it. A soft-cap makes −k of it, which masks nothing: mask after capping.

    >>> cross_entropy(torch.tensor([2.0, 1.0, 0.5]), torch.tensor(0)).mean()
    tensor(0.4644)
    >>> cross_entropy(torch.tensor([2.0, 1.0, 0.0]), torch.tensor(0)).mean()  # a popular page has this for the above
    tensor(0.4076)
    """
    _check_options(label_smoothing, z_loss, softcap)
    soft = targets.is_floating_point()
    keep, z, targets = (_probabilities if soft else class_ids)(logits, targets, weights)
    c = _class_weights(class_weights, z)
    own = z.new_ones(z.shape[:-1]) if soft else c[targets]
    if class_weights is not None and not label_smoothing:
        keep = keep & (own != 0)
        z = blank(z, keep)
    if softcap is not None:
        z = softcap * torch.tanh(z / softcap)
    losses = _costs(torch.log_softmax(z, -1), targets, c, own, label_smoothing)
    if z_loss:
        losses = losses + z_loss * own * torch.logsumexp(z, -1).square()
    return Total(total(losses, keep, weights).value, total(own, keep, weights).value)


def _costs(logs: Tensor, targets: Tensor, c: Tensor, own: Tensor, label_smoothing: float) -> Tensor:
    """Return −Σⱼ qⱼ·cⱼ·log pⱼ of each row, where a class of q·c = 0 costs nothing even if log p is −∞."""
    classes = logs.shape[-1]
    if targets.is_floating_point():
        q = (1 - label_smoothing) * targets + label_smoothing / classes if label_smoothing else targets
        return -product(q * c, logs).sum(-1)
    hit = product((1 - label_smoothing) * own, pick(logs, targets))
    return -(hit + label_smoothing / classes * product(c, logs).sum(-1) if label_smoothing else hit)


def _probabilities(logits: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return which items count, and their logits and target probabilities in float32 or wider."""
    check_logits(logits)
    same_shape("targets", targets, logits.shape, "logits, being probabilities (class ids are integers)")
    same_shape("weights", weights, logits.shape[:-1], ROWS)
    keep = counted(logits[..., 0], weights)
    dtype = torch.promote_types(torch.promote_types(logits.dtype, targets.dtype), torch.float32)
    return keep, blank(logits.to(dtype), keep), blank(targets.to(dtype), keep)


def _class_weights(class_weights: Tensor | None, z: Tensor) -> Tensor:
    same_shape("class_weights", class_weights, z.shape[-1:], "the logits' classes")
    return z.new_ones(z.shape[-1]) if class_weights is None else class_weights.detach().to(z.dtype)


def _check_options(label_smoothing: float, z_loss: float, softcap: float | None) -> None:
    if not 0 <= label_smoothing <= 1:
        raise InputError(f"label_smoothing must be in [0, 1]; got {label_smoothing}")
    positive("z_loss", z_loss, zero=True)
    if softcap is not None:
        positive("softcap", softcap)


def logit_adjusted(
    logits: Tensor, targets: Tensor, *, priors: Tensor, tau: float = 1.0, weights: Tensor | None = None
) -> Total:
    """Return the cross-entropy of logits to which the log of each class's frequency is added: for long tails.

    Formula: cross_entropy of ``z + tau·log π`` against the class id, in nats; π are the priors divided by their sum.
    Shapes: logits [..., C]; targets [...] of integers; priors [C], probabilities or counts; weights [...].
    Use: to train on classes of very unequal size where the mean over classes shall be right: the frequency is in the
        adjustment, so that logits need not learn it. At prediction, use the logits as they are.
    Avoid: where the accuracy over items counts, or together with class weights or resampling: that corrects twice.
    Errors: as cross_entropy; for priors that are negative or of another shape (values are looked at on CPU only).
    Source: https://arxiv.org/abs/2007.07314 (Menon et al. 2021, equation 10)

    A prior of 0 excludes its class, as a logit of −∞ does: it costs infinitely as a target.

    >>> logit_adjusted(torch.zeros(1, 2), torch.tensor([1]), priors=torch.tensor([99, 1])).mean()  # ln 100
    tensor(4.6052)
    """
    check_logits(logits)
    same_shape("priors", priors, logits.shape[-1:], "the logits' classes")
    if targets.is_floating_point():
        raise InputError(f"targets must be class ids (integers); got {targets.dtype}")
    positive("tau", tau, zero=True)
    if not priors.is_cuda and not torch.compiler.is_compiling() and not bool((priors >= 0).all() & (priors > 0).any()):
        raise InputError(f"priors must be at least 0, and some greater; got {priors.tolist()}")
    z = wide(logits)
    pi = priors.detach().to(z.dtype)
    return cross_entropy(z + product(z.new_tensor(tau), torch.log(pi / pi.sum())), targets, weights=weights)


def _cross_entropy_reference(
    logits: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
) -> Total:
    c = logits.new_ones(logits.shape[-1]) if class_weights is None else class_weights.detach()
    z = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    if targets.is_floating_point():
        w = logits.new_ones(logits.shape[:-1]) if weights is None else weights.detach()
        w, p, q, z = w[w != 0], torch.softmax(z[w != 0], -1), targets[w != 0], z[w != 0]
        own = torch.ones_like(w)
    else:
        keep = (targets != -100) & (torch.ones_like(targets) if weights is None else weights != 0).bool()
        (w, p, ids), z = remaining(z, targets, weights), z[keep]
        q, own = torch.nn.functional.one_hot(ids, len(c)).to(z.dtype), c[ids]
    q = (1 - label_smoothing) * q + label_smoothing / len(c)
    losses = (q * c * -p.log()).sum(-1) + z_loss * own * torch.log(z.exp().sum(-1)) ** 2
    return Total((w * losses).sum(), (w * own).sum())


def _logit_adjusted_reference(
    logits: Tensor, targets: Tensor, *, priors: Tensor, tau: float = 1.0, weights: Tensor | None = None
) -> Total:
    w, p, ids = remaining(logits, targets, weights)
    p = p * (priors.detach() / priors.sum()) ** tau
    return Total((w * -torch.log(p.gather(-1, ids[:, None])[:, 0] / p.sum(-1))).sum(), w.sum())


def _adjusted_example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    return example(generator, dtype) | {"priors": torch.tensor([8, 4, 2, 1, 1], dtype=dtype)}


PROBABILITIES = torch.softmax(torch.linspace(-3, 3, 35, dtype=torch.float64).sin().reshape(7, 5) * 3, -1)
CLASS_WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 1.5, 0.25], dtype=torch.float64)
ALL = {"class_weights": CLASS_WEIGHTS, "label_smoothing": 0.1, "z_loss": 0.01, "softcap": 3.0}

SPECS: tuple[LossSpec, ...] = (
    LossSpec(
        name="cross_entropy",
        family="classification",
        fn=cross_entropy,
        reference=_cross_entropy_reference,
        example=example,
        items=("logits", "targets"),
        variants=(
            {},
            *({key: value} for key, value in ALL.items()),
            ALL,
            {"targets": PROBABILITIES.requires_grad_()},
            {"targets": PROBABILITIES.requires_grad_(), **ALL},
        ),
        picture="probability",
        curve=over_probability(cross_entropy),
    ),
    LossSpec(
        name="logit_adjusted",
        family="classification",
        fn=logit_adjusted,
        reference=_logit_adjusted_reference,
        example=_adjusted_example,
        items=("logits", "targets"),
        variants=({}, {"tau": 0.5}),
        picture="probability",
        curve=over_probability(logit_adjusted, priors=torch.tensor([0.1, 0.9])),
    ),
)
