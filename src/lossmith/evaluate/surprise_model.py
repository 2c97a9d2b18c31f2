"""A folder with a model, causal or masked, as `surprise` and `compress` need it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossmith.data import Tokenizer
from lossmith.errors import InputError
from lossmith.evaluate.sampling import max_positions
from lossmith.models.build import guesses_hidden, whole
from lossmith.models.folder import find_model

_LONGEST = 1024  # tokens of context taken by default of a model that has more: the rest costs time and wins little


@dataclass(frozen=True)
class Scorer:
    """Hold a model with its tokenizer; `masked`: it fills blanks instead of going on; `name`: what to call it."""

    model: Any
    tokenizer: Tokenizer
    masked: bool
    name: str

    @property
    def context(self) -> int:
        """Tokens of context that are used where none are asked for: the model's positions, at most 1,024."""
        return min(max_positions(self.model) or _LONGEST, _LONGEST)

    @property
    def start_id(self) -> int | None:
        """The token before the first of a text: the model's bos token, else the tokenizer's document mark, else none.

        >>> from lossmith.data import Tokenizer
        >>> from types import SimpleNamespace
        >>> Scorer(SimpleNamespace(config=SimpleNamespace(bos_token_id=None)), Tokenizer.byte(), False, "m").start_id
        256
        """
        own = getattr(self.model.config, "bos_token_id", None)
        return own if isinstance(own, int) else self.tokenizer.eos_id


def open_scorer(model: Any, tokenizer: Any = None) -> Scorer:
    """Open a folder (a run, a model, a checkpoint), a trained run, or a model in memory with its tokenizer.

    Errors: InputError where there is no such folder or no tokenizer, DataError where a folder holds no model.
    """
    if isinstance(model, Scorer):
        return model
    if isinstance(model, (str, Path)):
        return _from_folder(Path(model))
    if hasattr(model, "model_folder"):  # lossmith.load_run(...)
        if getattr(model.model.config, "is_encoder_decoder", False):
            return _from_folder(model.model_folder)  # which says why it cannot be
        return Scorer(model.model, model.tokenizer, guesses_hidden(type(model.model).__name__), model.path.name)
    if tokenizer is None:
        raise InputError("a model in memory needs tokenizer=, such as lossmith.data.Tokenizer.load(folder)")
    return Scorer(model, _own(tokenizer), guesses_hidden(type(model).__name__), type(model).__name__)


def _from_folder(path: Path) -> Scorer:
    import json

    from transformers.models.auto import modeling_auto

    folder = find_model(path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kinds = config.get("architectures") or []
    if any(name == "ElectraForPreTraining" or name.endswith("ForTokenClassification") for name in kinds):
        raise InputError(
            f"{folder} holds a model that judges tokens (ELECTRA's discriminator, a tagger) and predicts none: it has "
            "no surprise to tell"
        )
    if config.get("is_encoder_decoder"):
        raise InputError(
            f"{path} holds an encoder–decoder, which writes an answer to a text and gives no probability to the text "
            "itself: take a causal or a masked model"
        )
    masked = any(guesses_hidden(name) for name in kinds)
    # on every machine alike, in the dtype it was saved in: a compressed file is read where it was not written
    family = modeling_auto.AutoModelForMaskedLM if masked else modeling_auto.AutoModelForCausalLM
    return Scorer(whole(family, folder).eval(), Tokenizer.load(folder), masked, path.absolute().name)


def _own(tokenizer: Any) -> Tokenizer:
    """Take a tokenizer of ours, or one of transformers."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(f"tokenizer= must be a lossmith.data.Tokenizer or a fast tokenizer; got {type(tokenizer)}")
    return Tokenizer("hf", backend=backend, eos_id=tokenizer.eos_token_id)
