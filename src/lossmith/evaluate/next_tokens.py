"""What comes next: the most likely tokens after a prompt, and what given continuations would cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lossmith.errors import InputError
from lossmith.evaluate.sampling import encode_context, max_positions
from lossmith.runs import json_number

if TYPE_CHECKING:
    from lossmith.data import Tokenizer

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NextToken:
    """Describe one possible next token: its probability and surprisal −ln p, in nats and in bits."""

    id: int
    text: str
    probability: float
    nats: float
    bits: float


@dataclass(frozen=True)
class Candidate:
    """Describe what a continuation costs: −ln p(all its tokens | prompt), by the chain rule, and per token."""

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    token_nats: tuple[float, ...]
    nats: float
    bits: float
    nats_per_token: float
    probability: float


@dataclass(frozen=True)
class NextTokens:
    """Hold what a model expects after a prompt; `entropy` (nats) is that of the whole distribution over next tokens."""

    prompt: str
    entropy: float
    top: tuple[NextToken, ...]
    candidates: tuple[Candidate, ...]
    unknown: dict[str, str] = field(default_factory=dict)
    """Candidates that the tokenizer cannot encode, and why."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON can carry them (non-finite numbers as strings)."""
        data: dict[str, Any] = _jsonable(asdict(self))
        return data


def next_tokens(
    model: Any, tokenizer: Tokenizer, prompt: str, *, top: int = 10, candidates: Sequence[str] = ()
) -> NextTokens:
    """Return the `top` most likely next tokens after `prompt` and the cost of each candidate, cheapest first.

    Formula: surprisal −ln p(x | prompt); a candidate c₁…cₙ costs Σᵢ −ln p(cᵢ | prompt, c₁…cᵢ₋₁); softmax in float64.
    Where the tokens of prompt + candidate begin with the tokens of the prompt, the rest of them are the candidate's (as
    the model has seen such text); where a token would straddle the boundary, the candidate is tokenized on its own.
    Either way it is one tokenization of the text: p(text) itself, summed over all of them, is not less.
    A candidate that the tokenizer cannot encode is left out, and said so in `unknown`; where it can encode none of
    them, as with an empty candidate and one longer than the model's context, it is an InputError.
    """
    if top < 1:
        raise InputError(f"--top must be 1 or more; got {top}")
    context = encode_context(tokenizer, prompt)
    log_p = _log_probabilities(model, context, 1)[-1]
    ids = np.argsort(-log_p, kind="stable")[:top]
    encoded, unknown = _encoded(tokenizer, prompt, candidates)
    costs = [_candidate(model, tokenizer, context, text, tokens) for text, tokens in encoded]
    return NextTokens(
        prompt,
        _entropy(log_p),
        tuple(_next_token(tokenizer, int(i), float(log_p[i])) for i in ids),
        tuple(sorted(costs, key=lambda cost: cost.nats)),
        unknown,
    )


def _next_token(tokenizer: Tokenizer, token: int, log_p: float) -> NextToken:
    return NextToken(token, tokenizer.token_text(token), math.exp(log_p), -log_p, -log_p / math.log(2))


def _encoded(
    tokenizer: Tokenizer, prompt: str, candidates: Sequence[str]
) -> tuple[list[tuple[str, list[int]]], dict[str, str]]:
    found, unknown = [], {}
    for text in candidates:
        try:
            found.append((text, _continuation(tokenizer, prompt, text)))
        except InputError as error:
            unknown[text] = str(error)
    if unknown and not found:
        raise InputError("--candidates: " + "; ".join(unknown.values()))
    return found, unknown


def _candidate(model: Any, tokenizer: Tokenizer, context: list[int], text: str, ids: list[int]) -> Candidate:
    limit = max_positions(model)
    if not ids:
        raise InputError("--candidates must not be empty: an empty continuation costs nothing")
    if limit and len(ids) > limit:
        raise InputError(f"--candidates: {text[:40]!r} has {len(ids)} tokens and the model sees {limit}; shorten it")
    log_p = _log_probabilities(model, context + ids[:-1], len(ids))
    each = tuple(float(-row[token]) for row, token in zip(log_p, ids, strict=True))
    nats = math.fsum(each)
    names = tuple(tokenizer.token_text(token) for token in ids)
    return Candidate(text, names, tuple(ids), each, nats, nats / math.log(2), nats / len(ids), math.exp(-nats))


def _continuation(tokenizer: Tokenizer, prompt: str, text: str) -> list[int]:
    before = tokenizer.encode(prompt).tolist()
    whole = tokenizer.encode(prompt + text).tolist()
    ids = whole[len(before) :] if whole[: len(before)] == before else tokenizer.encode(text).tolist()
    return [int(i) for i in ids]


def _log_probabilities(model: Any, ids: list[int], last: int) -> Floats:
    """ln p over the vocabulary after each of the last `last` of `ids`, float64[last, V]; the context is cut to fit."""
    import torch

    from lossmith.models.mode import evaluating

    limit = max_positions(model)
    device = next(model.parameters()).device
    with evaluating(model):
        logits = model(input_ids=torch.tensor([ids[-limit:] if limit else ids], device=device)).logits
    log_p: Floats = logits[0, -last:].double().log_softmax(-1).cpu().numpy()
    return log_p


def _entropy(log_p: Floats) -> float:
    p = np.exp(log_p)
    return float(-np.sum(p * np.where(p > 0, log_p, 0)))


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return json_number(value) if isinstance(value, float) else value
