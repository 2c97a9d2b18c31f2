"""The objectives that `lossmith train --objective` knows: what each needs, and how it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from lossmith.errors import InputError, did_you_mean
from lossmith.models.build import build_model, has_weights
from lossmith.objectives.causal import CausalObjective
from lossmith.objectives.contrastive import ContrastiveObjective
from lossmith.objectives.distill import DistillObjective
from lossmith.objectives.infill import ROLES, FimObjective, cuts_in, room_for
from lossmith.objectives.masked import MaskedObjective
from lossmith.objectives.masking import Masking
from lossmith.objectives.mixture import MixtureObjective, parse
from lossmith.objectives.multi_token import MultiTokenObjective
from lossmith.objectives.prefix import PrefixObjective
from lossmith.objectives.replaced_token import ReplacedTokenObjective
from lossmith.objectives.sentence_pair import SentencePairObjective
from lossmith.objectives.span_options import fit_span, make_span


class Vocabulary(Protocol):
    """What an objective asks of a tokenizer."""

    vocab_size: int
    eos_id: int | None

    @property
    def pieces(self) -> Sequence[bytes]:
        """The bytes of each token."""
        ...

    @property
    def special_ids(self) -> frozenset[int]:
        """The tokens that stand for no text."""
        ...

    def special(self, role: str) -> int | None:
        """Return the token for a role."""
        ...


Options = Mapping[str, Any]
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

    @property
    def causal(self) -> bool:
        """Whether it predicts the next token."""
        return self.architecture == "causal"

    def fitted(self, vocabulary: Vocabulary, options: Options, context: int) -> tuple[int, tuple[str, ...]]:
        """Return the tokens of text in a block of a context, and the special tokens that the tokenizer must have."""
        if self.fit is None:
            return context - self.frame, self.roles
        text, further = self.fit(vocabulary, options, context)
        return text, (*self.roles, *further)


def _id(vocabulary: Vocabulary, role: str) -> int:
    number = vocabulary.special(role)
    assert number is not None, f"the tokenizer was not given a {role} token"
    return number


def masking_of(vocabulary: Vocabulary, options: Options) -> Masking:
    """Return the masking that --mask-rate and --mask-unit ask for."""
    unit, size = options["mask_unit"], vocabulary.vocab_size
    pieces = () if unit == "token" else vocabulary.pieces
    return Masking(size, _id(vocabulary, "mask"), vocabulary.special_ids, options["mask_rate"], unit, pieces)


def _causal(vocabulary: Vocabulary, options: Options, seed: int) -> CausalObjective | MultiTokenObjective:
    base, heads = CausalObjective(), options["mtp_heads"]
    if options["fim_rate"]:
        prefix, middle, suffix = (_id(vocabulary, role) for role in ROLES[1:])
        base = FimObjective(
            (prefix, middle, suffix), _id(vocabulary, "pad"), vocabulary.eos_id, options["fim_rate"],
            options["fim_spm_rate"], cuts_in(options["block_size"]), seed,
        )  # fmt: skip
    if heads >= options["block_size"]:
        raise InputError(f"--mtp-heads must be less than --block-size {options['block_size']}; got {heads}")
    return MultiTokenObjective(base, heads, options["mtp_weight"], seed) if heads else base


def _fit_causal(vocabulary: Vocabulary, options: Options, context: int) -> tuple[int, tuple[str, ...]]:
    """A block has one token more than the model reads; where documents are cut, it keeps room for their marks."""
    return (context + 1 - room_for(context), ROLES) if options["fim_rate"] else (context + 1, ())


def _prefix(vocabulary: Vocabulary, options: Options, seed: int) -> PrefixObjective:
    return PrefixObjective(seed)


def _distill(vocabulary: Vocabulary, options: Options, seed: int) -> DistillObjective:
    folder = options["teacher"]
    if folder is None or not has_weights(Path(folder)):
        got = "none" if folder is None else repr(folder)
        raise InputError(
            f"--objective distill needs --teacher FOLDER, a trained model or the run that made it; got {got}"
        )
    load = partial(build_model, folder, vocab_size=vocabulary.vocab_size, context=options["block_size"])
    shape = (options["distill_weight"], options["temperature"], options["distill_direction"])
    return DistillObjective(CausalObjective(), load, *shape)


def _masked(vocabulary: Vocabulary, options: Options, seed: int) -> MaskedObjective:
    cls_id, sep_id = _id(vocabulary, "cls"), _id(vocabulary, "sep")
    return MaskedObjective(masking_of(vocabulary, options), cls_id, sep_id, seed)


def _sentence_pair(vocabulary: Vocabulary, options: Options, seed: int) -> SentencePairObjective:
    cls_id, sep_id = _id(vocabulary, "cls"), _id(vocabulary, "sep")
    return SentencePairObjective(masking_of(vocabulary, options), cls_id, sep_id, seed, options["sentence_task"])


def _replaced_token(vocabulary: Vocabulary, options: Options, seed: int) -> ReplacedTokenObjective:
    masked = _masked(vocabulary, options, seed)
    masked = replace(masked, masking=replace(masked.masking, mask_share=0.85, random_share=0.0))
    return ReplacedTokenObjective(masked, options["generator_size"], options["discriminator_weight"])


def _contrastive(vocabulary: Vocabulary, options: Options, seed: int) -> ContrastiveObjective:
    cls_id, sep_id, pad_id = (_id(vocabulary, role) for role in ("cls", "sep", "pad"))
    names = ("pooling", "temperature", "learn_temperature", "dropout", "mini_batch_size", "mlp_head")
    chosen = {name: options[name] for name in names}
    columns = len(options["pair_columns"] or ("text",))
    return ContrastiveObjective(cls_id, sep_id, pad_id, columns, seed=seed, **chosen)


_MASK_OPTIONS = {"mask_rate": 0.15, "mask_unit": "token"}
_BERT_ROLES = ("pad", "cls", "sep", "mask")

OBJECTIVES: dict[str, ObjectiveSpec] = {
    spec.name: spec
    for spec in (
        ObjectiveSpec(
            "causal",
            "predict each token from those before it",
            "causal",
            _causal,
            fit=_fit_causal,
            options={"fim_rate": 0.0, "fim_spm_rate": 0.5, "mtp_heads": 0, "mtp_weight": 0.3},
        ),
        ObjectiveSpec("prefix", "predict the rest of a text whose prefix is seen from both sides", "causal", _prefix),
        ObjectiveSpec(
            "distill",
            "learn a teacher's next-token distributions",
            "causal",
            _distill,
            options={"teacher": None, "temperature": 1.0, "distill_direction": "forward", "distill_weight": 0.5},
        ),
        ObjectiveSpec(
            "masked",
            "guess hidden tokens from both sides (BERT)",
            "masked",
            _masked,
            roles=_BERT_ROLES,
            frame=2,
            options=_MASK_OPTIONS,
        ),
        ObjectiveSpec(
            "sentence_pair",
            "guess hidden tokens, and whether a segment follows another (BERT, ALBERT)",
            "sentence_pair",
            _sentence_pair,
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
            _replaced_token,
            roles=_BERT_ROLES,
            frame=2,
            options=_MASK_OPTIONS | {"generator_size": 0.25, "discriminator_weight": 50.0},
        ),
        ObjectiveSpec(
            "contrastive",
            "find each text among others by another view of it, or by its pair (SimCSE)",
            "encoder",
            _contrastive,
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
    )
