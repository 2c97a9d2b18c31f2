"""What the contrastive losses share: rows of length 1, checks of temperature and shapes, which pairs are there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses._items import same_shape, wide


def unit(x: Tensor) -> Tensor:
    """Return the rows of `x` [..., D] divided by their length, in float32 or wider.

    A zero row stays zero and gets no gradient: its direction is undefined, and a small number in the denominator would
    turn that into a slope of 1e12. Zero is what no entry of reaches the root of the smallest normal number (1e-19 in
    float32), so that 1/length, the largest slope there is, stays finite.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    x = wide(x)
    largest = x.detach().abs().amax(-1, keepdim=True)
    zero = largest < torch.finfo(x.dtype).tiny ** 0.5
    # Divided by the largest entry first, so that no square overflows or vanishes; as a constant: the length cancels it.
    x = torch.where(zero, 0.0, x / torch.where(zero, 1.0, largest))
    return x / torch.where(zero, 1.0, x.square().sum(-1, keepdim=True)).sqrt()


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
    c = float(cosine)
    keys = torch.tensor([[c, math.sqrt(max(0.0, 1 - c * c))], [0.0, 1.0]], dtype=cosine.dtype)
    return torch.tensor([[1.0, 0.0]], dtype=cosine.dtype), keys
