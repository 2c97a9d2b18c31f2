"""Options of objectives: which there are, what is allowed. Their defaults stand with each objective's spec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from lossmith.objectives.embedding import POOLINGS
from lossmith.objectives.masking import UNITS
from lossmith.objectives.sentence_pair import TASKS


@dataclass(frozen=True, kw_only=True)
class ObjectiveOptions:
    """What is to be predicted from what. None means: not given; the default that the help names is taken."""

    objective: Literal["causal", "masked", "sentence_pair", "contrastive"] | None = None
    """causal (the next token), masked (hidden tokens), sentence_pair (and what follows what),
    contrastive (a text among others, by another view of it or its pair); default: causal."""
    mask_rate: float | None = None
    """masked, sentence_pair: part of the tokens that is hidden; default: 0.15."""
    mask_unit: Literal["token", "word", "span"] | None = None
    """masked, sentence_pair: hide single tokens, whole words, or spans of words; default: token."""
    sentence_task: Literal["next", "order"] | None = None
    """sentence_pair: is the second segment the next one (else of another document), or are both swapped (order)."""
    sentence_split: Literal["line", "sentence", "document"] | None = None
    """contrastive: what a text is, a line, a sentence, or a whole document; default: sentence."""
    pair_columns: tuple[str, ...] | None = None
    """contrastive: columns of tables that hold anchor, positive and (if given) hard negative; default: single texts."""
    pooling: Literal["mean", "cls"] | None = None
    """contrastive: what stands for a text, the mean of its tokens' states or the first one; default: mean."""
    temperature: float | None = None
    """contrastive: what cosines are divided by; default: 0.05."""
    learn_temperature: bool | None = None
    """contrastive: learn the temperature, from --temperature on, between 0.01 and 1; default: False."""
    dropout: float | None = None
    """contrastive: dropout of all layers, which makes the two views of a text; default: 0.1."""
    mini_batch_size: int | None = None
    """contrastive: texts in one forward pass; memory is theirs, the loss that of the whole batch; default: all."""
    mlp_head: bool | None = None
    """contrastive: a layer and tanh between embedding and loss, in training only; default: False."""


CHOICES: dict[str, tuple[str, ...]] = {"mask_unit": UNITS, "sentence_task": TASKS, "pooling": POOLINGS}
RANGES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("mask_rate",), lambda x: 0 < x < 1, "between 0 and 1 (exclusive)"),
    (("temperature",), lambda x: 0 < x < float("inf"), "more than 0"),
    (("dropout",), lambda x: 0 <= x < 1, "in [0, 1)"),
    (("mini_batch_size",), lambda x: x >= 1, "at least 1"),
)
"""Names of options, the test that a value must pass, and the words for it."""
