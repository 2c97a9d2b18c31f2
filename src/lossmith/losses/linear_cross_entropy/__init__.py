"""Cross-entropy straight from hidden states and the output head: the logits are never all in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.errors import InputError, did_you_mean
from lossmith.losses._items import in_range, same_shape
from lossmith.losses.linear_cross_entropy._op import linear_cross_entropy_op
from lossmith.losses.linear_cross_entropy._reference import reference
from lossmith.total import Total

IMPLEMENTATIONS = ("auto", "chunked", "triton", "reference")


def linear_cross_entropy(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    logit_scale: float | Tensor = 1.0,
    filter_below: float = 0.0,
    max_memory: int | None = None,
    impl: str = "auto",
) -> Total:
    """Return the summed cross-entropy of `softmax(head(hidden))` against class ids, without storing the logits.

    Formula: ``z = logit_scale·(hidden·headᵀ + bias)``, with ``z = k·tanh(z/k)`` when softcap is k; with class weights c
        (ones), label smoothing s and ``lse = logsumexp(z)``, item i costs
        ``wᵢ·[(1−s)·c_t·(lse − z_t) + (s/V)·Σⱼ cⱼ·(lse − zⱼ) + z_loss·c_t·lse²]`` nats and weighs ``wᵢ·c_t``.
    Shapes: hidden [..., D], head [V, D], bias [V], targets [...] of integers, weights [...] (default 1), class_weights [V].
        A target of −100, a weight of 0 and (without smoothing) a class weight of 0 weigh nothing.
    Use: for the loss of every language model: causal, masked (only masked rows reach the head), sequence to sequence.
    Avoid: where you need the logits anyway, or a second derivative: impl="reference" holds them.
    Memory: beside the gradients and a float32 accumulator of the head's, one block of logits: `max_memory` bytes (default
        60 MB, or 256 rows where that is more). Gradients are made in the forward pass, those that are asked for only.
    Errors: InputError for shapes that do not fit, unknown options, and targets outside [0, V) (CPU; on CUDA the device
        asserts, so that the host need not wait).
    Source: https://arxiv.org/abs/2411.09009 (Cut Your Losses); chunks with the gradient in the forward pass:
        https://github.com/mgmalek/efficient_cross_entropy; z-loss: https://arxiv.org/abs/2204.02311 (PaLM, 5).

    filter_below=ε leaves a vocabulary entry out of hidden's gradient for a block of rows in which no entry of the logits'
    gradient reaches ε (the head's gradient stays exact): row i then misses at most ``Σⱼ |Gᵢⱼ|·‖headⱼ‖ < ε·Σⱼ ‖headⱼ‖``
    over the entries j left out, where G is the gradient of the logits.

    >>> hidden, head = torch.zeros(3, 2), torch.zeros(5, 2)
    >>> linear_cross_entropy(hidden, head, torch.tensor([1, 4, -100])).mean()  # ln 5
    tensor(1.6094)
    """
    _check(hidden, head, targets, bias, weights, class_weights)
    _check_options(label_smoothing, z_loss, softcap, filter_below, impl)
    in_range("targets", targets, len(head))
    if isinstance(logit_scale, Tensor):  # learned: its gradient comes through what it multiplies
        hidden, bias, logit_scale = hidden * logit_scale, None if bias is None else bias * logit_scale, 1.0
    hidden, targets = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    weights = None if weights is None else weights.detach().reshape(-1)
    if impl == "reference":
        return reference(
            hidden,
            head,
            targets,
            bias=bias,
            weights=weights,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            z_loss=z_loss,
            softcap=softcap,
            logit_scale=logit_scale,
        )
    recorded = torch.is_grad_enabled()
    value, weight, *_ = linear_cross_entropy_op(
        hidden,
        head,
        bias,
        targets,
        weights,
        None if class_weights is None else class_weights.detach(),
        [float(label_smoothing), float(z_loss), float(logit_scale), float(filter_below)],
        softcap,
        max_memory,
        choose(hidden, impl),
        [recorded and x is not None and x.requires_grad for x in (hidden, head, bias)],
        compute_dtype(hidden, head),
    )
    return Total(value, weight.detach())


def compute_dtype(hidden: Tensor, head: Tensor) -> torch.dtype:
    """Return the dtype of the products: autocast's where it is on, else that of hidden and head, which must be the same."""
    device = hidden.device.type
    if torch.is_autocast_enabled(device) and hidden.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    if hidden.dtype != head.dtype:
        raise InputError(
            f"hidden and head must share a dtype (or run under autocast); got {hidden.dtype} and {head.dtype}"
        )
    return hidden.dtype


def choose(hidden: Tensor, impl: str = "auto") -> str:
    """Return which implementation runs: triton on CUDA where it is installed (not for float64), else chunked."""
    if impl != "auto":
        return impl
    if not hidden.is_cuda or hidden.dtype == torch.float64:
        return "chunked"
    from lossmith.losses.linear_cross_entropy import _triton

    return "triton" if _triton.available() is None else "chunked"


def _check(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    weights: Tensor | None,
    class_weights: Tensor | None,
) -> None:
    if head.ndim != 2 or hidden.ndim < 1 or hidden.shape[-1] != head.shape[1]:
        raise InputError(
            f"hidden [..., D] and head [V, D] must share D; got {tuple(hidden.shape)} and {tuple(head.shape)}"
        )
    if targets.is_floating_point():
        raise InputError(f"targets must be class ids (integers); got {targets.dtype}. For probabilities: cross_entropy")
    same_shape("targets", targets, hidden.shape[:-1], "hidden")
    same_shape("weights", weights, targets.shape, "targets")
    for name, x in (("bias", bias), ("class_weights", class_weights)):
        same_shape(name, x, head.shape[:1], "the head's rows")


def _check_options(
    label_smoothing: float, z_loss: float, softcap: float | None, filter_below: float, impl: str
) -> None:
    if not 0 <= label_smoothing <= 1:
        raise InputError(f"label_smoothing must be in [0, 1]; got {label_smoothing}")
    for name, number in (("z_loss", z_loss), ("filter_below", filter_below)):
        if not number >= 0:
            raise InputError(f"{name} must be at least 0; got {number}")
    if softcap is not None and not softcap > 0:
        raise InputError(f"softcap must be greater than 0, or None for none; got {softcap}")
    if impl not in IMPLEMENTATIONS:
        raise InputError(
            f"impl must be one of {', '.join(IMPLEMENTATIONS)}; got {impl!r}.{did_you_mean(impl, IMPLEMENTATIONS)}"
        )
