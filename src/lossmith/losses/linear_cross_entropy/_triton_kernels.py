"""Triton kernels of linear_cross_entropy: statistics of the logits, gradient of the logits, gradient of hidden.

No atomics and no locks: each program writes what no other one writes, so that two runs give the same bits. Logits live
in registers, in float32, and are made twice, which is cheaper than keeping them. Without Triton the file can still be
imported.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# Triton evaluates the annotations of kernels, so that theirs can say nothing but tl.constexpr.

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

try:
    triton: Any = importlib.import_module("triton")
    tl: Any = importlib.import_module("triton.language")
except ImportError:
    triton = tl = None

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # on the CPU: tiles so small that tiny inputs have several
ROWS = 32 if INTERPRETED else 128  # rows of a tile
FILTER = 32 if INTERPRETED else 64  # columns that share a mark: whether hidden's gradient needs them
WIDEST = 64 if INTERPRETED else 256  # columns of the widest tile
SPAN = 2 * WIDEST if INTERPRETED else 8 * WIDEST  # columns that one program of the statistics walks over
GROUP = 2 if INTERPRETED else 16  # blocks of rows that walk over the columns together and share them in the cache
# Columns, step through D, warps, stages, registers a thread. On Hopper a multiprocessor holds one program of the first
# two, and two of the next two: one multiplies while the other one takes exponentials.
HALF = (256, 64, 8, 3, None), (256, 64, 8, 4, None), (128, 64, 8, 3, 128), (128, 64, 4, 3, None), (128, 64, 8, 4, None)
SINGLE = (128, 16, 8, 3, None), (64, 32, 4, 2, None)  # float32

WIDENS = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 9)  # addmm adds to float32 what is half precision
Kernel = Callable[..., Any]


def jit(kernel: Kernel) -> Any:
    """Return the kernel compiled by Triton where Triton is there."""
    return kernel if triton is None else triton.jit(kernel)


def tuned(kernel: Any) -> Any:
    """Return the kernel with tile sizes chosen by timing the first launch for each D and dtype."""
    if triton is None:
        return kernel
    return triton.autotune(_configs(), key=["D"], prune_configs_by={"early_config_prune": _that_fit})(kernel)


def _configs() -> list[Any]:
    if INTERPRETED:
        return [triton.Config({"BLOCK_V": WIDEST, "BLOCK_D": 32})]
    return [
        triton.Config({"BLOCK_V": v, "BLOCK_D": d}, num_warps=warps, num_stages=stages, maxnreg=registers)
        for v, d, warps, stages, registers in (*HALF, *SINGLE)
    ]


def _that_fit(configs: list[Any], arguments: dict[str, Any], **options: Any) -> list[Any]:
    if INTERPRETED:
        return configs
    return configs[len(HALF) :] if arguments["x"].element_size() == 4 else configs[: len(HALF)]


@jit
def _place(row_blocks, column_blocks, GROUP: tl.constexpr):
    # GROUP row blocks visit a column block one after the other, before the next column block comes into the cache.
    program = tl.program_id(0)
    first = program // (GROUP * column_blocks) * GROUP
    size = min(row_blocks - first, GROUP)
    inside = program % (GROUP * column_blocks)
    return first + inside % size, inside // size


@jit
def _products(
    x, w, rows, columns, N, V, x_stride, w_stride,
    D: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # Rows from N on and columns from V on repeat others: nothing is read out of bounds, and no mask slows the loop.
    k = tl.arange(0, BLOCK_D)
    x_at = x + (rows % N).to(tl.int64)[:, None] * x_stride + k[None, :]
    w_at = w + (columns % V).to(tl.int64)[None, :] * w_stride + k[:, None]
    z = tl.zeros((ROWS, BLOCK_V), tl.float32)
    for start in range(0, D, BLOCK_D):
        if D % BLOCK_D == 0:
            a, b = tl.load(x_at), tl.load(w_at)
        else:
            a = tl.load(x_at, mask=k[None, :] < D - start, other=0.0)
            b = tl.load(w_at, mask=k[:, None] < D - start, other=0.0)
        if PRECISION == "ieee":
            a, b = a.to(tl.float32), b.to(tl.float32)
        z = tl.dot(a, b, z, input_precision=PRECISION)
        x_at += BLOCK_D
        w_at += BLOCK_D
    return z


@jit
def _exp(x):
    return tl.exp2(x * 1.4426950408889634)  # exp2 flushes to zero, and is spared what tl.exp does about subnormals


@jit
def _tanh(x, PRECISION: tl.constexpr):
    if PRECISION == "ieee":  # Taylor where 1 − exp(−2x) would cancel: relative error below 1e-6 everywhere
        square = x * x
        near = x * (1 + square * (-1 / 3 + square * (2 / 15 + square * (-17 / 315 + square * (62 / 2835)))))
        small = _exp(-2 * tl.abs(x))
        far = (1 - small) / (1 + small)
        return tl.where(square < 0.09, near, tl.where(x < 0, -far, far))
    return 1 - 2 / (1 + _exp(2 * x))  # absolute error 1e-7, far below what rounding to half precision left of x


@jit
def _logits(z, bias, columns, V, scale, softcap, PRECISION: tl.constexpr, CAPPED: tl.constexpr):
    # Columns from V on become −inf, in the same instruction as scale or softcap.
    beyond = tl.where(columns < V, 0.0, float("-inf"))
    if bias is not None:
        z += tl.load(bias + columns, mask=columns < V, other=0.0).to(tl.float32)[None, :]
    if CAPPED:
        return _tanh(z * (scale / softcap), PRECISION) * softcap + beyond[None, :]
    return z * scale + beyond[None, :]


@tuned
@jit
def statistics_kernel(
    x, w, bias, targets, spread, peaks, sums, spreads, picked,
    N, V, x_stride, w_stride, scale, softcap,
    D: tl.constexpr, CAPPED: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, SPAN: tl.constexpr, GROUP: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Write for ROWS rows and SPAN columns: largest logit, Σ exp(z − largest), Σ spread·z, and the target's logit."""
    row_block, part = _place(tl.cdiv(N, ROWS), tl.cdiv(V, SPAN), GROUP)
    rows = row_block * ROWS + tl.arange(0, ROWS)
    target = tl.load(targets + rows, mask=rows < N, other=-1).to(tl.int32)
    peak = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    weighed = tl.zeros((ROWS,), tl.float32)
    for start in range(part * SPAN, min(part * SPAN + SPAN, V), BLOCK_V):
        columns = start + tl.arange(0, BLOCK_V)
        z = _products(x, w, rows, columns, N, V, x_stride, w_stride, D, PRECISION, ROWS, BLOCK_V, BLOCK_D)
        z = _logits(z, bias, columns, V, scale, softcap, PRECISION, CAPPED)
        here = (target >= start) & (target < tl.minimum(start + BLOCK_V, V))
        if tl.max(here.to(tl.int32), 0) > 0:  # few tiles hold a target of these rows
            found = tl.sum(tl.where(columns[None, :] == target[:, None], z, 0.0), 1)
            tl.store(picked + rows, found, mask=here)
        if spread is not None:
            share = tl.load(spread + columns, mask=columns < V, other=0.0)
            weighed += tl.sum(tl.where(columns[None, :] < V, z * share[None, :], 0.0), 1)
        highest = tl.maximum(peak, tl.max(z, 1))
        base = tl.where(highest == float("-inf"), 0.0, highest)  # −inf − −inf would be NaN
        total = total * _exp(peak - base) + tl.sum(_exp(z - base[:, None]), 1)
        peak = highest
    at = part.to(tl.int64) * N + rows
    tl.store(peaks + at, peak, mask=rows < N)
    tl.store(sums + at, total, mask=rows < N)
    if spread is not None:
        tl.store(spreads + at, weighed, mask=rows < N)


@tuned
@jit
def gradient_kernel(
    x, w, bias, targets, peak, log_sum, mass, hit, even, spread,
    out, column_sums, marks, first, last, N, V,
    x_stride, w_stride, out_stride, scale, softcap, threshold,
    D: tl.constexpr, CAPPED: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, FILTER: tl.constexpr, GROUP: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Write ``mass·p − hit·onehot − even·spread`` as the gradient of hidden·headᵀ + bias, columns first to last."""
    row_block, column_block = _place(tl.cdiv(N, ROWS), tl.cdiv(last - first, BLOCK_V), GROUP)
    rows = row_block * ROWS + tl.arange(0, ROWS)
    local = column_block * BLOCK_V + tl.arange(0, BLOCK_V)
    columns = first + local
    z = _products(x, w, rows, columns, N, V, x_stride, w_stride, D, PRECISION, ROWS, BLOCK_V, BLOCK_D)
    z = _logits(z, bias, columns, V, scale, softcap, PRECISION, CAPPED)
    z_peak = tl.load(peak + rows, mask=rows < N, other=0.0)
    z_sum = tl.load(log_sum + rows, mask=rows < N, other=float("inf"))  # rows from N on have p = 0
    grad = tl.load(mass + rows, mask=rows < N, other=0.0)[:, None] * _exp(z - z_peak[:, None] - z_sum[:, None])
    if spread is not None:
        share = tl.load(spread + columns, mask=columns < last, other=0.0)
        grad -= tl.load(even + rows, mask=rows < N, other=0.0)[:, None] * share[None, :]
    target = tl.load(targets + rows, mask=rows < N, other=-1).to(tl.int32)
    target_mass = tl.load(hit + rows, mask=rows < N, other=0.0)
    grad = tl.where(columns[None, :] == target[:, None], grad - target_mass[:, None], grad)
    if CAPPED:
        grad *= 1 - (z / softcap) * (z / softcap)
    grad *= scale
    inside = (rows < N)[:, None] & (columns < last)[None, :]
    at = rows.to(tl.int64)[:, None] * out_stride + local[None, :]
    tl.store(out + at, grad.to(out.dtype.element_ty), mask=inside)
    if column_sums is not None:
        tl.store(column_sums + row_block * (last - first) + local, tl.sum(grad, 0), mask=columns < last)
    if marks is not None:  # NaN counts as large
        large = tl.max((inside & ~(tl.abs(grad) < threshold)).to(tl.int32), 0)
        parts = column_block * (BLOCK_V // FILTER) + tl.arange(0, BLOCK_V // FILTER)
        width = tl.cdiv(last - first, FILTER)
        large = tl.max(tl.reshape(large, (BLOCK_V // FILTER, FILTER)), 1)
        tl.store(marks + row_block * width + parts, large, mask=parts < width)


@jit
def hidden_kernel(
    grad, w, out, order, counts, N, width, grad_stride, w_stride, out_stride,
    D: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, FILTER: tl.constexpr, STEP: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Add grad·w to the float32 `out`, over those FILTER columns that `order` lists for these rows (None: over all)."""
    row_block, d_block = tl.program_id(0), tl.program_id(1)
    rows = row_block * ROWS + tl.arange(0, ROWS)
    d = d_block * BLOCK_D + tl.arange(0, BLOCK_D)
    out_at = out + rows.to(tl.int64)[:, None] * out_stride + d[None, :]
    inside = (rows < N)[:, None] & (d < D)[None, :]
    total = tl.load(out_at, mask=inside, other=0.0)
    parts = tl.cdiv(width, FILTER)
    count = parts
    if order is not None:
        count = tl.load(counts + row_block)
    for i in range(count * (FILTER // STEP)):
        part = i // (FILTER // STEP)
        if order is not None:
            part = tl.load(order + row_block * parts + part).to(tl.int32)
        columns = part * FILTER + i % (FILTER // STEP) * STEP + tl.arange(0, STEP)
        in_width = columns < width
        a_at = grad + rows.to(tl.int64)[:, None] * grad_stride + columns[None, :]
        b_at = w + columns.to(tl.int64)[:, None] * w_stride + d[None, :]
        a = tl.load(a_at, mask=(rows < N)[:, None] & in_width[None, :], other=0.0)
        b = tl.load(b_at, mask=in_width[:, None] & (d < D)[None, :], other=0.0)
        if PRECISION == "ieee":
            a, b = a.to(tl.float32), b.to(tl.float32)
        total = tl.dot(a, b, total, input_precision=PRECISION)
    tl.store(out_at, total, mask=inside)


def precision(x: Tensor) -> str:
    """Return how kernels multiply what x holds."""
    # "ieee" multiplies in float32; the interpreter can multiply no bfloat16. "tf32" means nothing to half precision.
    return "ieee" if x.dtype == torch.float32 or INTERPRETED else "tf32"


def _widens(x: Tensor) -> bool:
    """Tell whether torch multiplies half precision into float32 here."""
    return WIDENS and x.is_cuda and torch.version.hip is None


def product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """Write a·b, accumulated in float32."""
    if a.dtype == out.dtype:
        torch.mm(a, b, out=out)
    elif _widens(a):
        torch.mm(a, b, out_dtype=out.dtype, out=out)
    else:
        torch.mm(a.to(out.dtype), b.to(out.dtype), out=out)


def add_product(grad: Tensor, head: Tensor, out: Tensor, marks: Tensor | None) -> None:
    """Add grad·head to the float32 `out`; marks tell which tiles of grad take part."""
    if marks is None and grad.dtype == out.dtype:
        out.addmm_(grad, head)
        return
    if marks is None and _widens(grad):
        torch.addmm(out, grad, head, out_dtype=out.dtype, out=out)
        return
    order = counts = None
    if marks is not None:  # what is kept comes first, in its order
        order = torch.argsort(marks, dim=1, descending=True, stable=True)
        counts = marks.sum(1, dtype=torch.int32)
    block, step, warps = (128, 64, 8) if grad.element_size() == 2 else (64, 16, 4)
    if INTERPRETED:
        block, step = 32, 16
    hidden_kernel[(-(-len(grad) // ROWS), -(-head.shape[1] // block))](
        grad, head, out, order, counts, len(grad), grad.shape[1], grad.stride(0), head.stride(0), out.stride(0),
        D=head.shape[1], PRECISION=precision(grad), ROWS=ROWS, FILTER=FILTER, STEP=step, BLOCK_D=block,
        num_warps=warps, num_stages=3, enable_fp_fusion=True,
    )  # fmt: skip
