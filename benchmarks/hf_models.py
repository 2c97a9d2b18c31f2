"""fused_loss against the model's own loss: every causal and masked model that transformers knows, made tiny.

    python benchmarks/hf_models.py [NAME ...] [--seconds 60]

Each model runs in a process of its own, in evaluation mode (no dropout) and float32, with router losses on: loss and the
gradient of every parameter. Rows: pass (the same, logits never made), fallback (the same, the model made its logits), or
why it did not run. They replace benchmarks/results/hf_models.jsonl when all models were asked for.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
import warnings
from collections import Counter
from typing import Any

import torch
from hf_tiny import EXTRA_INPUTS, tiny_config
from rows import RESULTS, keep
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from lossmith.integrations.hf import fused_loss

MAPPINGS = {"causal": MODEL_FOR_CAUSAL_LM_MAPPING, "masked": MODEL_FOR_MASKED_LM_MAPPING}
LENGTH = 24


def registry() -> list[tuple[str, str]]:
    """Return (task, model type) of every model that transformers registers."""
    return [(task, name) for task, mapping in MAPPINGS.items() for name in mapping._model_mapping]


def build(task: str, name: str) -> Any:
    """Return a tiny model of a type, every parameter moved a little: zeros would hide what is multiplied with them."""
    config = tiny_config(name)
    torch.manual_seed(0)
    model = MAPPINGS[task][type(config)](config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def inputs_for(task: str, name: str) -> dict[str, Any]:
    """Return token ids and labels, some of them −100, and what else a model cannot do without."""
    torch.manual_seed(1)
    ids = torch.randint(10, 90, (2, LENGTH))
    labels = torch.where(torch.rand(ids.shape) < (0.2 if task == "causal" else 0.7), -100, ids)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels} | EXTRA_INPUTS.get(name, {})


def loss_and_gradients(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor | None]]:
    """Return the model's loss and the gradient of every parameter; the same random numbers each time."""
    model.zero_grad()
    torch.manual_seed(2)
    loss = model(**inputs).loss
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()}


def difference(ours: torch.Tensor, theirs: torch.Tensor, scale: torch.Tensor) -> float:
    """Return the largest error, as a share of the gradient's own largest entry (or a hundredth of that of all)."""
    if not torch.equal(ours.isfinite(), theirs.isfinite()):
        return float("inf")
    return float(((ours - theirs).nan_to_num().abs().max() / torch.maximum(theirs.nan_to_num().abs().max(), scale / 100)))


def compare(task: str, name: str) -> dict[str, Any]:
    """Return the row of one model: status, the path its loss took, and the largest differences."""
    model, inputs = build(task, name), inputs_for(task, name)
    own, own_grads = loss_and_gradients(model, inputs)
    with fused_loss(model) as fused:
        ours, our_grads = loss_and_gradients(model, inputs)
    scale = max((g.nan_to_num().abs().max() for g in own_grads.values() if g is not None), default=torch.tensor(1.0))
    if {k for k, g in own_grads.items() if g is None} != {k for k, g in our_grads.items() if g is None}:
        return {"status": "fail", "why": "other parameters get a gradient"}
    errors = [difference(our_grads[k], g, scale) for k, g in own_grads.items() if g is not None]  # type: ignore[arg-type]
    row: dict[str, Any] = {
        "model": type(model).__name__,
        "loss": round(float(own), 4),
        "loss_error": float((ours - own).abs() / own.abs()),
        "gradient_error": max(errors, default=0.0),
    }
    good = row["loss_error"] <= 1e-5 and row["gradient_error"] <= 1e-4 and bool(own.isfinite())
    path = {"hidden states": "pass", "logits": "fallback"}[fused.loss_path]
    return row | {"status": path if good else "fail", "why": fused.reason if good else "differs"}


def guarded(task: str, name: str, pipe: Any) -> None:
    """Run compare in a child: send the row, or why there is none."""
    warnings.simplefilter("ignore")
    try:
        row = compare(task, name)
    except Exception as error:
        row = {"status": "does not run", "why": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"}
    pipe.send(row)


def in_child(task: str, name: str, seconds: float) -> dict[str, Any]:
    """Return the row of a model, made in a process that may crash or hang."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    start = time.perf_counter()
    child = multiprocessing.get_context("fork").Process(target=guarded, args=(task, name, theirs))
    child.start()
    theirs.close()
    try:
        row: dict[str, Any] = ours.recv() if ours.poll(seconds) else {"status": "does not run", "why": f"> {seconds} s"}
    except EOFError:
        row = {"status": "does not run", "why": "the process died"}
    if child.is_alive():
        child.kill()
    child.join()
    return {"task": task, "type": name} | row | {"seconds": round(time.perf_counter() - start, 1)}


def main() -> None:
    """Run all models, or those named, and keep the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--shard", default="0/1", help="which part of all models, for several processes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    part, parts = map(int, options.shard.split("/"))
    wanted = [pair for pair in registry() if not options.names or pair[1] in options.names][part::parts]
    if not options.names and parts == 1:
        (RESULTS / "hf_models.jsonl").unlink(missing_ok=True)
    rows = []
    for task, name in wanted:
        rows.append(in_child(task, name, options.seconds))
        print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    print(summary(rows))


def summary(rows: list[dict[str, Any]]) -> str:
    """Return the counts by task and status, and the models that do not pass."""
    lines = []
    for task in MAPPINGS:
        mine = [row for row in rows if row["task"] == task]
        lines.append(f"{task}: {len(mine)} registered, {dict(Counter(row['status'] for row in mine))}")
        lines += [f"  {r['type']}: {r['status']}, {r['why']}" for r in mine if r["status"] != "pass"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
