"""The core under every loss of a linear map: logits of a few rows at a time, and the products of what replaces them.

A loss that streams says what it does with the logits of some rows (`visit`); this file makes them and multiplies back.
Two sizes matter. A *block* of rows is as large as the memory budget allows, since each block reads the head twice and
the gradient of the head once: its matrix products decide the time. A *piece* of a block fits the cache, and there all
that is done row by row happens: wide statistics, softmax, the gradient of the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import embedding  # a gather of rows in one pass, which indexing is not

from lossmith.losses.linear_cross_entropy._checks import check_memory
from lossmith.precision import fast_on_cpu

BLOCK_BYTES = 52_000_000  # of wide logits: 384 rows of 32,000 entries
BLOCK_ROWS = 384  # of longer rows, up to LONG_BYTES: MKL multiplies 256, 320 and 448 rows 3 to 5 % slower
LONG_BYTES = 200_000_000
LEAST_ROWS = 256  # however long a row: fewer, and adding to the head's gradient costs more than its product
PIECE_BYTES = 2**20  # wide logits of one piece: stays in the second-level cache
TILE_BYTES = 8 * 2**20  # of the head's gradient, made and added to the accumulator at once
WIDENED_BYTES = 2 * 2**20  # of a head that is widened tile by tile: whole, it would need more than all the rest
FILTER_ROWS = 128  # that share a choice of columns: fewer rows agree on fewer columns, but gather them more often
FILTERED_SHARE = 0.6  # of the columns: with more of them left, gathering costs what leaving out saves

Visit = Callable[[Tensor, slice], None]


def block_rows(width: int, itemsize: int, max_memory: int | None) -> int:
    """Return how many rows of `width` logits may be alive at once; max_memory is in bytes, as they are stored.

    >>> block_rows(32_000, 4, None), block_rows(32_000, 2, None), block_rows(32_000, 2, 10_000_000)
    (384, 384, 128)
    >>> block_rows(128_000, 4, None), block_rows(256_000, 4, None)
    (384, 256)
    """
    check_memory(max_memory)
    if max_memory is None:
        long = min(BLOCK_ROWS, LONG_BYTES // (width * 4))
        rows = max(LEAST_ROWS, long, BLOCK_BYTES // (width * 4))
    else:
        rows = max(1, max_memory // (width * itemsize))
    return rows - rows % 32 if rows > 32 else rows  # a ragged edge costs bfloat16 products 15 % (measured: 305 rows)


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which this device multiplies fast: half precision that slows a CPU down is widened."""
    if x.device.type != "cpu" or x.dtype not in (torch.bfloat16, torch.float16):
        return x.dtype
    return x.dtype if fast_on_cpu(x.dtype) else torch.float32


@dataclass
class Stream:
    """Walk over ``z = cap(scale·(hidden·headᵀ + bias))``, some rows at a time, in float32 or wider.

    hidden [N, D], head [V, D], bias [V]: hidden is multiplied in the head's dtype, and its gradient lies in its own.
    rows: which rows of hidden (int64[n]; None: all); exact: for each of these rows a column whose logit is made in wide
    precision even where the products are bfloat16 (the target's: what is subtracted from logsumexp may not carry the
    rounding of a half-precision product).
    want: whose gradient `run` shall make; they lie in grad_hidden, grad_head, grad_bias afterwards.
    filter_below: columns whose share of the gradient stays below it in a whole block take no part in grad_hidden.
    """

    hidden: Tensor
    head: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    rows: Tensor | None = None
    exact: Tensor | None = None
    want: tuple[bool, bool, bool] = (False, False, False)
    filter_below: float = 0.0
    max_memory: int | None = None
    grad_hidden: Tensor | None = field(init=False, default=None)
    grad_head: Tensor | None = field(init=False, default=None)
    grad_bias: Tensor | None = field(init=False, default=None)
    _buffer: Tensor | None = field(init=False, default=None)
    _wide: Tensor | None = field(init=False, default=None)
    _largest: Tensor | None = field(init=False, default=None)
    _tile: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.narrow = narrow = product_dtype(self.head)
        self.wide = torch.promote_types(narrow, torch.float32)
        self.bias = None if self.bias is None else self.bias.to(self.wide)
        like, (width, depth) = self.head.new_empty, self.head.shape
        if self.head.dtype != narrow:
            self._tile = like(min(width, max(1, WIDENED_BYTES // (depth * narrow.itemsize))), depth, dtype=narrow)
        if self.want[0]:
            made = torch.empty_like if self.rows is None else torch.zeros_like
            self.grad_hidden = made(self.hidden)
        self.count = len(self.hidden if self.rows is None else self.rows)
        if self.want[1]:  # the first block writes it, where there is one
            fresh = like if self.count else self.head.new_zeros
            self.grad_head = fresh(self.head.shape, dtype=self.wide)
        if self.want[2]:
            self.grad_bias = like(width, dtype=self.wide).zero_()
        self.block = min(self.count, block_rows(width, narrow.itemsize, self.max_memory))
        self.piece = max(1, min(self.block, PIECE_BYTES // (width * self.wide.itemsize)))
        if self.filter_below > 0 and self.want[0]:
            self.piece = 1 << (min(self.piece, FILTER_ROWS).bit_length() - 1)  # whole pieces in FILTER_ROWS rows
            self._largest = like(-(-self.block // FILTER_ROWS), width, dtype=self.wide)

    def run(self, visit: Visit, before: Callable[[slice], None] | None = None) -> None:
        """Call `visit(z, span)` with the wide logits [r, V] of some counted rows, and `before(span)` on each block.

        Where a gradient is wanted, visit leaves in z the gradient of its value with respect to z; else it may do with z
        as it likes.
        """
        for span in spans(0, self.count, self.block):
            if before is not None:
                before(span)
            x, z = self.product(span)
            for rows in spans(0, len(x), self.piece):
                where = slice(span.start + rows.start, span.start + rows.stop)
                logits, slope = self.widen(z[rows], x[rows], where)
                visit(logits, where)
                if any(self.want):
                    self._gradient(z[rows], logits, slope)
                if self._largest is not None:
                    self._remember(self._largest[rows.start // FILTER_ROWS], logits, rows)
            if any(self.want):
                self._multiply_back(span, x, z)

    def product(self, span: slice) -> tuple[Tensor, Tensor]:
        """Return the counted rows [r, D] of a block and their product with the head [r, V], in this walk's buffer."""
        if self._buffer is None:
            self._buffer = self.head.new_empty(self.block, len(self.head), dtype=self.narrow)
        x = self.hidden[span] if self.rows is None else self.hidden[self.rows[span]]
        x = x.to(self.head.dtype).to(self.narrow)
        z = self._buffer[: len(x)]
        for columns, head in self._heads():
            torch.mm(x, head.T, out=z[:, columns])
        return x, z

    def _heads(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield the head in the dtype of the products with its columns: whole, or widened tile by tile."""
        if self._tile is None:
            yield slice(0, len(self.head)), self.head
            return
        for columns in spans(0, len(self.head), len(self._tile)):
            yield columns, self._tile[: columns.stop - columns.start].copy_(self.head[columns])

    def widen(self, z: Tensor, x: Tensor, where: slice) -> tuple[Tensor, Tensor | None]:
        """Return the wide logits of some rows of a product (z itself where that is wide) and the cap's derivative."""
        logits = z
        if z.dtype != self.wide:
            if self._wide is None:
                self._wide = z.new_empty(self.piece, len(self.head), dtype=self.wide)
            logits = self._wide[: len(z)].copy_(z)
            if self.exact is not None:
                column = self.exact[where, None]
                made = embedding(column[:, 0], self.head).to(self.wide).mul_(x).sum(1, keepdim=True)
                logits.scatter_(1, column, made)
        return logits, self._shape(logits)

    def _gradient(self, z: Tensor, logits: Tensor, slope: Tensor | None) -> None:
        """Carry the gradient of the logits through cap, scale and bias, and leave it where the product was."""
        if slope is not None:
            logits.mul_(slope)
        if self.scale != 1.0:
            logits.mul_(self.scale)
        if self.grad_bias is not None:
            self.grad_bias += logits.sum(0)
        if logits.dtype != z.dtype:
            z.copy_(logits)

    def _shape(self, logits: Tensor) -> Tensor | None:
        """Apply bias, scale and cap in place; return the cap's derivative."""
        if self.bias is not None:
            logits.add_(self.bias)
        if self.scale != 1.0:
            logits.mul_(self.scale)
        if self.softcap is None:
            return None
        logits.div_(self.softcap).tanh_()
        slope = 1 - logits * logits
        logits.mul_(self.softcap)
        return slope

    def _multiply_back(self, span: slice, x: Tensor, gradient: Tensor) -> None:
        if self.grad_hidden is not None:
            target = span if self.rows is None else self.rows[span]
            self.grad_hidden[target] = self._times_head(gradient).to(self.grad_hidden.dtype)
        if self.grad_head is None:
            return
        kept = int(span.start > 0)  # the first block writes over what memory held, NaN too (beta 0)
        if gradient.dtype == self.wide:
            self.grad_head.addmm_(gradient.T, x, beta=kept)
            return
        # Each product is rounded once, and added in wide precision while it is still in the cache.
        for tile in spans(0, len(self.head), max(1, TILE_BYTES // (self.head.shape[1] * self.wide.itemsize))):
            made = torch.mm(gradient[:, tile].T, x)
            if kept:
                self.grad_head[tile] += made
            else:
                self.grad_head[tile] = made

    def _remember(self, largest: Tensor, gradient: Tensor, rows: slice) -> None:
        """Note the largest share of each column while the piece is in the cache (from a block in bf16: 10 ×)."""
        most = torch.maximum(gradient.amax(0), gradient.amin(0).neg_())
        if rows.start % FILTER_ROWS:
            torch.maximum(largest, most, out=largest)
        else:
            largest.copy_(most)

    def _times_head(self, gradient: Tensor) -> Tensor:
        out = gradient.new_empty(len(gradient), self.head.shape[1])
        groups = [slice(0, len(gradient))]
        if self._largest is not None:
            shared = zip(self._largest, spans(0, len(gradient), FILTER_ROWS), strict=False)
            groups = [rows for largest, rows in shared if not self._filtered(gradient[rows], largest, out[rows])]
        for columns, head in self._heads() if groups else ():
            for rows in groups:
                if columns.start:
                    out[rows].addmm_(gradient[rows, columns], head)
                else:
                    torch.mm(gradient[rows, columns], head, out=out[rows])
        return out

    def _filtered(self, gradient: Tensor, largest: Tensor, out: Tensor) -> bool:
        """Multiply by the columns that count, where these are few enough; tell whether they were."""
        columns = (largest >= self.filter_below).nonzero()[:, 0]
        if len(columns) > FILTERED_SHARE * len(self.head):
            return False
        torch.mm(gradient.index_select(1, columns), self.head.index_select(0, columns).to(self.narrow), out=out)
        return True


def spans(start: int, stop: int, step: int) -> Iterator[slice]:
    """Cut [start, stop) into slices of `step`, the last one shorter.

    >>> list(spans(0, 5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for first in range(start, stop, max(1, step)):
        yield slice(first, min(first + step, stop))
