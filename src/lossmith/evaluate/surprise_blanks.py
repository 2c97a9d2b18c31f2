"""Fill the blanks of a text: by hiding them from a masked model, or by what the whole text costs a causal one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossmith.errors import InputError
from lossmith.evaluate.next_tokens import next_tokens
from lossmith.evaluate.surprisal import mask_marks, surprisal
from lossmith.evaluate.surprise_model import Scorer, open_scorer

BLANK = "__"
_BEAM = 12  # texts that are kept from one blank to the next, and guesses for each of them
_MOST = 1000  # texts scored at most


@dataclass(frozen=True)
class Filling:
    """Hold what is put into each blank, the nats of the whole text, and its share among those shown."""

    words: tuple[str, ...]
    nats: float
    share: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON carries them."""
        return {"words": list(self.words), "nats": self.nats, "bits": self.nats / math.log(2), "share": self.share}


def fill_blanks(
    model: Any, text: str, *, tokenizer: Any = None, top: int = 10, candidates: Sequence[str] = ()
) -> list[Filling]:
    """Return the `top` best ways to fill every `__` of a text, the cheapest first.

    With `candidates` every combination is tried; without, each blank takes one token. nats: of the whole text for a
    causal model, and for a masked one with candidates (pseudo-likelihood); without candidates a masked model sees all
    blanks hidden, and nats are those of the blanks alone. A causal model's guesses come from what stands before a blank
    and are ordered by the whole: a beam of 12, no proof that nothing is better.
    Errors: InputError for a text without a blank, and for over 1,000 combinations.
    """
    scorer = open_scorer(model, tokenizer)
    parts = text.split(BLANK)
    if len(parts) < 2:
        raise InputError(f"--fill needs a blank: write {BLANK} where words are missing; got {text[:60]!r}")
    if top < 1:
        raise InputError(f"--top must be 1 or more; got {top}")
    if candidates:
        found = _combinations(scorer, parts, candidates)
    else:
        found = _hidden(scorer, parts, top) if scorer.masked else _beam(scorer, parts)
    best = sorted(found, key=lambda pair: pair[1])[:top]
    weights = [math.exp(best[0][1] - nats) for _, nats in best]
    return [Filling(w, nats, weight / sum(weights)) for (w, nats), weight in zip(best, weights, strict=True)]


def _combinations(scorer: Scorer, parts: list[str], words: Sequence[str]) -> list[tuple[tuple[str, ...], float]]:
    count = len(words) ** (len(parts) - 1)
    if count > _MOST:
        raise InputError(f"{len(words)} candidates in {len(parts) - 1} blanks are {count:,} texts; at most {_MOST:,}")
    tried = itertools.product(words, repeat=len(parts) - 1)
    return [(chosen, _cost(scorer, _filled(parts, chosen))) for chosen in tried]


def _filled(parts: Sequence[str], words: Sequence[str]) -> str:
    return parts[0] + "".join(word + part for word, part in zip(words, parts[1:], strict=True))


def _cost(scorer: Scorer, text: str) -> float:
    return surprisal(scorer, text).total_nats


def _hidden(scorer: Scorer, parts: list[str], top: int) -> list[tuple[tuple[str, ...], float]]:
    """All blanks hidden at once: the best combinations of what the model says of each."""
    import torch

    from lossmith.models.mode import evaluating

    before, mask, after = mask_marks(scorer)
    ids, places = list(before), []
    for i, part in enumerate(parts):
        ids += scorer.tokenizer.encode(part).tolist()
        if i < len(parts) - 1:
            places.append(len(ids))
            ids.append(mask)
    if len(ids) + len(after) > scorer.context:
        raise InputError(f"the text has {len(ids) + len(after)} tokens and the model sees {scorer.context}: shorten it")
    with evaluating(scorer.model):
        device = next(scorer.model.parameters()).device
        logits = scorer.model(input_ids=torch.tensor([ids + after], device=device)).logits[0, places]
        log_p = logits.double().log_softmax(-1).cpu().numpy()
    found: list[tuple[tuple[str, ...], float]] = [((), 0.0)]
    for row in log_p:
        best = np.argsort(-row, kind="stable")[:top]
        more = [(scorer.tokenizer.token_text(int(token)), -float(row[token])) for token in best]
        joined = [((*words, word), nats + cost) for words, nats in found for word, cost in more]
        found = sorted(joined, key=lambda pair: pair[1])[:top]
    return found


def _beam(scorer: Scorer, parts: list[str]) -> list[tuple[tuple[str, ...], float]]:
    """From blank to blank: guess from what stands before, keep what costs least with the text after it."""
    beam: list[tuple[str, ...]] = [()]
    found: list[tuple[tuple[str, ...], float]] = []
    for blank in range(1, len(parts)):
        tried = {(*words, word) for words in beam for word in _guesses(scorer, _filled(parts[: len(words) + 1], words))}
        costs = [(words, _cost(scorer, _filled(parts[: blank + 1], words))) for words in sorted(tried)]
        found = sorted(costs, key=lambda pair: pair[1])
        beam = [words for words, _ in found[:_BEAM]]
    return found


def _guesses(scorer: Scorer, before: str) -> Iterator[str]:
    """Single tokens that go on after `before`; a space at its end belongs to the token, as in most vocabularies."""
    space = before.endswith(" ") and any(
        scorer.tokenizer.token_text(token).startswith(" ") and len(scorer.tokenizer.token_text(token)) > 1
        for token in range(min(scorer.tokenizer.vocab_size, 5000))
    )
    count = 0
    for token in next_tokens(scorer.model, scorer.tokenizer, before[:-1] if space else before, top=50 * _BEAM).top:
        word = token.text[1:] if space and token.text.startswith(" ") else "" if space else token.text
        if word.strip() and "\\x" not in word and token.id != scorer.tokenizer.eos_id:
            yield word
            count += 1
        if count == _BEAM:
            return
