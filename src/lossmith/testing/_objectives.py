"""The laws of an objective: counts are those of the terms, and nothing that is to be guessed can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossmith.errors import InputError, did_you_mean
from lossmith.models import bodies as model_bodies
from lossmith.models.mode import evaluating
from lossmith.testing._objective_error import ROUNDING, ObjectiveError, unmoved
from lossmith.testing._seq2seq import check_decoder_future, check_encoder_leak, paired

Example = dict[str, np.ndarray]
OBJECTIVE_LAWS = ("counts", "repeatable", "split", "leak", "future", "documents", "rows")
BY_PART = ("leak", "future", "documents", "rows")  # of a mixture


def check_objective(
    objective: Any, model: Any, examples: Sequence[Example], *, laws: Sequence[str] = OBJECTIVE_LAWS, seed: int = 0
) -> None:
    """Assert that an objective keeps the laws on real examples; raise ObjectiveError where it does not.

    counts: terms[k].weight == counts(batch)[k], for every term, and something is counted.
    repeatable: the same examples and the same random state give the same batch.
    split: the totals of the examples' parts add up to those of the whole batch.
    leak: most labels are not the input at their own place, and other labels move no hidden state.
    future: (where the labels are the inputs moved by one) other tokens move no hidden state before them.
    Of an encoder–decoder (labels that are written, not those of the input's places) leak says: no token of an example
    stands both in the input and in the labels, and other labels move no encoder state; future: labels from a place on
    move no decoder state up to that place, at which they are predicted.
    documents: (examples with "documents") another first document moves no hidden state of those after it.
    rows: (where attention_mask is [B, T]) other tokens in padding, or in another row, move no hidden state of a row.
    A law that says nothing about a batch (no documents, no labels moved by one) is passed over, and split where the
    objective says `additive = False`. The model is put into
    evaluation mode meanwhile. `examples`: at least two, all of one length; they carry "index" where what is drawn
    depends on it. Of a mixture the last four laws are asserted of each part.
    Errors: ObjectiveError (an AssertionError); InputError for an unknown law.

    >>> from lossmith.objectives import CausalObjective
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=1, n_positions=16))
    >>> check_objective(CausalObjective(), model, [{"tokens": np.arange(8)}, {"tokens": np.arange(8, 16)}])
    """
    for law in laws:
        if law not in OBJECTIVE_LAWS:
            hint = did_you_mean(law, OBJECTIVE_LAWS)
            raise InputError(f"laws must be among {', '.join(OBJECTIVE_LAWS)}; got {law!r}.{hint}")
    with evaluating(model):
        for law in laws:
            parts = objective.parts.values() if hasattr(objective, "split") and law in BY_PART else [objective]
            for part in parts:
                _LAWS[law](part, model, list(examples), seed)


def _batch(objective: Any, examples: Sequence[Example], seed: int) -> dict[str, Tensor]:
    batch: dict[str, Tensor] = objective.batch(examples, np.random.default_rng(seed))
    return batch


def _values(objective: Any, model: Any, batch: dict[str, Tensor]) -> dict[str, float]:
    torch.manual_seed(0)  # a model that samples (ELECTRA's generator) samples the same
    return {name: float(total.value) for name, total in objective.terms(model, batch).items()}


def _counts(objective: Any, model: Any, examples: list[Example], seed: int) -> None:
    batch = _batch(objective, examples, seed)
    counts, terms = objective.counts(batch), objective.terms(model, batch)
    if set(counts) != set(terms):
        raise ObjectiveError("counts", f"counts() has the terms {sorted(counts)}, terms() has {sorted(terms)}")
    for name, total in terms.items():
        if float(counts[name]) != float(total.weight):
            raise ObjectiveError("counts", f"{name}: counts() says {counts[name]}, the term weighs {total.weight}")
        if not float(total.weight) > 0:
            raise ObjectiveError("counts", f"{name}: nothing is counted in {len(examples)} examples")


def _repeatable(objective: Any, model: Any, examples: list[Example], seed: int) -> None:
    one, two = (_batch(objective, examples, seed) for _ in range(2))
    different = [key for key in one if not torch.equal(one[key], two[key])]
    if different:
        raise ObjectiveError("repeatable", f"the same examples and random state gave other {', '.join(different)}")


def _split(objective: Any, model: Any, examples: list[Example], seed: int) -> None:
    if not getattr(objective, "additive", True):
        return  # a part has fewer to be told apart from
    if "index" not in examples[0] and "rows" in _batch(objective, examples, seed):
        return  # what is drawn depends on the examples before it: the parts are other batches
    whole = _values(objective, model, _batch(objective, examples, seed))
    parts = [_values(objective, model, _batch(objective, [example], seed)) for example in examples]
    for name, value in whole.items():
        _close("split", f"{name}: the whole batch costs", value, sum(part[name] for part in parts))


def _leak(objective: Any, model: Any, examples: list[Example], seed: int) -> None:
    batch = _batch(objective, examples, seed)
    if "labels" not in batch:
        return
    if paired(model):
        check_encoder_leak(objective, model, examples, batch)
        return
    labels = batch["labels"]
    asked = labels != -100
    share = float((asked & (batch["input_ids"] == labels)).sum() / asked.sum().clamp(min=1))
    if share > 0.5:
        raise ObjectiveError("leak", f"{share:.0%} of the labels stand in the input at their own place")
    other = torch.where(asked, (labels + 1) % model.config.vocab_size, labels)
    changed = batch | {"labels": other}
    further = [key for key in batch if key.startswith("labels_")]
    changed |= {
        key: torch.where(batch[key] == -100, -100, (batch[key] + 1) % model.config.vocab_size) for key in further
    }
    if "sentence_labels" in batch:
        changed["sentence_labels"] = 1 - batch["sentence_labels"]
    states = zip(_every_state(objective, model, batch), _every_state(objective, model, changed), strict=True)
    moved = max(float((before - after).abs().max()) for before, after in states)
    if moved > 0:
        raise ObjectiveError("leak", f"with other labels the model's last hidden states moved by {moved:g}")


def _future(objective: Any, model: Any, examples: list[Example], seed: int) -> None:
    batch = _batch(objective, examples, seed)
    if "labels" not in batch:
        return
    if paired(model):
        check_decoder_future(objective, model, batch)
        return
    ids, labels = batch["input_ids"], batch["labels"]
    if not torch.equal(torch.where(labels[:, :-1] == -100, -100, ids[:, 1:]), labels[:, :-1]):
        return
    later = ids.shape[1] // 2
    other = _changed(ids, slice(later, None), model)
    other = torch.where(batch["prefix"], ids, other) if "prefix" in batch else other  # a prefix is seen from before it
    before, after = (_states(objective, model, batch | {"input_ids": each})[:, :later] for each in (ids, other))
    unmoved("future", f"with other tokens from place {later} on, the states before it", before, after)


def _documents(objective: Any, model: Any, examples: list[Example], seed: int) -> None:
    if "documents" not in examples[0]:
        return
    batch = _batch(objective, examples, seed)
    if "documents" in batch:
        _named_documents(objective, model, batch)
        return
    frame = max(0, (batch["input_ids"].shape[1] - len(examples[0]["tokens"])) // 2)
    for row, example in enumerate(examples):
        first = int((example["documents"] == example["documents"][0]).sum()) + frame
        own = {key: value[row : row + 1] for key, value in batch.items() if key != "rows"}
        own |= {"rows": (own["labels"].flatten() != -100).nonzero().flatten()} if "rows" in batch else {}
        other = own | {"input_ids": _changed(own["input_ids"], slice(frame, first), model)}
        before, after = (_states(objective, model, each)[:, first:] for each in (own, other))
        unmoved("documents", f"row {row}: with another first document, the states of those after it", before, after)


def _named_documents(objective: Any, model: Any, batch: dict[str, Tensor]) -> None:
    """The law "documents" where a batch says to which document each of its places belongs."""
    first, ids = batch["documents"] == batch["documents"][:, :1], batch["input_ids"]
    other = batch | {"input_ids": torch.where(first, (ids + 1) % model.config.vocab_size, ids)}
    before, after = (_states(objective, model, each)[~first] for each in (batch, other))
    unmoved("documents", "with another first document, the states of those after it", before, after)


def _rows(objective: Any, model: Any, examples: list[Example], seed: int) -> None:
    """The last rows that the body computes are watched: what is encoded in parts shows its last part."""
    batch = _batch(objective, examples, seed)
    ids, mask = batch["input_ids"], batch.get("attention_mask")
    if mask is None or mask.shape != ids.shape:
        return
    other = (ids + 1) % model.config.vocab_size
    cases = {
        "padding": torch.where(mask == 0, other, ids),
        "another row": torch.cat([torch.where(mask == 1, other, ids)[:1], ids[1:]]),
    }
    before = _states(objective, model, batch)
    kept = min(len(before), len(ids) - 1)
    seen = mask[-kept:, :, None]
    for what, changed in cases.items():
        after = _states(objective, model, batch | {"input_ids": changed})
        what = f"with other tokens in {what}, the states of a row's own tokens"
        unmoved("rows", what, before[-kept:] * seen, after[-kept:] * seen)


def _changed(ids: Tensor, places: slice, model: Any) -> Tensor:
    other = ids.clone()
    other[:, places] = (other[:, places] + 1) % model.config.vocab_size
    return other


def _states(objective: Any, model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Return the last hidden states [B, T, D] that the objective makes the model's body compute."""
    return _every_state(objective, model, batch)[-1]


def _every_state(objective: Any, model: Any, batch: dict[str, Tensor]) -> list[Tensor]:
    """Return the last hidden states of a model among the objective's own tensors (a generator), and of the model."""
    objective.terms(model, batch)  # whatever is tried once per model is tried here
    own: Any = getattr(objective, "own", None)  # of an encoder–decoder the encoder is watched: see _seq2seq.py
    bodies = [*([own.base_model] if hasattr(own, "base_model") else []), model_bodies(model)[0]]
    seen: dict[int, Tensor] = {}
    handles = [body.register_forward_hook(lambda it, _, out: seen.update({id(it): out[0]})) for body in bodies]
    try:
        objective.terms(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return [seen[id(body)] for body in bodies if id(body) in seen]


def _close(law: str, what: str, one: float, two: float) -> None:
    if abs(one - two) > ROUNDING * max(abs(one), abs(two)):
        raise ObjectiveError(law, f"{what} {one:g} nats, its parts {two:g}")


_LAWS = {
    "counts": _counts,
    "repeatable": _repeatable,
    "split": _split,
    "leak": _leak,
    "future": _future,
    "documents": _documents,
    "rows": _rows,
}
