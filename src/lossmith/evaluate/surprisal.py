"""What each token of a text costs a model: surprisal, entropy, rank, and the model's first guesses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.data import Tokenizer
from lossmith.errors import InputError
from lossmith.evaluate.sampling import max_positions
from lossmith.evaluate.surprise_model import Scorer, open_scorer
from lossmith.evaluate.surprise_units import Units, units

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Surprisal:
    """Hold what each of the n tokens of a text cost a model, −ln p in nats; NaN where a token was not predicted.

    entropy float64[n] (nats, of the whole distribution), rank int64[n] (0: the first guess), position int64[n] (tokens
    of context seen), top_ids and top_nats [n, k] (first guesses). `method` is "causal", or "masked": −ln p of each
    token when it alone is hidden, whose sum is no code length. `model` names the model; context and stride are tokens.
    """

    text: str
    units: Units
    nats: Floats
    entropy: Floats
    rank: Ints
    position: Ints
    top_ids: Ints
    top_nats: Floats
    tokenizer: Tokenizer
    model: str
    method: str
    context: int
    stride: int

    @property
    def bits(self) -> Floats:
        """−log₂ p of each token."""
        return self.nats / math.log(2)

    @property
    def ids(self) -> Ints:
        """The tokens."""
        return self.units.ids

    @property
    def predicted(self) -> int:
        """Number of tokens with a surprisal: all, but for the first where nothing stands before it."""
        return int(np.isfinite(self.nats).sum() + np.isposinf(self.nats).sum())

    @property
    def total_nats(self) -> float:
        """Σ −ln p over the tokens."""
        return math.fsum(self.nats[~np.isnan(self.nats)].tolist())

    @property
    def loss(self) -> float:
        """Nats per predicted token; NaN of an empty text."""
        return self.total_nats / self.predicted if self.predicted else math.nan

    @property
    def bits_per_byte(self) -> float:
        """Σ −log₂ p / bytes of UTF-8; NaN of an empty text."""
        size = len(self.text.encode())
        return self.total_nats / math.log(2) / size if size else math.nan

    def unit_text(self, i: int) -> str:
        """Return the characters of unit i."""
        return self.text[self.units.bounds[i] : self.units.bounds[i + 1]]

    def summary(self) -> dict[str, Any]:
        """Return the totals: tokens, bytes, nats, bits, loss, bits per byte, and how they were measured."""
        return {
            "model": self.model,
            "method": self.method,
            "context": self.context,
            "stride": self.stride,
            "tokens": self.predicted,
            "characters": len(self.text),
            "bytes": len(self.text.encode()),
            "nats": self.total_nats,
            "bits": self.total_nats / math.log(2),
            "nats_per_token": self.loss,
            "bits_per_byte": self.bits_per_byte,
            "first_guess_right": float((self.rank == 0).sum() / self.predicted) if self.predicted else math.nan,
        }


def surprisal(
    model: Any,
    text: str,
    *,
    tokenizer: Any = None,
    context: int | None = None,
    stride: int | None = None,
    top: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Surprisal:
    """Return what each token of `text` costs a model: a folder, a trained run, or a model in memory with `tokenizer`.

    Every token is scored once, in windows of `context` tokens (default: the model's positions, at most 1,024) that
    begin `stride` after each other (default: half of it), so that all but the first see context − stride + 1 tokens or
    more; stride=1 gives each token all it can have, and costs a forward pass per token. The first token follows the
    document mark; where there is none it has no surprisal. `top` keeps the model's first guesses. A masked model hides
    one token at a time (pseudo-likelihood). Values are those of the model's dtype, sums float64.
    Errors: InputError for a text that the tokenizer cannot encode, and windows that cannot be.

    Source: Shannon 1948 (−log p as information); https://arxiv.org/abs/1910.14659 (pseudo-likelihood).
    """
    from lossmith.evaluate.surprise_windows import check_window

    scorer = open_scorer(model, tokenizer)
    if top < 0:
        raise InputError(f"top must be 0 or more; got {top}")
    context = scorer.context if context is None else context
    stride = max(1, context // 2) if stride is None else stride
    check_window(context, stride, max_positions(scorer.model))
    cut = units(scorer.tokenizer, text)
    rows = (_masked if scorer.masked else _causal)(scorer, cut.ids, context, stride, top, progress)
    return Surprisal(
        text,
        cut,
        *(rows.nats, rows.entropy, rows.rank, rows.position, rows.top_ids, rows.top_nats),
        scorer.tokenizer,
        scorer.name,
        "masked" if scorer.masked else "causal",
        context,
        stride,
    )


def _causal(scorer: Scorer, ids: Ints, context: int, stride: int, top: int, progress: Any) -> Any:
    from lossmith.evaluate.surprise_windows import score_causal

    start = [] if scorer.start_id is None else [scorer.start_id]
    sequence = np.concatenate([np.array(start, np.int64), ids])
    rows = score_causal(scorer.model, sequence, context=context, stride=stride, top=top, progress=progress)
    for name, values in vars(rows).items():
        setattr(rows, name, values[len(start) :])
    return rows


def _masked(scorer: Scorer, ids: Ints, context: int, stride: int, top: int, progress: Any) -> Any:
    from lossmith.evaluate.surprise_windows import score_masked

    before, mask, after = mask_marks(scorer)
    if context <= len(before) + len(after):
        raise InputError(f"--context must be above {len(before) + len(after)} for this model; got {context}")
    return score_masked(scorer.model, ids, (before, mask, after), context=context, top=top, progress=progress)


def mask_marks(scorer: Scorer) -> tuple[list[int], int, list[int]]:
    """Return the tokens a masked model expects before a text, the one that hides, and those after the text."""
    backend = scorer.tokenizer.backend
    for name in ("[MASK]", "<mask>", "<|mask|>"):
        mask = backend.token_to_id(name)
        if mask is not None:
            around = backend.encode("", add_special_tokens=True).ids
            return around[: len(around) // 2], int(mask), around[len(around) // 2 :]
    raise InputError(
        f"{scorer.name} is a masked model and its tokenizer has no [MASK] or <mask> token: "
        f"take the tokenizer it was trained with ({Path(scorer.tokenizer.spec).name} has none)"
    )
