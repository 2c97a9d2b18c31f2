"""Muon in float32 takes torch's steps, within bfloat16's rounding, and its state is torch's."""

from __future__ import annotations

import pytest
import torch

from lossmith.train.muon import WideMuon, orthogonal


@pytest.mark.parametrize("shape", [(48, 16), (16, 48), (24, 24)])
def test_the_steps_are_those_of_torch(shape: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(0)
    start, grads = torch.randn(shape, generator=draw), torch.randn(4, *shape, generator=draw)
    ends, states = [], []
    for kind in (torch.optim.Muon, WideMuon):
        matrix = torch.nn.Parameter(start.clone())
        optimizer = kind([matrix], lr=0.1, weight_decay=0.1, momentum=0.9)
        for grad in grads:
            matrix.grad = grad.clone()
            optimizer.step()
        ends.append(matrix.detach())
        states.append(optimizer.state_dict())
    moved = (ends[0] - start).norm()
    assert (ends[0] - ends[1]).norm() < 0.02 * moved
    buffers = [state["state"][0]["momentum_buffer"] for state in states]
    assert torch.allclose(*buffers)
    WideMuon([torch.nn.Parameter(start)], lr=0.1).load_state_dict(states[0])


def test_a_matrix_without_a_gradient_stays() -> None:
    matrix = torch.nn.Parameter(torch.ones(3, 3))
    WideMuon([matrix], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(matrix.detach(), torch.ones(3, 3))


def test_singular_values_come_near_one() -> None:
    matrix = torch.randn(20, 50, generator=torch.Generator().manual_seed(1))
    found = torch.linalg.svdvals(orthogonal(matrix, (3.4445, -4.775, 2.0315), 5, 1e-7))
    assert float(found.min()) > 0.5
    assert float(found.max()) < 1.5
