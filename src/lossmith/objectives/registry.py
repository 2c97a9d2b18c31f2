"""The objectives that `lossmith train --objective` knows: what each needs, and how it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lossmith.errors import InputError, did_you_mean
from lossmith.objectives.making import (
    Options,
    Vocabulary,
    causal_terms,
    check_causal_options,
    check_teacher,
    distill_terms,
    fit_causal,
    make_causal,
    make_contrastive,
    make_distill,
    make_distill_masked,
    make_masked,
    make_prefix,
    make_replaced_token,
    make_sentence_pair,
)
from lossmith.objectives.mixture import MixtureObjective, check_terms, parse
from lossmith.objectives.span_options import fit_span, make_span

Fit = Callable[[Vocabulary, Options, int], tuple[int, tuple[str, ...]]]


@dataclass(frozen=True)
class ObjectiveSpec:
    """What the trainer must know before an objective can be made.

    `architecture`: the key of lossmith.models.build.CLASSES. `roles`: special tokens that the tokenizer must have.
    `frame`: tokens of a block that are no text (or, for causal, −1: a block has one more than the model reads).
    `options`: names of the options that belong to it, with their defaults. `causal`: it predicts the next token, so
    that perplexity, bits per byte and samples mean what they always do. `additive`: False where splitting a batch
    changes the loss (in-batch negatives), so that gradient accumulation would train something else. `fit`: where
    roles and frame depend on options, tokenizer or context, it returns the tokens of text in a block and further roles
    (asked through `fitted`).
    """

    name: str
    description: str
    architecture: str
    make: Callable[[Vocabulary, Options, int], Any]
    roles: tuple[str, ...] = ()
    frame: int = -1
    fit: Fit | None = None
    examples: str = "blocks"
    """What its examples are: a key of lossmith.train.setup.EXAMPLES."""
    additive: bool = True
    keeps_documents_apart: bool = True
    """Whether --document-mask can be asked of it."""
    unit: str = "token"
    """What its loss is nats per."""
    options: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[Options], None] | None = None
    """Raises InputError for options that cannot work (asked through `refuse`)."""
    terms: Callable[[Options], tuple[str, ...]] | None = None
    """The names of its terms by its options; None: its own name."""

    @property
    def causal(self) -> bool:
        """Whether it predicts the next token."""
        return self.architecture == "causal"

    def refuse(self, options: Options) -> None:
        """Raise InputError for settled options that cannot work, before anything is read or written."""
        if self.check is not None:
            self.check(options)

    def fitted(self, vocabulary: Vocabulary, options: Options, context: int) -> tuple[int, tuple[str, ...]]:
        """Return the tokens of text in a block of a context, and the special tokens that the tokenizer must have."""
        if self.fit is None:
            return context - self.frame, self.roles
        text, further = self.fit(vocabulary, options, context)
        return text, (*self.roles, *further)


_MASK_OPTIONS = {"mask_rate": 0.15, "mask_unit": "token"}
_DISTILL_OPTIONS = {"teacher": None, "temperature": 1.0, "distill_direction": "forward", "distill_weight": 0.5}
_BERT_ROLES = ("pad", "cls", "sep", "mask")

OBJECTIVES: dict[str, ObjectiveSpec] = {
    spec.name: spec
    for spec in (
        ObjectiveSpec(
            "causal",
            "predict each token from those before it",
            "causal",
            make_causal,
            fit=fit_causal,
            check=check_causal_options,
            terms=causal_terms,
            options={"fim_rate": 0.0, "fim_spm_rate": 0.5, "mtp_heads": 0, "mtp_weight": 0.3},
        ),
        ObjectiveSpec(
            "prefix", "predict the rest of a text whose prefix is seen from both sides", "causal", make_prefix
        ),
        ObjectiveSpec(
            "distill",
            "learn a teacher's next-token distributions",
            "causal",
            make_distill,
            options=_DISTILL_OPTIONS,
            check=partial(check_teacher, "causal"),
            terms=partial(distill_terms, "causal"),
        ),
        ObjectiveSpec(
            "distill_masked",
            "learn a teacher's distributions of hidden tokens (DistilBERT)",
            "masked",
            make_distill_masked,
            roles=_BERT_ROLES,
            frame=2,
            options=_MASK_OPTIONS | _DISTILL_OPTIONS,
            check=partial(check_teacher, "masked"),
            terms=partial(distill_terms, "masked"),
        ),
        ObjectiveSpec(
            "masked",
            "guess hidden tokens from both sides (BERT)",
            "masked",
            make_masked,
            roles=_BERT_ROLES,
            frame=2,
            options=_MASK_OPTIONS,
        ),
        ObjectiveSpec(
            "sentence_pair",
            "guess hidden tokens, and whether a segment follows another (BERT, ALBERT)",
            "sentence_pair",
            make_sentence_pair,
            roles=_BERT_ROLES,
            frame=3,
            examples="pairs",
            options=_MASK_OPTIONS | {"sentence_task": "next"},
        ),
        ObjectiveSpec(
            "span",
            "write the spans that were taken out of a text (T5, UL2)",
            "seq2seq",
            make_span,
            roles=("pad",),
            fit=fit_span,
            options={"denoiser": "t5", "noise_rate": 0.15, "mean_span": 3.0},
            keeps_documents_apart=False,
        ),
        ObjectiveSpec(
            "replaced_token",
            "tell the tokens that a small generator put in from the original ones (ELECTRA)",
            "replaced_token",
            make_replaced_token,
            roles=_BERT_ROLES,
            frame=2,
            options=_MASK_OPTIONS | {"generator_size": 0.25, "discriminator_weight": 50.0},
        ),
        ObjectiveSpec(
            "contrastive",
            "find each text among others by another view of it, or by its pair (SimCSE)",
            "encoder",
            make_contrastive,
            roles=("pad", "cls", "sep"),
            frame=2,
            examples="sentences",
            additive=False,
            unit="pair",
            options={
                "sentence_split": "sentence",
                "pair_columns": None,
                "pooling": "mean",
                "temperature": 0.05,
                "learn_temperature": False,
                "dropout": 0.1,
                "mini_batch_size": None,
                "mlp_head": False,
            },
        ),
    )
}


MIXTURE_OPTIONS = {"mixture_mode": "sum"}


def spec_named(name: str) -> ObjectiveSpec:
    """Return the objective of a name, or the mixture of several: "causal:0.7+prefix:0.3".

    Errors: InputError for an unknown name, and for parts that cannot share one model.

    >>> spec_named("causal:0.7+prefix:0.3").architecture
    'causal'
    """
    weights = {name: 1.0} if name in OBJECTIVES else parse(name)
    for part in weights:
        if part not in OBJECTIVES:
            hint = did_you_mean(part, OBJECTIVES)
            mixed = ", or a mixture (causal:0.7+prefix:0.3)" if len(weights) > 1 else ""
            raise InputError(f"--objective must be one of {', '.join(OBJECTIVES)}{mixed}; got {part!r}.{hint}")
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    if len(weights) == 1:
        raise InputError(f"--objective {name}: a weight needs another part to weigh against (causal:0.7+prefix:0.3)")
    return _mixture(name, weights)


def _mixture(name: str, weights: Mapping[str, float]) -> ObjectiveSpec:
    specs = [OBJECTIVES[part] for part in weights]
    if len({(spec.architecture, spec.examples) for spec in specs}) > 1:
        kinds = {spec.architecture for spec in OBJECTIVES.values()}
        groups = [[spec.name for spec in OBJECTIVES.values() if spec.architecture == kind] for kind in sorted(kinds)]
        known = "; ".join(", ".join(group) for group in groups if len(group) > 1)
        raise InputError(f"--objective {name}: the parts of a mixture share one model. These go together: {known}")

    def fit(vocabulary: Vocabulary, options: Options, context: int) -> tuple[int, tuple[str, ...]]:
        texts, roles = zip(*(spec.fitted(vocabulary, options, context) for spec in specs), strict=True)
        return min(texts), tuple(dict.fromkeys(role for each in roles for role in each))

    def check(options: Options) -> None:
        for spec in specs:
            spec.refuse(options)
        check_terms({spec.name: spec.terms(options) if spec.terms else (spec.name,) for spec in specs}, name)

    def make(vocabulary: Vocabulary, options: Options, seed: int) -> MixtureObjective:
        parts = {spec.name: spec.make(vocabulary, options, seed) for spec in specs}
        return MixtureObjective(parts, weights, options["mixture_mode"], seed)

    return ObjectiveSpec(
        name,
        "; ".join(spec.description for spec in specs),
        specs[0].architecture,
        make,
        fit=fit,
        examples=specs[0].examples,
        additive=all(spec.additive for spec in specs),
        options={key: default for spec in specs for key, default in spec.options.items()} | MIXTURE_OPTIONS,
        check=check,
    )
