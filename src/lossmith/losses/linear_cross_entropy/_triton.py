"""Linear cross-entropy on CUDA: fused statistics, then the gradient of a stretch of the vocabulary at a time.

Four matrix products in all: the logits twice (kernels of ours, never stored), and the gradient of the logits times head
and hidden. A stretch of the vocabulary covers all rows, so that the head's gradient is one product over all of them,
accumulated in float32 and rounded once, with no accumulator in memory; hidden's gradient has one, in float32.

The same kernels serve every loss whose gradient with respect to the logits is ``mass·p − hit·onehot − even·spread``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses.linear_cross_entropy._chunked import Options

BLOCK_BYTES = 128 * 2**20  # of the gradient of the logits: what is alive at once
MIN_COLUMNS = 2048  # of a stretch: with fewer, adding to hidden's gradient takes longer than the product that is added
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


@dataclass(frozen=True, slots=True)
class RowStatistics:
    """What a walk over the logits z leaves of each row, in float32.

    peak: the largest z; log_sum: log Σ exp(z − peak), apart because their sum would round; picked: the target's z (0
    where the target is no class); spread: Σⱼ spreadⱼ·zⱼ, where asked for.
    """

    peak: Tensor
    log_sum: Tensor
    picked: Tensor
    spread: Tensor | None

    @property
    def lse(self) -> Tensor:
        """Return logsumexp of each row's logits."""
        return self.peak + self.log_sum

    @property
    def surprisal(self) -> Tensor:
        """Return −log p of each row's target: lse − z, without rounding lse first."""
        return self.log_sum + (self.peak - self.picked)


@dataclass(frozen=True, slots=True)
class Pull:
    """Gradient with respect to the logits of a row: ``mass·pⱼ − hit·[j = target] − even·spreadⱼ``.

    mass, hit, even [N]; spread [V]; all float32. A log-probability with upstream g is mass = hit = −g.
    """

    mass: Tensor
    hit: Tensor
    even: Tensor | None = None
    spread: Tensor | None = None


def available(device: torch.device | None = None) -> str | None:
    """Return None where the kernels can run (on `device`, or at all), else the reason why not."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if not torch.cuda.is_available() or (device is not None and device.type != "cuda"):
        return "no CUDA device (on a CPU the kernels run only under TRITON_INTERPRET=1, slowly)"
    major, minor = torch.cuda.get_device_capability(device)
    return None if major >= 8 else f"the kernels need compute capability 8.0 or newer; this device has {major}.{minor}"


@torch.no_grad()
def triton_sum(
    hidden: Tensor,
    head: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    weights: Tensor | None,
    class_weights: Tensor | None,
    options: Options,
    want: tuple[bool, bool, bool],
    max_memory: int | None = None,
    grad_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Return Σ loss (float32) and its gradients with respect to hidden, head (both grad_dtype) and bias (float32).

    Formula: that of `linear_cross_entropy`; rows that weigh nothing are left out beforehand.
    Shapes: hidden [N, D], head [V, D] of one dtype, bias [V], targets [N] of integers, weights [N], class_weights [V].
    grad_dtype: the dtype of hidden by default; float32 saves products of half precision their last rounding.
    max_memory: bytes of the gradient of the logits that are alive at once (default 128 MiB, or 2,048 columns).
    """
    _check(hidden, head)
    hidden, head = _packed(hidden), _packed(head)
    s, zeta, vocabulary = options.label_smoothing, options.z_loss, len(head)
    w = torch.ones(len(targets), dtype=torch.float32, device=targets.device) if weights is None else weights.float()
    c = None if class_weights is None else class_weights.float()
    own = 1.0 if c is None else c[targets.clamp(0, vocabulary - 1)]  # never out of bounds, whatever the target is
    spread = None
    if s:
        spread = (torch.ones(vocabulary, dtype=torch.float32, device=head.device) if c is None else c) * (
            s / vocabulary
        )
    rows = triton_rows(hidden, head, bias, targets, options, spread)
    lse = rows.lse
    losses = (1 - s) * own * rows.surprisal + zeta * own * lse * lse
    mass = (1 - s) * own + 2 * zeta * own * lse
    if spread is not None and rows.spread is not None:
        share = spread.sum()
        losses, mass = losses + share * lse - rows.spread, mass + share
    value = (w * losses).sum()
    if not any(want):
        return value, None, None, None
    pull = Pull(w * mass, w * (1 - s) * own, w, spread)
    return value, *triton_gradients(hidden, head, bias, targets, rows, pull, options, want, max_memory, grad_dtype)


@torch.no_grad()
def triton_rows(
    hidden: Tensor, head: Tensor, bias: Tensor | None, targets: Tensor, options: Options, spread: Tensor | None = None
) -> RowStatistics:
    """Return the statistics of each row's logits ``z = cap(scale·(hidden·headᵀ + bias))``; spread [V] is optional."""
    _check(hidden, head)
    count, vocabulary, kernels = len(hidden), len(head), _kernels()
    parts = _cdiv(vocabulary, kernels.SPAN)
    peaks = torch.empty(parts, count, dtype=torch.float32, device=hidden.device)
    sums, spreads = torch.empty_like(peaks), None if spread is None else torch.empty_like(peaks)
    picked = torch.zeros(count, dtype=torch.float32, device=hidden.device)
    x, w, bias, targets = _packed(hidden), _packed(head), _flat(bias), targets.contiguous()
    if count:
        with _on(hidden):
            kernels.statistics_kernel[(_cdiv(count, kernels.ROWS) * parts,)](
                x, w, bias, targets, spread, peaks, sums, spreads, picked,
                count, vocabulary, x.stride(0), w.stride(0), float(options.logit_scale), options.softcap or 1.0,
                D=x.shape[1], CAPPED=options.softcap is not None, PRECISION=kernels.precision(x),
                ROWS=kernels.ROWS, SPAN=kernels.SPAN, GROUP=kernels.GROUP, enable_fp_fusion=True,
            )  # fmt: skip
    peak = peaks.amax(0)
    log_sum = (sums * torch.exp(peaks - peak)).sum(0).log()
    return RowStatistics(peak, log_sum, picked, None if spreads is None else spreads.sum(0))


@torch.no_grad()
def triton_gradients(
    hidden: Tensor,
    head: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    rows: RowStatistics,
    pull: Pull,
    options: Options,
    want: tuple[bool, bool, bool],
    max_memory: int | None = None,
    grad_dtype: torch.dtype | None = None,
) -> Gradients:
    """Return the gradients with respect to hidden, head and bias, those wanted, given `pull`, that of the logits."""
    dtype = hidden.dtype if grad_dtype is None else grad_dtype
    work = _Backward(_packed(hidden), _packed(head), _flat(bias), targets.contiguous(), rows, pull, options)
    grad_hidden = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device) if want[0] else None
    grad_head = torch.empty(head.shape, dtype=dtype, device=head.device) if want[1] else None
    grad_bias = torch.empty(len(head), dtype=torch.float32, device=head.device) if want[2] else None
    if len(hidden):
        with _on(hidden):
            work.run(grad_hidden, grad_head, grad_bias, max_memory)
    else:
        for grad in (grad_head, grad_bias):
            if grad is not None:
                grad.zero_()
    return None if grad_hidden is None else grad_hidden.to(dtype), grad_head, grad_bias


@dataclass(frozen=True, slots=True)
class _Backward:
    hidden: Tensor
    head: Tensor
    bias: Tensor | None
    targets: Tensor
    rows: RowStatistics
    pull: Pull
    options: Options

    def run(
        self, grad_hidden: Tensor | None, grad_head: Tensor | None, grad_bias: Tensor | None, max_memory: int | None
    ) -> None:
        """Add to grad_hidden, and write the others, a stretch of the vocabulary at a time."""
        kernels, vocabulary = _kernels(), len(self.head)
        step = stretch(len(self.hidden), vocabulary, self.hidden.element_size(), max_memory, kernels.WIDEST)
        # The interpreter rounds to half precision by cutting off; torch rounds to nearest, as a GPU does.
        dtype = torch.float32 if kernels.INTERPRETED else self.hidden.dtype
        block = self.hidden.new_empty(len(self.hidden), step, dtype=dtype)
        for first in range(0, vocabulary, step):
            last = min(first + step, vocabulary)
            grad = block[:, : last - first]
            marks = self._logits_gradient(grad, first, last, grad_bias, grad_hidden is not None)
            grad = grad.to(self.hidden.dtype)
            if grad_head is not None:
                kernels.product(grad.T, self.hidden, grad_head[first:last])
            if grad_hidden is not None:
                kernels.add_product(grad, self.head[first:last], grad_hidden, marks)

    def _logits_gradient(
        self, out: Tensor, first: int, last: int, grad_bias: Tensor | None, marked: bool
    ) -> Tensor | None:
        """Write the gradient of the logits of a stretch; return, where there is a filter, which of its tiles matter."""
        kernels, x, w, options = _kernels(), self.hidden, self.head, self.options
        count, blocks = len(x), _cdiv(len(x), kernels.ROWS)
        sums = None if grad_bias is None else grad_bias.new_empty(blocks, last - first)
        marks = None
        if marked and options.filter_below > 0:
            marks = self.targets.new_empty(blocks, _cdiv(last - first, kernels.FILTER), dtype=torch.int32)
        kernels.gradient_kernel[lambda tile: (blocks * _cdiv(last - first, tile["BLOCK_V"]),)](
            x, w, self.bias, self.targets, self.rows.peak, self.rows.log_sum,
            *map(_flat, (self.pull.mass, self.pull.hit, self.pull.even, self.pull.spread)), out, sums, marks,
            first, last, count, len(w), x.stride(0), w.stride(0), out.stride(0),
            float(options.logit_scale), options.softcap or 1.0, float(options.filter_below),
            D=x.shape[1], CAPPED=options.softcap is not None, PRECISION=kernels.precision(x),
            ROWS=kernels.ROWS, FILTER=kernels.FILTER, GROUP=kernels.GROUP, enable_fp_fusion=True,
        )  # fmt: skip
        if grad_bias is not None and sums is not None:
            torch.sum(sums, 0, out=grad_bias[first:last])
        return marks


def stretch(rows: int, vocabulary: int, itemsize: int, max_memory: int | None, tile: int) -> int:
    """Return how many columns' gradient is alive at once: whole tiles, and stretches as equal as they can be.

    >>> [stretch(rows, 256_000, 2, None, 256) for rows in (8192, 16_384, 10**6)]
    [8192, 4096, 2048]
    >>> stretch(1000, 1000, 2, 10**6, 256)  # 500 columns are what fits, 256 the whole tiles in them
    256
    """
    most = MIN_COLUMNS if max_memory is None else 0
    most = max(most, (BLOCK_BYTES if max_memory is None else max_memory) // (rows * itemsize))
    most = max(tile, most // tile * tile)
    equal = _cdiv(vocabulary, _cdiv(vocabulary, most))
    return _cdiv(equal, tile) * tile


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


def _kernels() -> Any:
    return importlib.import_module("lossmith.losses.linear_cross_entropy._triton_kernels")


def _check(hidden: Tensor, head: Tensor) -> None:
    why = available(hidden.device)
    if why is not None:
        raise InputError(f"impl='triton' cannot run here: {why}. Use impl='auto'")
    if hidden.dtype not in (torch.float32, torch.bfloat16, torch.float16) or head.dtype != hidden.dtype:
        raise InputError(
            "impl='triton' needs hidden and head in one dtype of float32, bfloat16, float16; "
            f"got {hidden.dtype} and {head.dtype}"
        )


def _packed(x: Tensor) -> Tensor:
    return x if x.stride(1) == 1 or x.shape[1] == 1 else x.contiguous()


def _flat(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _on(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()
