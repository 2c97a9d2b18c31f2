"""What the contrastive losses share: rows of length 1, checks of temperature and shapes, which pairs are there."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses._items import same_shape, wide
from lossmith.losses.linear_cross_entropy._stream import spans

PIECE_ROWS = 1024


def unit(x: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    """Return the rows of `x` [..., D] divided by their length, times a scale, in float32 or wider.

    A zero row stays zero and gets no gradient: its direction is undefined, and a small number in the denominator would
    turn that into a slope of 1e12. Zero is what no entry of reaches the root of the smallest normal number (1e-19 in
    float32), so that 1/length, the largest slope there is, stays finite.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    found: Tensor = _Unit.apply(wide(x), scale)  # type: ignore[no-untyped-call]
    return found


class _Unit(torch.autograd.Function):
    """Keeps nothing but `x` for the backward pass: beside large batches every copy of the embeddings would count."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float | Tensor) -> Tensor:
        ctx.scale = scale if not isinstance(scale, Tensor) else None
        ctx.save_for_backward(x, *([scale] if isinstance(scale, Tensor) else []))
        if not _in_pieces(x):
            return _direction(x)[0] * scale
        out = torch.empty_like(x)
        for rows in spans(0, len(x), PIECE_ROWS):
            out[rows] = _direction(x[rows])[0] * scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        x, *rest = ctx.saved_tensors
        scale = rest[0] if rest else ctx.scale
        if not _in_pieces(x) or torch.is_grad_enabled():  # a second derivative was asked for
            found, along = _pulled_back(x, scale, grad)
            return found, along if rest else None
        out, total = torch.empty_like(x), x.new_zeros(())
        for rows in spans(0, len(x), PIECE_ROWS):
            out[rows], along = _pulled_back(x[rows], scale, grad[rows])
            total += along
        return out, total if rest else None


def _in_pieces(x: Tensor) -> bool:
    """Whether to go through the rows of `x` piece by piece, whose intermediate results stay small, and in the cache."""
    return x.ndim == 2 and len(x) > PIECE_ROWS and not torch.compiler.is_compiling()


def _pulled_back(x: Tensor, scale: float | Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of x, and that of the scale, from that of scale·x/|x|."""
    direction, slope = _direction(x)
    along = (grad * direction).sum(-1, keepdim=True)
    return (grad - direction * along) * (slope * scale), along.sum()


def _direction(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of length 1 and 1/length [..., 1]; zeros for zero rows."""
    largest = x.detach().abs().amax(-1, keepdim=True)
    zero = largest < torch.finfo(x.dtype).tiny ** 0.5
    inverse = torch.where(zero, 0.0, 1 / largest)
    # Divided by the largest entry first, so that no square overflows or vanishes; as a constant: the length cancels it.
    near = x * inverse
    length = torch.where(zero, 1.0, near.square().sum(-1, keepdim=True)).sqrt()
    return near / length, inverse / length


def check_scalar(name: str, value: float | Tensor, *, above_zero: bool = True) -> None:
    """Raise InputError where an option is neither a finite number (above 0) nor a tensor of one, without dimensions.

    The value of a tensor on an accelerator is not looked at: the host would have to wait for it.
    """
    if isinstance(value, Tensor):
        if value.ndim or not value.is_floating_point():
            raise InputError(
                f"{name} must be a number or a floating tensor without dimensions (x.squeeze()); "
                f"got {value.dtype} of shape {tuple(value.shape)}"
            )
        if value.device.type != "cpu" or torch.compiler.is_compiling() or not above_zero:
            return
        value = float(value.detach())
        if math.isnan(value):  # a run that diverged, not a wrong call: let the loss show it
            return
    if not math.isfinite(value) or (above_zero and value <= 0):
        raise InputError(f"{name} must be a finite number{' greater than 0' if above_zero else ''}; got {value}")


def check_embeddings(name: str, x: Tensor) -> None:
    """Raise InputError where `x` is not [N, D] of floating numbers with D at least 1."""
    if x.ndim != 2 or not x.shape[1] or not x.is_floating_point():
        raise InputError(f"{name} must be [N, D], a vector an item; got {x.dtype} of shape {tuple(x.shape)}")


def check_pairs(queries: Tensor, keys: Tensor, weights: Tensor | None, ids: Tensor | None = None) -> None:
    """Raise InputError where queries [N, D], keys [M, D] (M ≥ N), weights [N] and ids [M] do not fit together."""
    for name, x in (("queries", queries), ("keys", keys)):
        check_embeddings(name, x)
    if queries.shape[1] != keys.shape[1] or len(keys) < len(queries):
        raise InputError(
            "keys must be [M, D] with the queries' D and at least as many rows (row i is the positive of query i); "
            f"got queries {tuple(queries.shape)} and keys {tuple(keys.shape)}"
        )
    same_shape("weights", weights, queries.shape[:1], "the queries' rows")
    if ids is not None:
        same_shape("ids", ids, keys.shape[:1], "the keys' rows")
        if ids.is_floating_point():
            raise InputError(f"ids must be integers; got {ids.dtype}")


def kept_pairs(queries: Tensor, keys: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return wide weights [N] and which keys are there, bool [M]: a pair of weight 0 takes its key along."""
    dtype = wide(queries).dtype
    if weights is None:
        return queries.new_ones(len(queries), dtype=dtype), torch.ones_like(keys[:, 0], dtype=torch.bool)
    extra = torch.ones_like(keys[len(queries) :, 0], dtype=torch.bool)
    return weights.detach().to(dtype), torch.cat([weights != 0, extra])


def pair_at(cosine: Tensor) -> tuple[Tensor, Tensor]:
    """Return a query [1, 2] and keys [2, 2]: its positive at this cosine, a negative at right angles. For pictures."""
    right_angle = (1 - cosine * cosine).clamp_min(0).sqrt()
    positive = torch.stack([cosine, right_angle])
    return cosine.new_tensor([[1.0, 0.0]]), torch.stack([positive, cosine.new_tensor([0.0, 1.0])])
