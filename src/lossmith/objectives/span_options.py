"""From options to a `SpanObjective`: its denoisers, the window that they fill, the tokens that they need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from lossmith.errors import InputError
from lossmith.objectives.span import SpanObjective
from lossmith.objectives.spans import UL2, Denoiser, sentinels_needed, text_in_window


class _Vocabulary(Protocol):
    eos_id: int | None

    def special(self, role: str) -> int | None:
        """Return the token for a role."""
        ...


def denoisers_of(options: Mapping[str, Any]) -> tuple[Denoiser, ...]:
    """Return the denoisers of --denoiser, --noise-rate and --mean-span; InputError where ul2 is given its own rate.

    >>> denoisers_of({"denoiser": "t5", "noise_rate": 0.15, "mean_span": 3.0})
    (Denoiser(rate=0.15, mean_span=3.0, mode='', prefix=False),)
    """
    own = Denoiser(options["noise_rate"], options["mean_span"])
    if options["denoiser"] == "t5":
        return (own,)
    if own != Denoiser(0.15, 3.0):
        raise InputError("--noise-rate and --mean-span belong to --denoiser t5; ul2 has seven of both: leave them out")
    return UL2


def fit_span(vocabulary: _Vocabulary, options: Mapping[str, Any], context: int) -> tuple[int, tuple[str, ...]]:
    """Return the tokens of text in a block, and the roles of the tokens needed: sentinels, modes, an end.

    The window is the longest whose encoder input and decoder target fit the context, as in T5
    (https://arxiv.org/abs/1910.10683; compute_input_and_target_lengths).
    """
    denoisers = denoisers_of(options)
    text = text_in_window(denoisers, context)
    sentinels = [f"extra_id_{number}" for number in range(sentinels_needed(denoisers, max(text, 1)))]
    modes = sorted({denoiser.mode for denoiser in denoisers} - {""})
    return text, (*(["sep"] if vocabulary.eos_id is None else []), *modes, *sentinels)


def make_span(vocabulary: _Vocabulary, options: Mapping[str, Any], seed: int) -> SpanObjective:
    """Make the objective for a tokenizer that has the tokens of `fit_span`."""
    denoisers = denoisers_of(options)
    sentinels: list[int] = []
    while (number := vocabulary.special(f"extra_id_{len(sentinels)}")) is not None:
        sentinels.append(number)
    end = vocabulary.eos_id if vocabulary.eos_id is not None else vocabulary.special("sep")
    pad = vocabulary.special("pad")
    if end is None or pad is None or not sentinels:
        raise AssertionError("the tokenizer was not given the tokens of fit_span")
    modes = {denoiser.mode: vocabulary.special(denoiser.mode) for denoiser in denoisers if denoiser.mode}
    known = {role: number for role, number in modes.items() if number is not None}
    return SpanObjective(denoisers, np.array(sentinels, np.int64), end, pad, known, seed)
