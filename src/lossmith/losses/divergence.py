"""Divergences between two distributions over classes, from logits or log-probabilities, all of it in log space."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses._items import blank, counted, floating, positive, same_shape, total
from lossmith.losses._spec import LossSpec
from lossmith.total import Total


def kl(
    inputs: Tensor,
    targets: Tensor,
    *,
    log_probs: bool = False,
    temperature: float = 1.0,
    rescale: bool = False,
    weights: Tensor | None = None,
) -> Total:
    """Return the Kullback-Leibler divergence of the inputs (what learns) from the targets (the teacher).

    Formula: ``KL(q ‖ p) = Σⱼ qⱼ·(log qⱼ − log pⱼ)`` nats, with ``p = softmax(inputs/temperature)`` and
        ``q = softmax(targets/temperature)``; times temperature² if rescale, so that the gradients keep their size
        whatever the temperature. With log_probs both are log p and log q already (normalized by you).
    Shapes: inputs and targets [..., C] of one shape; weights [...]. The mean is over rows: torch's "batchmean".
    Use: for distillation. Forward KL, kl(student, teacher), covers all that the teacher may say; reverse KL,
        kl(teacher, student), keeps to what it says most. Gradients go to both sides: detach the teacher.
    Avoid: with targets that give weight to what the inputs exclude (logit −∞): it is infinite; js never is.
    Errors: InputError for shapes that differ, integers, a temperature that is not above 0, or one given with log_probs.
    Source: https://doi.org/10.1214/aoms/1177729694 (Kullback and Leibler 1951), https://arxiv.org/abs/1503.02531
        (Hinton et al. 2015: distillation, temperature²)

    A class of target probability 0 (or so small that the dtype takes it for 0) costs 0, even where the input is −∞.

    >>> kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -float("inf")]])).mean()  # 1·(ln 1 − ln ½)
    tensor(0.6931)
    """
    keep, log_p, log_q = _sides(inputs, targets, log_probs, temperature, weights)
    return total(_kl(log_q, log_p) * (temperature**2 if rescale else 1), keep, weights)


def js(
    inputs: Tensor,
    targets: Tensor,
    *,
    beta: float = 0.5,
    log_probs: bool = False,
    temperature: float = 1.0,
    rescale: bool = False,
    weights: Tensor | None = None,
) -> Total:
    """Return the generalized Jensen-Shannon divergence between inputs (p) and targets (q).

    Formula: ``beta·KL(q ‖ m) + (1 − beta)·KL(p ‖ m)`` nats with ``m = beta·q + (1 − beta)·p``; at most ln 2, for
        beta ½. beta 0 and 1, where this is 0, mean ``KL(q ‖ p)`` and ``KL(p ‖ q)``, as in TRL and Liger-Kernel:
        near them it is beta times the first, and 1 − beta times the second. Other options as in kl.
    Shapes: inputs and targets [..., C] of one shape; weights [...].
    Use: for distillation of generated text (GKD), and where one side may exclude what the other allows.
    Avoid: early in training, with sides far apart: it saturates, and its gradient vanishes; kl.
    Errors: as kl, and for a beta outside [0, 1].
    Source: https://arxiv.org/abs/2306.13649 (Agarwal et al. 2024: GKD)

    >>> js(torch.tensor([[0.0, -float("inf")]]), torch.tensor([[-float("inf"), 0.0]])).mean()  # nothing in common: ln 2
    tensor(0.6931)
    """
    if not 0 <= beta <= 1:
        raise InputError(f"beta must be in [0, 1]; got {beta}")
    keep, log_p, log_q = _sides(inputs, targets, log_probs, temperature, weights)
    if beta in (0, 1):
        losses = _kl(log_q, log_p) if beta == 0 else _kl(log_p, log_q)
    else:
        nowhere = (log_p == -torch.inf) & (log_q == -torch.inf)  # logaddexp has no slope there
        sides = torch.where(nowhere, 0, log_q) + math.log(beta), torch.where(nowhere, 0, log_p) + math.log1p(-beta)
        log_m = torch.logaddexp(*sides)
        losses = beta * _kl(log_q, log_m) + (1 - beta) * _kl(log_p, log_m)
    return total(losses * (temperature**2 if rescale else 1), keep, weights)


def total_variation(
    inputs: Tensor,
    targets: Tensor,
    *,
    log_probs: bool = False,
    temperature: float = 1.0,
    weights: Tensor | None = None,
) -> Total:
    """Return the total variation distance between inputs (p) and targets (q).

    Formula: ``½·Σⱼ |pⱼ − qⱼ|``, in [0, 1], with p and q as in kl; the slope where they are equal is taken as 0.
    Shapes: inputs and targets [..., C] of one shape; weights [...].
    Use: to measure: it is the share of samples that differ at best, 1 − it the acceptance rate of speculative
        decoding; and to train a draft model for just that.
    Avoid: to train sides that are far apart: where p is near 0 so is its gradient.
    Errors: as kl.
    Source: https://arxiv.org/abs/2211.17192 (Leviathan et al. 2023, section 3.2: acceptance), and
        https://arxiv.org/abs/2307.15190 (Wen et al. 2023: distillation)

    >>> total_variation(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -float("inf")]])).mean()  # (½ + ½)/2
    tensor(0.5000)
    """
    keep, log_p, log_q = _sides(inputs, targets, log_probs, temperature, weights)
    return total((log_p.exp() - log_q.exp()).abs().sum(-1) / 2, keep, weights)


def _kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    """Return KL(q ‖ p) of each row: a class with q = 0 costs nothing and gets no gradient, whatever p."""
    q = log_q.exp()
    none = q == 0
    return (q * (torch.where(none, 0, log_q) - torch.where(none, 0, log_p))).sum(-1)


def _sides(
    inputs: Tensor, targets: Tensor, log_probs: bool, temperature: float, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return which rows count, and both sides' log-probabilities in float32 or wider."""
    floating("inputs", inputs)
    floating("targets", targets)
    if inputs.ndim < 1 or not inputs.shape[-1]:
        raise InputError(f"inputs must be [..., C] with at least one class; got {tuple(inputs.shape)}")
    same_shape("targets", targets, inputs.shape, "inputs")
    same_shape("weights", weights, inputs.shape[:-1], "inputs without the last dimension")
    positive("temperature", temperature)
    if log_probs and temperature != 1:
        raise InputError(f"temperature must be 1 with log_probs=True (it is for logits); got {temperature}")
    keep = counted(inputs[..., 0], weights)
    dtype = torch.promote_types(torch.promote_types(inputs.dtype, targets.dtype), torch.float32)
    log_p, log_q = (blank(x.to(dtype), keep) for x in (inputs, targets))
    if not log_probs:
        log_p, log_q = (torch.log_softmax(x / temperature, -1) for x in (log_p, log_q))
    return keep, log_p, log_q


def _both(
    inputs: Tensor, targets: Tensor, log_probs: bool, temperature: float, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights and probabilities of both sides, without the rows that weigh nothing: for the references below."""
    w = inputs.new_ones(inputs.shape[:-1]) if weights is None else weights.detach()
    p, q = (x[w != 0] / temperature for x in (inputs, targets))
    p, q = (p.exp(), q.exp()) if log_probs else (torch.softmax(p, -1), torch.softmax(q, -1))
    return w[w != 0], p, q


def _kl_reference(
    inputs: Tensor,
    targets: Tensor,
    *,
    log_probs: bool = False,
    temperature: float = 1.0,
    rescale: bool = False,
    weights: Tensor | None = None,
) -> Total:
    w, p, q = _both(inputs, targets, log_probs, temperature, weights)
    losses = (q * (q.log() - p.log())).sum(-1) * (temperature**2 if rescale else 1)
    return Total((w * losses).sum(), w.sum())


def _js_reference(
    inputs: Tensor,
    targets: Tensor,
    *,
    beta: float = 0.5,
    log_probs: bool = False,
    temperature: float = 1.0,
    rescale: bool = False,
    weights: Tensor | None = None,
) -> Total:
    w, p, q = _both(inputs, targets, log_probs, temperature, weights)
    m = {0.0: p, 1.0: q}.get(beta, beta * q + (1 - beta) * p)
    from_q, from_p = ((x * (x.log() - m.log())).sum(-1) for x in (q, p))
    losses = {0.0: from_q, 1.0: from_p}.get(beta, beta * from_q + (1 - beta) * from_p)
    return Total((w * losses).sum() * (temperature**2 if rescale else 1), w.sum())


def _total_variation_reference(
    inputs: Tensor,
    targets: Tensor,
    *,
    log_probs: bool = False,
    temperature: float = 1.0,
    weights: Tensor | None = None,
) -> Total:
    w, p, q = _both(inputs, targets, log_probs, temperature, weights)
    return Total((w * (torch.maximum(p, q) - torch.minimum(p, q)).sum(-1) / 2).sum(), w.sum())


def _example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    def normal() -> Tensor:
        return torch.randn(7, 5, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    weights = (torch.rand(7, generator=generator, dtype=torch.float64) + 0.5).to(dtype)
    return {"inputs": normal(), "targets": normal(), "weights": weights}


def _row(fn: Any, reference: Any, *variants: dict[str, Any]) -> LossSpec:
    return LossSpec(
        name=fn.__name__,
        family="divergence",
        fn=fn,
        reference=reference,
        example=_example,
        items=("inputs", "targets"),
        variants=({}, {"log_probs": True}, {"temperature": 2.5}, *variants),
    )


SPECS: tuple[LossSpec, ...] = (
    _row(kl, _kl_reference, {"temperature": 0.5, "rescale": True}),
    _row(js, _js_reference, {"beta": 0.1, "temperature": 2.0, "rescale": True}, {"beta": 0.0}, {"beta": 1.0}),
    _row(total_variation, _total_variation_reference),
)
