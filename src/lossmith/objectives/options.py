"""Options of objectives: which there are, what is allowed. Their defaults stand with each objective's spec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from lossmith.objectives.masking import UNITS
from lossmith.objectives.sentence_pair import TASKS


@dataclass(frozen=True, kw_only=True)
class ObjectiveOptions:
    """What is to be predicted from what. None means: not given; the default that the help names is taken."""

    objective: Literal["causal", "masked", "sentence_pair", "replaced_token"] | None = None
    """causal (the next token), masked (hidden tokens), sentence_pair (and what follows what), replaced_token (which
    tokens a generator put in); default: causal."""
    mask_rate: float | None = None
    """masked, sentence_pair, replaced_token: part of the tokens that is hidden; default: 0.15."""
    mask_unit: Literal["token", "word", "span"] | None = None
    """masked, sentence_pair, replaced_token: hide single tokens, whole words, or spans of words; default: token."""
    sentence_task: Literal["next", "order"] | None = None
    """sentence_pair: is the second segment the next one (else of another document), or are both swapped (order)."""
    generator_size: float | None = None
    """replaced_token: width of the generator as a part of the model's; default: 0.25."""
    discriminator_weight: float | None = None
    """replaced_token: what the discriminator's loss is multiplied with; the generator's counts once. Default: 50."""


CHOICES: dict[str, tuple[str, ...]] = {"mask_unit": UNITS, "sentence_task": TASKS}
RANGES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("mask_rate",), lambda x: 0 < x < 1, "between 0 and 1 (exclusive)"),
    (("generator_size",), lambda x: 0 < x <= 1, "in (0, 1]"),
    (("discriminator_weight",), lambda x: 0 < x < float("inf"), "more than 0"),
)
"""Names of options, the test that a value must pass, and the words for it."""
