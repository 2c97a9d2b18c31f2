"""One training step of a transformers model with and without fused_loss on a CPU: time and peak memory.

    python benchmarks/hf_fused.py [CASE ...] [--rounds 5]

One thread, CPU seconds, both in turns in one process, medians; memory each in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers as hf
from losses_cpu import _peak, _reset_peak, _resident, turns
from rows import keep

from lossmith.integrations.hf import fused_loss

SHAPE: dict[str, Any] = {
    "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4,
    "max_position_embeddings": 1024, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
CASES: dict[str, tuple[str, int, torch.dtype]] = {
    "causal, float32": ("llama", 128_256, torch.float32),
    "causal, bfloat16": ("llama", 128_256, torch.bfloat16),
    "masked at 15 %, float32": ("bert", 30_522, torch.float32),
}
ROWS, LENGTH = 2, 1024


def parts(case: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return model and batch of a case."""
    kind, vocabulary, dtype = CASES[case]
    torch.manual_seed(0)
    sizes = SHAPE | {"vocab_size": vocabulary}
    model = (
        hf.LlamaForCausalLM(hf.LlamaConfig(**sizes)) if kind == "llama" else hf.BertForMaskedLM(hf.BertConfig(**sizes))
    )
    ids = torch.randint(3, vocabulary, (ROWS, LENGTH))
    labels = ids if kind == "llama" else torch.where(torch.rand(ids.shape) < 0.15, ids, -100)
    return model.to(dtype), {"input_ids": ids, "labels": labels}


def step(model: Any, inputs: dict[str, torch.Tensor], way: str) -> None:
    """Run forward and backward, by the model's own loss (plain) or fused_loss."""
    model.zero_grad()
    with fused_loss(model) if way == "fused" else contextlib.nullcontext():
        model(**inputs).loss.backward()


def peak_megabytes(case: str, way: str) -> float:
    """Return what a step needs beyond the weights and their gradients, after a short step has loaded its libraries."""
    model, inputs = parts(case)
    step(model, {name: x[:, :8].contiguous() for name, x in inputs.items()}, way)
    model.zero_grad()
    gradients, before = sum(p.nbytes for p in model.parameters()), _resident()
    _reset_peak()
    step(model, inputs, way)
    return float(round((_peak() - before - gradients) / 1e6, 1))


def measure(case: str, rounds: int) -> None:
    """Keep the row of a case."""
    model, inputs = parts(case)
    ways: dict[str, Callable[[], Any]] = {way: partial(step, model, inputs, way) for way in ("plain", "fused")}
    seconds = turns(ways, rounds)
    megabytes = {}
    for way in ways:
        command = [sys.executable, __file__, "--peak", case, way]
        megabytes[way] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    keep("hf_fused", {"case": case, "model": type(model).__name__, "layers": 4, "width": 256,
                      "vocabulary": CASES[case][1], "tokens": ROWS * LENGTH, "rounds": rounds,
                      "unit": "CPU seconds of a step; MB beyond weights and gradients",
                      "seconds": seconds, "megabytes": megabytes})  # fmt: skip


def main() -> None:
    """Run the cases asked for (all of them by default)."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", nargs=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.peak:
        return print(peak_megabytes(*given.peak))
    for case in given.cases:
        measure(case, given.rounds)
    return None


if __name__ == "__main__":
    main()
