"""From options to objectives: how each is made for a tokenizer, and which options are refused before anything is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from lossmith.errors import InputError
from lossmith.models.build import architectures, build_model, guesses_hidden, has_weights
from lossmith.models.causality import check_causal
from lossmith.objectives.causal import CausalObjective
from lossmith.objectives.contrastive import ContrastiveObjective
from lossmith.objectives.distill import DistillObjective
from lossmith.objectives.infill import ROLES, FimObjective, cuts_in, room_for
from lossmith.objectives.masked import MaskedObjective
from lossmith.objectives.masking import Masking
from lossmith.objectives.multi_token import MultiTokenObjective
from lossmith.objectives.prefix import PrefixObjective
from lossmith.objectives.replaced_token import ReplacedTokenObjective
from lossmith.objectives.sentence_pair import SentencePairObjective


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


def _id(vocabulary: Vocabulary, role: str) -> int:
    number = vocabulary.special(role)
    assert number is not None, f"the tokenizer was not given a {role} token"
    return number


def masking_of(vocabulary: Vocabulary, options: Options) -> Masking:
    """Return the masking that --mask-rate and --mask-unit ask for."""
    unit, size = options["mask_unit"], vocabulary.vocab_size
    pieces = () if unit == "token" else vocabulary.pieces
    return Masking(size, _id(vocabulary, "mask"), vocabulary.special_ids, options["mask_rate"], unit, pieces)


def make_causal(vocabulary: Vocabulary, options: Options, seed: int) -> CausalObjective | MultiTokenObjective:
    """Return the objective of next tokens: plain, with cut documents, or with further heads."""
    base, heads = CausalObjective(), options["mtp_heads"]
    if options["fim_rate"]:
        prefix, middle, suffix = (_id(vocabulary, role) for role in ROLES[1:])
        base = FimObjective(
            (prefix, middle, suffix), _id(vocabulary, "pad"), vocabulary.eos_id, options["fim_rate"],
            options["fim_spm_rate"], cuts_in(options["block_size"]), seed,
        )  # fmt: skip
    return MultiTokenObjective(base, heads, options["mtp_weight"], seed) if heads else base


def check_causal_options(options: Options) -> None:
    """Raise InputError for more heads than there are places to guess."""
    if options["mtp_heads"] >= options["block_size"]:
        raise InputError(
            f"--mtp-heads must be less than --block-size {options['block_size']}; got {options['mtp_heads']}"
        )


def causal_terms(options: Options) -> tuple[str, ...]:
    """Return the names of the terms of causal: its own or that of cut documents, then those of the heads."""
    heads = MultiTokenObjective(CausalObjective(), options["mtp_heads"], options["mtp_weight"])
    return ((FimObjective if options["fim_rate"] else CausalObjective).term, *heads.names[1:])


def fit_causal(vocabulary: Vocabulary, options: Options, context: int) -> tuple[int, tuple[str, ...]]:
    """A block has one token more than the model reads; where documents are cut, it keeps room for their marks."""
    return (context + 1 - room_for(context), ROLES) if options["fim_rate"] else (context + 1, ())


def make_prefix(vocabulary: Vocabulary, options: Options, seed: int) -> PrefixObjective:
    """Return the objective of texts whose prefix is seen from both sides."""
    return PrefixObjective(seed)


def check_teacher(task: str, options: Options) -> None:
    """Raise InputError where --teacher names no trained model, or one that guesses other tokens than the student."""
    folder = options["teacher"]
    if folder is None or not has_weights(Path(folder)):
        got = "none" if folder is None else repr(folder)
        raise InputError(f"distillation needs --teacher FOLDER, a trained model or the run that made it; got {got}")
    kinds = architectures(Path(folder))
    masked = any(guesses_hidden(kind) for kind in kinds)
    if kinds and masked != (task == "masked"):
        advice = ": for a masked one say --objective distill_masked" if masked else ""
        raise InputError(f"--teacher must be a {task} language model; {folder} holds {kinds[0]}{advice}")


def distill_terms(task: str, options: Options) -> tuple[str, ...]:
    """Return the names of the terms of distill: its own, and the task's where the teacher does not weigh all."""
    return ("distill", task) if options["distill_weight"] < 1 else ("distill",)


def make_distill(vocabulary: Vocabulary, options: Options, seed: int) -> DistillObjective:
    """Return the objective of a teacher's distributions of next tokens."""
    return _distilled(CausalObjective(), "causal", vocabulary, options)


def make_distill_masked(vocabulary: Vocabulary, options: Options, seed: int) -> DistillObjective:
    """Return the objective of a teacher's distributions of hidden tokens."""
    return _distilled(make_masked(vocabulary, options, seed), "masked", vocabulary, options)


def _distilled(
    task: CausalObjective | MaskedObjective, architecture: str, vocabulary: Vocabulary, options: Options
) -> DistillObjective:
    check_teacher(architecture, options)

    def load() -> Any:
        folder = options["teacher"]
        sizes = {"vocab_size": vocabulary.vocab_size, "context": options["block_size"]}
        teacher = build_model(folder, architecture=architecture, complete=True, **sizes)
        if architecture == "causal":
            check_causal(teacher, folder, "--teacher")
        return teacher

    shape = (options["distill_weight"], options["temperature"], options["distill_direction"])
    return DistillObjective(task, load, *shape)


def make_masked(vocabulary: Vocabulary, options: Options, seed: int) -> MaskedObjective:
    """Return the objective of hidden tokens."""
    cls_id, sep_id = _id(vocabulary, "cls"), _id(vocabulary, "sep")
    return MaskedObjective(masking_of(vocabulary, options), cls_id, sep_id, seed)


def make_sentence_pair(vocabulary: Vocabulary, options: Options, seed: int) -> SentencePairObjective:
    """Return the objective of hidden tokens and of what follows what."""
    cls_id, sep_id = _id(vocabulary, "cls"), _id(vocabulary, "sep")
    return SentencePairObjective(masking_of(vocabulary, options), cls_id, sep_id, seed, options["sentence_task"])


def make_replaced_token(vocabulary: Vocabulary, options: Options, seed: int) -> ReplacedTokenObjective:
    """Return the objective of tokens that a generator put in."""
    masked = make_masked(vocabulary, options, seed)
    masked = replace(masked, masking=replace(masked.masking, mask_share=0.85, random_share=0.0))
    return ReplacedTokenObjective(masked, options["generator_size"], options["discriminator_weight"])


def make_contrastive(vocabulary: Vocabulary, options: Options, seed: int) -> ContrastiveObjective:
    """Return the objective of texts among others."""
    cls_id, sep_id, pad_id = (_id(vocabulary, role) for role in ("cls", "sep", "pad"))
    names = ("pooling", "temperature", "learn_temperature", "dropout", "mini_batch_size", "mlp_head")
    chosen = {name: options[name] for name in names}
    columns = len(options["pair_columns"] or ("text",))
    return ContrastiveObjective(cls_id, sep_id, pad_id, columns, seed=seed, **chosen)
