"""Losses: tensors in, a Total out; no model, no mesh, no logger."""

from lossmith.losses._spec import LossSpec
from lossmith.losses.linear_cross_entropy import linear_cross_entropy

__all__ = ["LossSpec", "linear_cross_entropy"]
