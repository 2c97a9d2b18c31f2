"""fused_loss against the model's own loss: every causal and masked model that transformers knows, made tiny.

    python benchmarks/hf_models.py [NAME ...] [--seconds 60] [--jobs 2]
    python benchmarks/hf_docs.py     (writes what docs/integrations.md says of the rows)

Each model runs in a process of its own, without dropout, in float32, router losses on: loss and the gradient of every
parameter. Rows: pass (the same, logits never made), fallback (the same, the model made its logits), fail (not so),
does not run (and why). They replace benchmarks/results/hf_models.jsonl when all models were asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import inspect
import json
import multiprocessing
import time
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import transformers
from hf_docs import FILE
from hf_tiny import inputs_for, tiny_config
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from lossmith.errors import InputError
from lossmith.integrations._rules import RULES
from lossmith.integrations.hf import compute_loss_func, fused_loss

MAPPINGS = {"causal": MODEL_FOR_CAUSAL_LM_MAPPING, "masked": MODEL_FOR_MASKED_LM_MAPPING}
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4


def registry() -> list[tuple[str, str]]:
    """Return (task, model type) of every model that transformers registers."""
    return [(task, name) for task, mapping in MAPPINGS.items() for name in mapping._model_mapping]


def build(task: str, name: str) -> Any:
    """Return a tiny model of a type, every parameter moved a little: zeros would hide what is multiplied with them."""
    config = tiny_config(name, task)
    kind = MAPPINGS[task][type(config)]
    inner = [part for part in vars(config).values() if isinstance(part, kind.config_class)]
    torch.manual_seed(0)
    model = kind(inner[0] if inner else config).train(name == "reformer")  # which has no dropout, and asks for it
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def loss_and_gradients(model: Any, inputs: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the model's loss and the gradients it has; the same random numbers each time."""
    model.zero_grad()
    torch.manual_seed(2)
    loss = model(**inputs).loss
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.numel()}


def difference(ours: Tensor, theirs: Tensor, scale: Tensor) -> float:
    """Return the largest error, as a share of the gradient's own largest entry (or a hundredth of that of all)."""
    if not torch.equal(ours.isfinite(), theirs.isfinite()):
        return float("inf")
    largest = torch.maximum(theirs.nan_to_num().abs().max(), scale / 100)
    return float((ours - theirs).nan_to_num().abs().max() / largest)


def compare(task: str, name: str) -> dict[str, Any]:
    """Return the row of one model: status, what it does to its logits, and the largest differences."""
    model, inputs = build(task, name), inputs_for(task, name)
    own, own_grads = loss_and_gradients(model, inputs)
    shift = trainers_shift(model, inputs, own)
    items, steps = heeds_items(model, inputs, own), watched()
    with fused_loss(model) as fused:
        ours, our_grads = loss_and_gradients(model, inputs)
    row: dict[str, Any] = {"model": type(model).__name__, "steps": steps, "shift": shift, "items": items}
    row["loss"] = round(float(own), 4)
    if not own.isfinite() or not own_grads:
        return row | {"status": "does not run", "why": "its own loss is not finite, or has no gradient"}
    if own_grads.keys() != our_grads.keys():
        return row | {"status": "fail", "why": "other parameters get a gradient"}
    scale = torch.stack([g.nan_to_num().abs().max() for g in own_grads.values()]).max()
    row["loss_error"] = float((ours - own).abs() / own.abs())
    row["gradient_error"] = max(difference(our_grads[k], g, scale) for k, g in own_grads.items())
    good = row["loss_error"] <= LOSS_TOLERANCE and row["gradient_error"] <= GRADIENT_TOLERANCE
    path = {"hidden states": "pass", "logits": "fallback"}[fused.loss_path]
    return row | {"status": path if good else "fail", "why": fused.reason if good else "differs"}


def watched() -> list[str]:
    """Return a list that grows by what models do to deferred logits, in this process."""
    steps: list[str] = []

    def watch(name: str, rule: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            steps.append(name)
            return rule(*args, **kwargs)

        return run

    RULES.update({name: watch(name, rule) for name, rule in RULES.items()})
    return steps


def trainers_shift(model: Any, inputs: dict[str, Any], own: Tensor) -> bool | None:
    """Return the `shift` with which compute_loss_func gives the model's own loss; None: with neither."""
    given = {k: v for k, v in inputs.items() if k != "labels"}
    with torch.no_grad():
        torch.manual_seed(2)
        outputs = model(**given)
        router = getattr(outputs, "aux_loss", None) is not None
        coefficient = (
            getattr(model, "router_aux_loss_coef", getattr(model.config, "aux_loss_coef", 0.0)) if router else 0.0
        )
        for shift in (True, False):
            with contextlib.suppress(InputError):  # labels that do not lie on the logits: images in front of them
                loss = compute_loss_func(outputs, inputs["labels"], shift=shift, aux_coefficient=coefficient)
                if loss.isclose(own, rtol=LOSS_TOLERANCE):
                    return shift
    return None


def heeds_items(model: Any, inputs: dict[str, Any], own: Tensor) -> bool | None:
    """Tell whether num_items_in_batch divides the loss; None where the Trainer sees that a model does not take it."""
    parameters = inspect.signature(model.forward).parameters.values()
    takes = getattr(model, "accepts_loss_kwargs", any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters))
    if not takes:
        return None
    with torch.no_grad():
        torch.manual_seed(2)
        return not model(**inputs, num_items_in_batch=torch.tensor(1000)).loss.isclose(own, rtol=LOSS_TOLERANCE)


def guarded(task: str, name: str, pipe: Any) -> None:
    """Run compare in a child: send the row, or why there is none."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        row = compare(task, name)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        row = {"status": "does not run", "why": f"{type(error).__name__}: {lines[0][:160]}"}
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


def run(pairs: list[tuple[str, str]], seconds: float = 60, jobs: int = 2) -> list[dict[str, Any]]:
    """Return the rows of models, `jobs` at a time, printed as they come."""
    transformers.utils.logging.set_verbosity_error()
    for task, name in (("causal", "mixtral"), ("masked", "bert")):
        build(task, name)  # what all models import is imported once, before the children
    rows = []
    with ThreadPoolExecutor(jobs) as pool:
        for row in pool.map(lambda pair: in_child(pair[0], pair[1], seconds), pairs):
            print(json.dumps(row, ensure_ascii=False), flush=True)
            rows.append(row)
    return rows


def summary(rows: list[dict[str, Any]]) -> str:
    """Return the counts by task and status, and the models that do not pass."""
    lines = []
    for task in MAPPINGS:
        mine = [row for row in rows if row["task"] == task]
        lines.append(f"{task}: {len(mine)} registered, {dict(Counter(row['status'] for row in mine))}")
        lines += [f"  {r['type']}: {r['status']}, {r['why']}" for r in mine if r["status"] != "pass"]
    return "\n".join(lines)


def main() -> None:
    """Run all models, or those named, and keep the rows of all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    pairs = [pair for pair in registry() if not options.names or pair[1] in options.names]
    rows = run(pairs, options.seconds, options.jobs)
    if not options.names:
        about = {"transformers": transformers.__version__, "torch": torch.__version__}
        about["date"] = datetime.date.today().isoformat()
        FILE.write_text("".join(json.dumps(row | about, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(summary(rows))


if __name__ == "__main__":
    main()
