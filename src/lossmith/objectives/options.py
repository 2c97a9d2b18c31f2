"""Options of objectives: which there are, what is allowed. Their defaults stand with each objective's spec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from lossmith.objectives.distill import DIRECTIONS
from lossmith.objectives.embedding import POOLINGS
from lossmith.objectives.masking import UNITS
from lossmith.objectives.mixture import MODES
from lossmith.objectives.sentence_pair import TASKS
from lossmith.objectives.spans import DENOISERS


@dataclass(frozen=True, kw_only=True)
class ObjectiveOptions:
    """What is to be predicted from what. None means: not given; the default that the help names is taken."""

    objective: str | None = None
    """causal (the next token), prefix (after a part seen both ways), distill (a teacher's distribution), masked (hidden
    tokens), distill_masked (a teacher's of those), sentence_pair (and what follows what), span (spans, by an
    encoder–decoder), replaced_token (which tokens a generator put in), contrastive (a text among others), or a mixture:
    causal:0.7+prefix:0.3; default: causal."""
    fim_rate: float | None = None
    """causal: part of the documents that are cut in three, to learn to fill in the middle; default: 0."""
    fim_spm_rate: float | None = None
    """causal: part of the cut documents whose suffix comes before the prefix; default: 0.5."""
    mtp_heads: int | None = None
    """causal: further heads that predict the tokens after the next one; default: 0."""
    mtp_weight: float | None = None
    """causal: weight of the mean loss of the further heads; default: 0.3."""
    teacher: str | None = None
    """distill, distill_masked: folder of the model to learn from, or of the run that made it."""
    temperature: float | None = None
    """distill: what the logits of both are divided by; default: 1. contrastive: what cosines are; default: 0.05."""
    distill_direction: Literal["forward", "reverse", "js"] | None = None
    """distill: KL(teacher, student), KL(student, teacher) or Jensen-Shannon; default: forward."""
    distill_weight: float | None = None
    """distill: weight of the teacher, the text's own next token gets the rest; 1: teacher alone; default: 0.5."""
    mixture_mode: Literal["sum", "alternate"] | None = None
    """mixtures: all parts in every step, weighted, or one part a step, drawn by weight; default: sum."""
    mask_rate: float | None = None
    """masked, distill_masked, sentence_pair, replaced_token: part of the tokens that is hidden; default: 0.15."""
    mask_unit: Literal["token", "word", "span"] | None = None
    """with --mask-rate: hide single tokens, whole words, or spans of words; default: token."""
    sentence_task: Literal["next", "order"] | None = None
    """sentence_pair: is the second segment the next one (else of another document), or are both swapped (order)."""
    denoiser: Literal["t5", "ul2"] | None = None
    """span: t5 (one rate, one mean length) or ul2 (seven of both, each announced by a mode token); default: t5."""
    noise_rate: float | None = None
    """span, t5: part of the tokens that is taken out and must be written; default: 0.15."""
    mean_span: float | None = None
    """span, t5: tokens in a span, on average; default: 3."""
    generator_size: float | None = None
    """replaced_token: size of the generator as a part of the model's (ELECTRA: width, else layers); default: 0.25."""
    discriminator_weight: float | None = None
    """replaced_token: what the discriminator's loss is multiplied with; the generator's counts once. Default: 50."""
    sentence_split: Literal["line", "sentence", "document"] | None = None
    """contrastive: what a text is, a line, a sentence, or a whole document; default: sentence."""
    pair_columns: tuple[str, ...] | None = None
    """contrastive: columns of tables that hold anchor, positive and (if given) hard negative; default: single texts."""
    pooling: Literal["mean", "cls"] | None = None
    """contrastive: what stands for a text, the mean of its tokens' states or the first one; default: mean."""
    learn_temperature: bool | None = None
    """contrastive: learn the temperature, from --temperature on, between 0.01 and 1; default: False."""
    dropout: float | None = None
    """contrastive: dropout of all layers, which makes the two views of a text; default: 0.1."""
    mini_batch_size: int | None = None
    """contrastive: texts in one forward pass; memory is theirs, the loss that of the whole batch; default: all."""
    mlp_head: bool | None = None
    """contrastive: a layer and tanh between embedding and loss, in training only; default: False."""


CHOICES: dict[str, tuple[str, ...]] = {
    "mask_unit": UNITS,
    "sentence_task": TASKS,
    "distill_direction": tuple(DIRECTIONS),
    "mixture_mode": MODES,
    "denoiser": DENOISERS,
    "pooling": POOLINGS,
}
RANGES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("mask_rate", "noise_rate"), lambda x: 0 < x < 1, "between 0 and 1 (exclusive)"),
    (("mean_span",), lambda x: 1 <= x < float("inf"), "1 or more"),
    (("fim_rate", "fim_spm_rate"), lambda x: 0 <= x <= 1, "in [0, 1]"),
    (("distill_weight",), lambda x: 0 < x <= 1, "above 0 and at most 1"),
    (("temperature", "mtp_weight"), lambda x: 0 < x < float("inf"), "more than 0"),
    (("mtp_heads",), lambda x: x >= 0, "0 or more"),
    (("dropout",), lambda x: 0 <= x < 1, "in [0, 1)"),
    (("mini_batch_size",), lambda x: x >= 1, "at least 1"),
    (("generator_size",), lambda x: 0 < x <= 1, "in (0, 1]"),
    (("discriminator_weight",), lambda x: 0 < x < float("inf"), "more than 0"),
)
"""Names of options, the test that a value must pass, and the words for it."""
