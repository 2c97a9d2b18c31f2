"""Muon for CPUs without fast bfloat16, where torch's takes most of a step: the same steps in float32."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class WideMuon(torch.optim.Muon):
    """torch.optim.Muon (with its defaults: Nesterov, rates by shape) that never leaves float32; the same state.

    Formula: ``B ← μB + (1 − μ)g``, ``θ ← (1 − ηλ)θ − η·√max(1, rows/columns)·NS((1 − μ)g + μB)``.
    torch's multiplies in bfloat16, which an x86 CPU without AVX-512 bf16 emulates: a step of nano's matrices takes 24
    times as long (benchmarks/muon.py, two cores of an EPYC without AVX-512).
    Source: https://kellerjordan.github.io/posts/muon
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # nothing here gives a closure
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._update(matrix, matrix.grad, group)

    def _update(self, matrix: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state, rate, momentum = self.state[matrix], float(group["lr"]), group["momentum"]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(grad, memory_format=torch.preserve_format)
        held = state["momentum_buffer"].lerp_(grad, 1 - momentum)
        turned = orthogonal(grad.lerp(held, momentum), group["ns_coefficients"], group["ns_steps"], group["eps"])
        matrix.mul_(1 - rate * group["weight_decay"])
        matrix.add_(turned, alpha=-rate * math.sqrt(max(1.0, matrix.shape[0] / matrix.shape[1])))


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Return a matrix with the singular vectors of this one and singular values near 1, by Newton–Schulz, in float32.

    Formula: X of norm 1, then ``X ← aX + (bG + cG²)X`` with ``G = XXᵀ``, on the shorter side.

    >>> orthogonal(torch.diag(torch.tensor([3.0, 1.0])), (1.5, -0.5, 0.0), 12, 1e-7)
    tensor([[1., 0.],
            [0., 1.]])
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).float()
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)
