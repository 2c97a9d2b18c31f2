"""Options of objectives: which there are, what is allowed. Their defaults stand with each objective's spec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from lossmith.objectives.masking import UNITS
from lossmith.objectives.sentence_pair import TASKS
from lossmith.objectives.spans import DENOISERS


@dataclass(frozen=True, kw_only=True)
class ObjectiveOptions:
    """What is to be predicted from what. None means: not given; the default that the help names is taken."""

    objective: Literal["causal", "masked", "sentence_pair", "span"] | None = None
    """causal (the next token), masked (hidden tokens), sentence_pair (and what follows what), span (spans, by an
    encoder–decoder); default: causal."""
    mask_rate: float | None = None
    """masked, sentence_pair: part of the tokens that is hidden; default: 0.15."""
    mask_unit: Literal["token", "word", "span"] | None = None
    """masked, sentence_pair: hide single tokens, whole words, or spans of words; default: token."""
    sentence_task: Literal["next", "order"] | None = None
    """sentence_pair: is the second segment the next one (else of another document), or are both swapped (order)."""
    denoiser: Literal["t5", "ul2"] | None = None
    """span: t5 (one rate, one mean length) or ul2 (seven of both, each announced by a mode token); default: t5."""
    noise_rate: float | None = None
    """span, t5: part of the tokens that is taken out and must be written; default: 0.15."""
    mean_span: float | None = None
    """span, t5: tokens in a span, on average; default: 3."""


CHOICES: dict[str, tuple[str, ...]] = {"mask_unit": UNITS, "sentence_task": TASKS, "denoiser": DENOISERS}
RANGES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("mask_rate", "noise_rate"), lambda x: 0 < x < 1, "between 0 and 1 (exclusive)"),
    (("mean_span",), lambda x: 1 <= x < float("inf"), "1 or more"),
)
"""Names of options, the test that a value must pass, and the words for it."""
