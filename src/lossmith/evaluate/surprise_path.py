"""The path to a wanted continuation, and how often sampling would draw each next token."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.errors import InputError
from lossmith.evaluate.next_tokens import _continuation, _log_probabilities
from lossmith.evaluate.sampling import _check, encode_context, max_positions

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """Describe one token on the way to a continuation: what it cost, how it ranked (0: first), what came first."""

    text: str
    id: int
    probability: float
    bits: float
    rank: int
    bits_so_far: float
    first: str
    first_probability: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def path_to(model: Any, tokenizer: Any, prompt: str, wanted: str) -> list[Step]:
    """Return each token of `wanted` after `prompt` with its cost, its rank, and what the model would have said.

    Errors: InputError for an empty continuation and one longer than the model's context.
    """
    context, ids = encode_context(tokenizer, prompt), _continuation(tokenizer, prompt, wanted)
    limit = max_positions(model)
    if not ids or (limit and len(ids) > limit):
        most = f" of at most {limit} tokens, the context of the model" if limit else ""
        raise InputError(f"--path must be a text{most}; got {len(ids)} tokens")
    steps, total = [], 0.0
    for token, log_p in zip(ids, _log_probabilities(model, context + ids[:-1], len(ids)), strict=True):
        bits, first = -float(log_p[token]) / math.log(2), int(log_p.argmax())
        total += bits
        rank = int((log_p > log_p[token]).sum())
        names = tokenizer.token_text(token), tokenizer.token_text(first)
        steps.append(Step(names[0], token, 2.0**-bits, bits, rank, total, names[1], math.exp(float(log_p[first]))))
    return steps


def drawn(
    model: Any,
    tokenizer: Any,
    prompt: str,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Floats:
    """Return the probability, float64[V], with which `sample` would draw each token after `prompt`.

    Formula: softmax(ln p / temperature), cut to the top_k most likely, then to the fewest that reach top_p, and scaled
    to sum to 1; temperature 0: the most likely token. Errors: InputError for an option out of its range.
    """
    _check(0, temperature, top_k, top_p)
    log_p = _log_probabilities(model, encode_context(tokenizer, prompt), 1)[-1]
    order = np.argsort(-log_p, kind="stable")
    p = np.zeros(len(log_p))
    if temperature == 0:
        p[order[0]] = 1.0
        return p
    kept = order[:top_k]
    scaled = (log_p[kept] - log_p[kept[0]]) / temperature
    weights = np.exp(scaled) / np.exp(scaled).sum()
    if top_p is not None:
        weights = weights * (np.cumsum(weights) - weights < top_p)
    p[kept] = weights / weights.sum()
    return p
