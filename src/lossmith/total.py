"""Total: a weighted sum that nobody has averaged yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Total:
    """Carry a loss as sum and weight apart, so that the one division happens after everything has been counted.

    Formula: ``value = Σ wᵢ·lossᵢ`` (nats, float32 or wider, differentiable), ``weight = Σ wᵢ`` (no gradient).
    Shapes: both scalar tensors.

    >>> import torch
    >>> batches = [Total(torch.tensor(6.0), torch.tensor(3.0)), Total(torch.tensor(2.0), torch.tensor(1.0))]
    >>> sum(batches[1:], batches[0]).mean()
    tensor(2.)
    """

    value: Tensor
    weight: Tensor

    def __add__(self, other: Total) -> Total:
        """Add two totals: sums add, weights add; unlike means, which do not.

        >>> import torch
        >>> (Total(torch.tensor(1.0), torch.tensor(1.0)) + Total(torch.tensor(3.0), torch.tensor(2.0))).weight
        tensor(3.)
        """
        if not isinstance(other, Total):
            return NotImplemented
        return Total(self.value + other.value, self.weight + other.weight)

    def mean(self) -> Tensor:
        """Return value / weight; where weight is 0 the result is 0 and stays connected to the graph.

        >>> import torch
        >>> Total(torch.zeros((), requires_grad=True) * 2, torch.tensor(0.0)).mean().item()
        0.0
        """
        return self.value / self.weight.where(self.weight != 0, 1)
