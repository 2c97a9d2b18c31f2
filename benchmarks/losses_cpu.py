"""The losses on a CPU: time against the products that nobody can do without and against peers, memory, error.

    python benchmarks/losses_cpu.py [linear|filter|memory|error|masked|contrastive …] [--rounds 5]

One thread, CPU seconds (other processes then cost caches only), all contestants in turns in one process, medians. The
floor of a linear cross-entropy, forward and backward, is three matrix products of its shapes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rows import keep, median
from torch import Tensor
from torch.nn import functional as F

from lossmith.losses import info_nce, linear_cross_entropy
from lossmith.losses.linear_cross_entropy._reference import reference

STATES = Path("/tmp/lossmith-trained-states.pt")  # made by benchmarks/trained_states.py
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def turns(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median CPU seconds of each, after a warm-up, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            start = time.process_time()
            run()
            if turn:
                seconds[name].append(time.process_time() - start)
    return {name: median(each) for name, each in seconds.items()}


def inputs(rows: int, width: int, vocabulary: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(rows, width).to(dtype).requires_grad_()
    head = (torch.randn(vocabulary, width) / width**0.5).to(dtype).requires_grad_()
    return hidden, head, torch.randint(vocabulary, (rows,))


def products(hidden: Tensor, head: Tensor) -> Callable[[], Any]:
    """Three products of the shapes of forward and backward: logits, gradient of hidden, gradient of the head."""
    x, w = hidden.detach(), head.detach()
    gradient = torch.softmax((x @ w.T).float(), 1).to(x.dtype)
    return lambda: (torch.mm(x, w.T), torch.mm(gradient, w), torch.mm(gradient.T, x))


def stepped(loss: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], Any]:
    return lambda: torch.autograd.grad(loss(), leaves)


def linear(rounds: int) -> None:
    """Forward and backward against three products; peers at the smaller vocabulary."""
    for vocabulary, width, dtype in [(v, d, t) for v in (32_000, 128_000) for d in (512, 768) for t in DTYPES]:
        if vocabulary == 128_000 and width == 768:
            continue  # as long as everything else together
        hidden, head, targets = inputs(2048, width, vocabulary, DTYPES[dtype])
        leaves = [hidden, head]
        run = {
            "products": products(hidden, head),
            "lossmith": stepped(lambda: linear_cross_entropy(hidden, head, targets).mean(), leaves),  # noqa: B023
        }
        if vocabulary == 32_000 and width == 512:
            run |= peers(hidden, head, targets)
        seconds = turns(run, rounds)
        ratios = {name: round(s / seconds["products"], 3) for name, s in seconds.items()}
        keep("losses_cpu", {"case": "linear", "rows": 2048, "width": width, "vocabulary": vocabulary, "dtype": dtype,
                            "unit": "CPU seconds / three products", "ratios": ratios,
                            "bar": 1.05 if dtype == "float32" else 1.15,
                            "products_seconds": seconds["products"], "rounds": rounds})  # fmt: skip


def peers(hidden: Tensor, head: Tensor, targets: Tensor) -> dict[str, Callable[[], Any]]:
    leaves = [hidden, head]

    def plain(x: Tensor, w: Tensor, t: Tensor) -> Tensor:
        return F.cross_entropy((x @ w.T).float(), t)

    found = {"plain torch": stepped(lambda: plain(hidden, head, targets), leaves)}
    compiled = torch.compile(plain)
    found["torch.compile"] = stepped(lambda: compiled(hidden, head, targets), leaves)
    if hasattr(F, "linear_cross_entropy"):
        chosen: Any = torch.nn.LinearCrossEntropyOptions
        for name, options in (
            ("F.linear_cross_entropy auto", chosen()),
            ("F.linear_cross_entropy 512", chosen(batch_chunk_size=512)),
        ):
            chunked = partial(F.linear_cross_entropy, hidden, head, targets, options=options)
            found[name] = stepped(chunked, leaves)
    return found


def filtered(rounds: int) -> None:
    """filter_below on a trained model's hidden states (SmolLM2-135M), with the error it makes."""
    if not STATES.exists():
        return print("filter: skipped; run benchmarks/trained_states.py first", file=sys.stderr)
    states = torch.load(STATES)
    for dtype in DTYPES:
        hidden, head = (states[k].to(DTYPES[dtype]).requires_grad_() for k in ("hidden", "head"))
        leaves, targets = [hidden, head], states["targets"]
        run: dict[str, Callable[[], Any]] = {"products": products(hidden, head)}
        exact = torch.autograd.grad(linear_cross_entropy(hidden, head, targets).value, leaves)
        errors = {}
        for epsilon in (0.0, 2.0**-12, 1e-3, 2.0**-8):
            made = partial(_filtered_value, hidden, head, targets, epsilon)
            run[str(epsilon)] = stepped(made, leaves)
            missed = (torch.autograd.grad(made(), hidden)[0] - exact[0]).float().norm() / exact[0].float().norm()
            errors[str(epsilon)] = round(float(missed), 5)
        seconds = turns(run, rounds)
        ratios = {name: round(s / seconds["products"], 3) for name, s in seconds.items()}
        keep("losses_cpu", {"case": "filter", "model": "SmolLM2-135M", "rows": len(targets), "width": hidden.shape[1],
                            "vocabulary": len(head), "dtype": dtype, "unit": "CPU seconds / three products",
                            "ratios": ratios, "relative_error_of_hidden_gradient": errors, "bar": 0.75,
                            "rounds": rounds})  # fmt: skip
    return None


def _filtered_value(hidden: Tensor, head: Tensor, targets: Tensor, epsilon: float) -> Tensor:
    return linear_cross_entropy(hidden, head, targets, filter_below=epsilon).value


def memory(rounds: int) -> None:
    """Peak memory beyond inputs, gradients and a float32 accumulator: in a process of its own."""
    for vocabulary, dtype, rows in [(v, t, n) for v in (32_000, 128_000) for t in DTYPES for n in (2048, 8192)]:
        command = [sys.executable, __file__, "--peak", str(vocabulary), dtype, str(rows)]
        peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        keep("losses_cpu", {"case": "memory", "rows": rows, "width": 512, "vocabulary": vocabulary, "dtype": dtype,
                            "unit": "MB beyond inputs, gradients, float32 accumulator", "megabytes": peak,
                            "bar": 64 if vocabulary == 32_000 else 256})  # fmt: skip


def peak_megabytes(vocabulary: int, dtype: str, rows: int) -> float:
    linear_cross_entropy(*inputs(8, 512, 50, DTYPES[dtype])).mean().backward()  # libraries load their own
    hidden, head, targets = inputs(rows, 512, vocabulary, DTYPES[dtype])
    warm = torch.mm(hidden[:64].detach(), head.detach().T)
    del warm
    owed = hidden.nbytes + head.nbytes + head.numel() * 4 * (dtype != "float32")
    before = _resident()
    _reset_peak()
    linear_cross_entropy(hidden, head, targets).mean().backward()
    return round((_peak() - before - owed) / 1e6, 1)


def _resident() -> int:
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def error(rounds: int) -> None:
    """Error of loss and gradients against float64 on the same bfloat16 inputs, ours and the plain path's."""
    hidden, head, targets = inputs(2048, 512, 32_000, torch.bfloat16)
    exact = _results(lambda x, w: reference(x, w, targets).mean(), hidden.double(), head.double())
    ours = _results(lambda x, w: linear_cross_entropy(x, w, targets).mean(), hidden, head)
    plain = _results(lambda x, w: F.cross_entropy((x @ w.T).float(), targets), hidden, head)

    def apart(found: list[Tensor]) -> list[float]:
        pairs = zip(found, exact, strict=True)
        return [float(f"{float((a.double() - b).norm() / b.norm()):.3g}") for a, b in pairs]

    keep("losses_cpu", {"case": "error", "rows": 2048, "width": 512, "vocabulary": 32_000, "dtype": "bfloat16",
                        "unit": "relative error of loss, hidden's gradient, head's gradient against float64",
                        "lossmith": apart(ours), "plain torch": apart(plain), "bar": "≤ plain; loss 1e-5"})  # fmt: skip


def _results(loss: Callable[[Tensor, Tensor], Tensor], hidden: Tensor, head: Tensor) -> list[Tensor]:
    leaves = [hidden.detach().requires_grad_(), head.detach().requires_grad_()]
    value = loss(*leaves)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def masked(rounds: int) -> None:
    """15 % of the rows count: the loss layer of a masked language model against Hugging Face's."""
    hidden, head, targets = inputs(2048, 512, 32_000, torch.float32)
    labels = torch.where(torch.rand(2048) < 0.15, targets, -100)
    leaves = [hidden, head]
    seconds = turns({
        "lossmith": stepped(lambda: linear_cross_entropy(hidden, head, labels).mean(), leaves),
        "transformers": stepped(lambda: F.cross_entropy((hidden @ head.T).view(-1, 32_000), labels), leaves),
    }, rounds)  # fmt: skip
    keep("losses_cpu", {"case": "masked", "rows": 2048, "width": 512, "vocabulary": 32_000, "masked": 0.15,
                        "unit": "times faster than ForMaskedLM's loss layer",
                        "ratio": round(seconds["transformers"] / seconds["lossmith"], 2), "bar": 5,
                        "seconds": seconds, "rounds": rounds})  # fmt: skip


def contrastive(rounds: int) -> None:
    """info_nce of 16,384 pairs against the plain formula; 65,536 pairs in a process of their own."""
    torch.manual_seed(0)
    queries, keys = (torch.randn(16_384, 256, requires_grad=True) for _ in range(2))
    leaves = [queries, keys]

    def plain() -> Tensor:
        logits, own = F.normalize(queries) @ F.normalize(keys).T / 0.05, torch.arange(len(queries))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

    seconds = turns({
        "lossmith": stepped(lambda: info_nce(queries, keys, symmetric=True).mean(), leaves),
        "plain formula": stepped(plain, leaves),
    }, rounds)  # fmt: skip
    keep("losses_cpu", {"case": "contrastive", "pairs": 16_384, "width": 256, "symmetric": True,
                        "unit": "CPU seconds / the plain formula's",
                        "ratio": round(seconds["lossmith"] / seconds["plain formula"], 3), "bar": 1.0,
                        "seconds": seconds, "rounds": rounds})  # fmt: skip
    for pairs, way in ((16_384, "lossmith"), (16_384, "plain formula"), (65_536, "lossmith")):
        command = [sys.executable, __file__, "--pairs", str(pairs), way]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        keep("losses_cpu", {"case": "contrastive memory", "pairs": pairs, "way": way, "width": 256,
                            "unit": "MB beyond the embeddings; whole process; wall seconds", **found})  # fmt: skip


def pairs_of(count: int, way: str) -> dict[str, float]:
    """Measure one way in a process of its own, after 64 pairs: an operator's first call imports 159 MB of torch."""
    _pairs(64, way)
    return _pairs(count, way)


def _pairs(count: int, way: str) -> dict[str, float]:
    queries, keys = (torch.randn(count, 256, requires_grad=True) for _ in range(2))
    before, start = _resident(), time.perf_counter()
    _reset_peak()
    if way == "lossmith":
        loss = info_nce(queries, keys, symmetric=True).mean()
    else:
        logits, own = F.normalize(queries) @ F.normalize(keys).T / 0.05, torch.arange(count)
        loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    loss.backward()
    return {
        "megabytes": round((_peak() - before) / 1e6, 1),
        "process_megabytes": round(_peak() / 1e6, 1),
        "wall_seconds": round(time.perf_counter() - start, 1),
    }


def contrastive_peers(rounds: int) -> None:
    """info_nce, one way, against other libraries' on the same embeddings, those that are installed."""
    for pairs in (512, 4_096):
        torch.manual_seed(0)
        queries, keys = (torch.randn(pairs, 256, requires_grad=True) for _ in range(2))
        ways = {"lossmith": lambda q=queries, k=keys: info_nce(q, k).mean()} | _contrastive_peers(queries, keys)
        if pairs > 512:  # of its N³ booleans 4,096 pairs would take 69 GB
            ways.pop("pytorch-metric-learning NTXentLoss", None)
        value = {name: float(loss()) for name, loss in ways.items()}
        seconds = turns({name: stepped(loss, [queries, keys]) for name, loss in ways.items()}, rounds)
        ratios = {name: round(seconds["lossmith"] / found, 3) for name, found in seconds.items()}
        keep("losses_cpu", {"case": "contrastive peers", "pairs": pairs, "width": 256, "symmetric": False,
                            "unit": "CPU seconds; ratios: lossmith / theirs", "ratios": ratios, "seconds": seconds,
                            "loss_nats": value, "rounds": rounds})  # fmt: skip


def _contrastive_peers(queries: Tensor, keys: Tensor) -> dict[str, Callable[[], Tensor]]:
    found: dict[str, Callable[[], Tensor]] = {}
    try:
        from sentence_transformers.losses import CachedMultipleNegativesRankingLoss as Cached
    except ImportError:
        pass
    else:
        for size in (32, 512):
            cached = Cached(torch.nn.Sequential(torch.nn.Identity()), scale=20.0, mini_batch_size=size)

            def cached_loss(cached: Any = cached) -> Tensor:
                # with_backward makes the gradients of its leaves itself, a mini-batch at a time: that is what it is for
                reps = [[x.detach().requires_grad_()] for x in (queries, keys)]
                loss: Tensor = cached.calculate_loss(reps, with_backward=True)
                for leaf, (rep,) in zip((queries, keys), reps, strict=True):
                    leaf.grad = rep.grad
                return loss.detach() + 0 * (queries[0, 0] + keys[0, 0])  # what `stepped` asks for is made already

            found[f"sentence-transformers cached, mini-batch {size}"] = cached_loss
    try:
        from pytorch_metric_learning.losses import NTXentLoss
    except ImportError:
        pass
    else:
        ntxent, own = NTXentLoss(temperature=0.05), torch.arange(len(queries))
        found["pytorch-metric-learning NTXentLoss"] = lambda: ntxent(queries, own, ref_emb=keys, ref_labels=own.clone())
    return found


CASES = {"linear": linear, "filter": filtered, "memory": memory, "error": error, "masked": masked,
         "contrastive": contrastive, "contrastive_peers": contrastive_peers}  # fmt: skip


def main() -> None:
    """Run the cases asked for (all of them by default)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", nargs=3)
    parser.add_argument("--pairs", nargs=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.peak:
        vocabulary, dtype, rows = given.peak
        return print(peak_megabytes(int(vocabulary), dtype, int(rows)))
    if given.pairs:
        return print(json.dumps(pairs_of(int(given.pairs[0]), given.pairs[1])))
    for case in given.cases:
        CASES[case](given.rounds)
    return None


if __name__ == "__main__":
    main()
