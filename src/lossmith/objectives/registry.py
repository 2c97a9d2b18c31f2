"""The objectives that `lossmith train --objective` knows: what each needs, and how it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lossmith.objectives.causal import CausalObjective
from lossmith.objectives.contrastive import ContrastiveObjective
from lossmith.objectives.masked import MaskedObjective
from lossmith.objectives.masking import Masking
from lossmith.objectives.sentence_pair import SentencePairObjective


class Vocabulary(Protocol):
    """What an objective asks of a tokenizer."""

    vocab_size: int

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


@dataclass(frozen=True)
class ObjectiveSpec:
    """What the trainer must know before an objective can be made.

    `architecture`: the key of lossmith.models.build.CLASSES. `roles`: special tokens that the tokenizer must have.
    `frame`: tokens of a block that are no text (or, for causal, −1: a block has one more than the model reads).
    `options`: names of the options that belong to it, with their defaults. `causal`: it predicts the next token, so
    that perplexity, bits per byte and samples mean what they always do. `additive`: False where splitting a batch
    changes the loss (in-batch negatives), so that gradient accumulation would train something else.
    """

    name: str
    description: str
    architecture: str
    make: Callable[[Vocabulary, Options, int], Any]
    roles: tuple[str, ...] = ()
    frame: int = -1
    examples: str = "blocks"
    """What its examples are: a key of lossmith.train.setup.EXAMPLES."""
    additive: bool = True
    unit: str = "token"
    """What its loss is nats per."""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def causal(self) -> bool:
        """Whether it predicts the next token."""
        return self.architecture == "causal"


def _id(vocabulary: Vocabulary, role: str) -> int:
    number = vocabulary.special(role)
    assert number is not None, f"the tokenizer was not given a {role} token"
    return number


def masking_of(vocabulary: Vocabulary, options: Options) -> Masking:
    """Return the masking that --mask-rate and --mask-unit ask for."""
    unit, size = options["mask_unit"], vocabulary.vocab_size
    pieces = () if unit == "token" else vocabulary.pieces
    return Masking(size, _id(vocabulary, "mask"), vocabulary.special_ids, options["mask_rate"], unit, pieces)


def _causal(vocabulary: Vocabulary, options: Options, seed: int) -> CausalObjective:
    return CausalObjective()


def _masked(vocabulary: Vocabulary, options: Options, seed: int) -> MaskedObjective:
    cls_id, sep_id = _id(vocabulary, "cls"), _id(vocabulary, "sep")
    return MaskedObjective(masking_of(vocabulary, options), cls_id, sep_id, seed)


def _sentence_pair(vocabulary: Vocabulary, options: Options, seed: int) -> SentencePairObjective:
    cls_id, sep_id = _id(vocabulary, "cls"), _id(vocabulary, "sep")
    return SentencePairObjective(masking_of(vocabulary, options), cls_id, sep_id, seed, options["sentence_task"])


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
        ObjectiveSpec("causal", "predict each token from those before it", "causal", _causal),
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
