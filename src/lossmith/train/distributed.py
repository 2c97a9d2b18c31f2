"""torch.distributed, kept to what the loop needs: who am I, and sums over all ranks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")
BUCKET_BYTES = 64 * 2**20  # of gradients summed in one message: large enough to be bandwidth-bound
PATIENCE = timedelta(hours=24)  # the others wait while the first rank tokenizes a large corpus, or saves


@dataclass(frozen=True, slots=True)
class World:
    """This process among all: rank of `size`, and the device that it computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this rank writes the run folder and talks to the terminal."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over ranks; with one rank the tensor itself."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add the gradients of all ranks in place, in buckets; a parameter without one counts as zero."""
        if self.size > 1:
            for bucket in _buckets(parameters):
                flat = torch.cat([g.reshape(-1) for g in bucket])
                dist.all_reduce(flat)
                for g, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                    g.copy_(summed.view_as(g))

    def wait(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if bucket and (sum(g.nbytes for g in bucket) >= BUCKET_BYTES or bucket[0].dtype != parameter.grad.dtype):
            yield bucket
            bucket = []
        bucket.append(parameter.grad)
    if bucket:
        yield bucket


@contextmanager
def world() -> Iterator[World]:
    """Join the process group that torchrun announces (gloo on CPUs, nccl on GPUs), or stand alone."""
    size = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device(f"cuda:{local}" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    ours = size > 1 and not dist.is_initialized()
    if ours:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    this = World(dist.get_rank() if size > 1 else 0, size, device)
    try:
        yield this
        this.wait()  # a rank that leaves while another still writes the report can take it down with it
    finally:
        if ours:
            dist.destroy_process_group()


def agreed(this: World, work: Callable[[], T]) -> T:
    """Do the work on the first rank and return its result on all; an error of it is raised on all."""
    outcome: list[Any] = [None]
    if this.leads:
        try:
            outcome = [work()]
        except Exception as error:
            outcome = [error]
    if this.size > 1:
        dist.broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    result: T = outcome[0]
    return result
