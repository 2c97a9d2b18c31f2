"""linear_cross_entropy on a GPU: time, memory and error, against its peers and against three plain GEMMs.

    python benchmarks/cuda_linear_cross_entropy.py [--shape N D V] [--rounds 7]

Without CUDA it says so and stops, unless --shape names something small to try it with (nothing is kept then). Peers
that are not installed are left out: liger-kernel, cut-cross-entropy, quack-kernels. All take turns in one process, in
bfloat16, after two rounds of warm-up; times are CUDA events around forward and backward; memory is the peak beyond the
inputs, gradients included. Errors are ‖a − b‖ / ‖b‖ against float64 over all rows.

The inputs look like a trained model's: logits of −log(rank) plus noise of standard deviation 2, and targets drawn from
their softmax. On plain random inputs every probability is 1/V, below any filter: a filter drops all and looks fast.

On a machine that cannot download: `pip install --no-deps --no-build-isolation -e .` first.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from rows import keep, median
from torch import Tensor

from lossmith.losses import linear_cross_entropy

SHAPES = ((8192, 2304, 256_000), (16_384, 2048, 248_320))
BLOCK = 256  # rows of the float64 reference at a time
FILTER = 2**-12  # cut-cross-entropy's own threshold for bfloat16
BAR = "faster than cut-cross-entropy and Liger-Kernel, at most 1.2 × the memory of cut-cross-entropy"
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass
class Result:
    """What was measured of one implementation."""

    errors: dict[str, float] = field(default_factory=dict)
    both: list[float] = field(default_factory=list)
    forward: list[float] = field(default_factory=list)
    peak: int = 0
    failure: str = ""


def plain(x: Tensor, w: Tensor, t: Tensor) -> Tensor:
    """All logits, float32 statistics: what one writes by hand."""
    return torch.nn.functional.cross_entropy(torch.nn.functional.linear(x, w).float(), t)


def contestants() -> dict[str, Loss]:
    """Return every implementation that is installed, by name."""
    found: dict[str, Loss] = {
        "lossmith": lambda x, w, t: linear_cross_entropy(x, w, t).mean(),
        "lossmith filter_below=2^-12": lambda x, w, t: linear_cross_entropy(x, w, t, filter_below=FILTER).mean(),
        "torch": plain,
        "torch.compile": torch.compile(plain),
    }
    for make in (of_torch, of_cce, of_liger, of_quack):
        with contextlib.suppress(ImportError):
            found |= make()
    return found


def of_torch() -> dict[str, Loss]:
    """torch.nn.functional.linear_cross_entropy (2.13 or newer), with each of its policies."""
    fused: Any = getattr(torch.nn.functional, "linear_cross_entropy", None)
    made: Any = getattr(torch.nn, "LinearCrossEntropyOptions", None)
    if fused is None or made is None:
        return {}
    options = {
        "None": None,
        "auto": made(),
        "accurate": made(acc_policy="accurate"),
        "compact": made(acc_policy="compact"),
    }
    return {f"torch F.linear_cross_entropy {name}": _with(fused, options=each) for name, each in options.items()}


def of_cce() -> dict[str, Loss]:
    """cut-cross-entropy: as it comes (filters both gradients, adds up in bfloat16), and as advised for pre-training."""
    fused = importlib.import_module("cut_cross_entropy").linear_cross_entropy
    return {f"cut-cross-entropy {impl}": _with(fused, impl=impl) for impl in ("cce", "cce_kahan_full_c", "cce_exact")}


def of_liger() -> dict[str, Loss]:
    """Liger-Kernel, with its default accumulator and with a float32 one."""
    layer = importlib.import_module("liger_kernel.transformers").LigerFusedLinearCrossEntropyLoss
    default, wide = layer(), layer(accum_dtype=torch.float32)
    return {"liger": lambda x, w, t: default(w, x, t), "liger accum float32": lambda x, w, t: wide(w, x, t)}


def of_quack() -> dict[str, Loss]:
    """quack's chunked form."""
    return {"quack": _with(importlib.import_module("quack.linear_cross_entropy").chunked_linear_cross_entropy)}


def _with(fused: Any, **options: Any) -> Loss:
    return lambda x, w, t: fused(x, w, t, **options)


def inputs(device: str, rows: int, width: int, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden, head (bfloat16, requiring gradients) and targets of a model that has learned word frequencies."""
    torch.manual_seed(0)
    x = torch.randn(rows, width, device=device)
    w = torch.randn(vocabulary, width, device=device) * (2 / width**0.5)
    x[:, 0], w[:, 0] = 4.0, -torch.log(torch.arange(vocabulary, device=device) + 10.0) / 4
    x, w = x.bfloat16(), w.bfloat16()
    drawn = []
    for part in x.split(BLOCK):  # the largest of logits plus Gumbel noise is a draw from their softmax
        noise = -torch.log(torch.empty(len(part), vocabulary, device=device).exponential_())
        drawn.append((torch.mm(part, w.T).float() + noise).argmax(1))
    return x.requires_grad_(), w.requires_grad_(), torch.cat(drawn)


@torch.no_grad()
def exact(x: Tensor, w: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean loss and its gradients, computed in float64 and stored in float32 (the loss in float64)."""
    wide, grad_head = w.double(), torch.zeros(w.shape, dtype=torch.float64, device=w.device)
    loss, grads = wide.new_zeros(()), []
    for rows, own in zip(x.double().split(BLOCK), t.split(BLOCK), strict=True):
        z = rows @ wide.T
        lse = torch.logsumexp(z, 1)
        loss += (lse - z.gather(1, own[:, None])[:, 0]).sum()
        p = z.sub_(lse[:, None]).exp_()
        p.scatter_add_(1, own[:, None], p.new_full((len(own), 1), -1.0))
        grads.append((p @ wide).div_(len(x)).float())
        grad_head.addmm_(p.T, rows)
    return loss / len(x), torch.cat(grads), grad_head.div_(len(x)).float()


def distance(a: Tensor | None, b: Tensor) -> float:
    """Return ‖a − b‖ / ‖b‖ (1 where a is missing)."""
    return 1.0 if a is None else float((a.float() - b).norm() / b.norm())


class Clock:
    """Milliseconds of one call: by CUDA events, or on a CPU by the wall clock."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"

    def __call__(self, call: Callable[[], Any]) -> float:
        """Run and time."""
        if not self.cuda:
            start = time.perf_counter()
            call()
            return 1000 * (time.perf_counter() - start)
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        first.record()
        call()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last))


@dataclass
class Bench:
    """One shape: its inputs, its contestants, and what was measured of each."""

    x: Tensor
    w: Tensor
    t: Tensor
    losses: dict[str, Loss]

    def __post_init__(self) -> None:
        self.results = {name: Result() for name in self.losses}
        self.gemms: list[float] = []
        self.clock = Clock(self.x.device.type)

    def step(self, loss: Loss) -> Tensor:
        """Forward and backward, gradients left in x and w."""
        self.x.grad = self.w.grad = None
        value = loss(self.x, self.w, self.t)
        value.backward()
        return value.detach()

    def forward(self, loss: Loss) -> None:
        """Forward alone."""
        with torch.no_grad():
            loss(self.x, self.w, self.t)

    def products(self) -> None:
        """The three products that any exact implementation must make, by the library that makes them fastest."""
        with torch.no_grad():
            z = torch.mm(self.x, self.w.T)
            torch.mm(z.T, self.x)
            torch.mm(z, self.w)

    def check(self) -> None:
        """Run each once: its error, and whether it runs at all."""
        truth = exact(self.x, self.w, self.t)
        for name, loss in self.losses.items():
            try:
                value = self.step(loss)
            except Exception as error:  # out of memory, an unsupported card: a fact about the peer, not about us
                self.results[name].failure = f"{type(error).__name__}: {str(error)[:200]}"
                continue
            found = {"loss": value, "hidden": self.x.grad, "head": self.w.grad}
            self.results[name].errors = {
                f"{what}_error": float(f"{distance(a, b):.3g}")
                for (what, a), b in zip(found.items(), (truth[0].float(), *truth[1:]), strict=True)
            }
            del value, found

    def measure(self, rounds: int, warm_up: int = 2) -> None:
        """Take turns: each contestant once a round."""
        running = {name: loss for name, loss in self.losses.items() if not self.results[name].failure}
        for turn in range(warm_up + rounds):
            gemms = self.clock(self.products)
            if turn >= warm_up:
                self.gemms.append(gemms)
            for name, loss in running.items():
                self._turn(self.results[name], loss, turn >= warm_up)

    def _turn(self, result: Result, loss: Loss, counts: bool) -> None:
        self.x.grad = self.w.grad = None
        before = 0
        if self.clock.cuda:
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        both = self.clock(lambda: self.step(loss))
        if self.clock.cuda and counts:
            result.peak = max(result.peak, torch.cuda.max_memory_allocated() - before)
        self.x.grad = self.w.grad = None
        forward = self.clock(lambda: self.forward(loss))
        if counts:
            result.both.append(both)
            result.forward.append(forward)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each contestant."""
        ours = median(self.results["lossmith"].both) if self.results["lossmith"].both else None
        return [self._row(name, result, ours) for name, result in self.results.items()]

    def _row(self, name: str, result: Result, ours: float | None) -> dict[str, Any]:
        (rows, width), vocabulary = self.x.shape, len(self.w)
        row = {"implementation": name, "rows": rows, "width": width, "vocabulary": vocabulary, "dtype": "bfloat16"}
        if result.failure:
            return row | {"failure": result.failure}
        milliseconds, gemms = median(result.both), median(self.gemms)
        flops = 6 * rows * width * vocabulary
        return row | {
            "unit": "milliseconds, forward + backward",
            "milliseconds": milliseconds,
            "fastest_and_slowest": [round(min(result.both), 3), round(max(result.both), 3)],
            "forward_milliseconds": median(result.forward),
            "times_of_lossmith": round(milliseconds / ours, 3) if ours else None,
            "peak_mib": round(result.peak / 2**20, 1),
            "gradients_mib": round(2 * (self.x.numel() + self.w.numel()) / 2**20, 1),
            **result.errors,
            "gemms_milliseconds": gemms,
            "gemms_tflops": round(flops / gemms / 1e9, 1),
            "fraction_of_gemm_peak": round(gemms / milliseconds, 3),
            "bar": BAR,
            "rounds": len(result.both),
            "packages": packages(),
        }


def packages() -> dict[str, str]:
    """Return the versions of what is compared, beside those that every row holds."""
    found = {}
    for name in ("triton", "liger-kernel", "cut-cross-entropy", "quack-kernels"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def main() -> None:
    """Measure every shape and keep a row for each implementation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, metavar=("N", "D", "V"))
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and args.shape is None:
        print("cuda_linear_cross_entropy: skipped, this machine has no CUDA device")
        return
    for shape in [args.shape] if args.shape else SHAPES:
        torch._dynamo.reset()
        bench = Bench(*inputs(device, *shape), contestants())
        bench.check()
        bench.measure(args.rounds)
        for row in bench.rows():
            keep("cuda_linear_cross_entropy", row) if device == "cuda" else print(row)
        del bench


if __name__ == "__main__":
    main()
