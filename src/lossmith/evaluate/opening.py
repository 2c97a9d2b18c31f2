"""Open a Hugging Face folder for evaluation: its model, its tokenizer, and whether the two fit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossmith.data import Tokenizer
from lossmith.errors import DataError, InputError
from lossmith.evaluate.sampling import max_positions

UNLIMITED = 2048  # tokens a window has where a model names no longest context (as lm-evaluation-harness has it)


@dataclass(frozen=True)
class CausalModel:
    """Hold a causal model, its tokenizer, the token before a text (None: there is none), the context in tokens."""

    name: str
    model: Any
    tokenizer: Tokenizer
    prefix: int | None
    context: int


def open_causal(folder: Path, tokenizer: str | None = None, context: int | None = None) -> CausalModel:
    """Open a causal model with the tokenizer of its folder, or that of another one.

    Errors: InputError for a model that is not causal or a context beyond its positions, DataError for a folder that
    does not load or a tokenizer with more tokens than the model has embeddings.
    """
    from lossmith.models import check_causal

    source = Path(tokenizer) if tokenizer else folder
    if not source.is_dir():
        raise InputError(f"--tokenizer must be a folder with a tokenizer; got {tokenizer!r}, which does not exist")
    loaded = Tokenizer.load(source)
    model = load(folder, "AutoModelForCausalLM")
    check_fits(loaded.vocab_size, model, folder)
    check_causal(model, str(folder))
    limit = max_positions(model)
    if context is not None and (context < 1 or (limit and context > limit)):
        raise InputError(f"--context-length must be 1 … {limit or 'any'} for the model in {folder}; got {context}")
    return CausalModel(str(folder), model, loaded, start_token(loaded, source), context or limit or UNLIMITED)


def load(folder: Path, kind: str) -> Any:
    """Load a model of one of transformers' Auto classes, in evaluation mode, on the GPU where there is one.

    On a CPU in float32, on a GPU in the dtype it was saved in.
    Errors: DataError for a folder that transformers cannot load, or without all the weights of the model.
    """
    import torch
    import transformers

    from lossmith.models.build import whole

    cuda = torch.cuda.is_available()
    model = whole(getattr(transformers, kind), folder, dtype="auto" if cuda else torch.float32)
    return model.to("cuda" if cuda else "cpu").eval()


def check_fits(tokens: int, model: Any, folder: Path) -> None:
    """Raise DataError when a tokenizer of so many tokens has ids that the model does not know."""
    known = model.get_input_embeddings().weight.shape[0]
    if tokens > known:
        raise DataError(
            f"the tokenizer has {tokens} tokens and the model in {folder} has {known}: it is not the one the model was "
            "trained with. Give that one: --tokenizer FOLDER"
        )


def start_token(tokenizer: Tokenizer, folder: Path) -> int | None:
    """Return the token that a text follows: bos_token, else eos_token, else None (as lm-evaluation-harness chooses)."""
    if tokenizer.kind != "hf":
        return tokenizer.eos_id
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        bos = json.loads(path.read_text(encoding="utf-8")).get("bos_token") if path.is_file() else None
        bos = bos.get("content") if isinstance(bos, dict) else bos
        number = tokenizer.backend.token_to_id(bos) if isinstance(bos, str) else None
        if number is not None:
            return int(number)
    return tokenizer.eos_id


def unknown_token(tokenizer: Tokenizer) -> int | None:
    """Return the id that stands for what a tokenizer does not know; None where it knows everything."""
    if tokenizer.kind != "hf":
        return None
    name = getattr(tokenizer.backend.model, "unk_token", None)
    number = tokenizer.backend.token_to_id(name) if isinstance(name, str) else None
    return None if number is None else int(number)
