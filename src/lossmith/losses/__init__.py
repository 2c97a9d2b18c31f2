"""Losses: tensors in, a Total out; no model, no mesh, no logger."""

from lossmith.losses.linear_cross_entropy import linear_cross_entropy

__all__ = ["linear_cross_entropy"]
