"""Models with a sequence-classification head, and encoders of sentences, over the rows of a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lossmith.data.tokenizers import tokenized
from lossmith.errors import DataError, InputError
from lossmith.evaluate.bootstrap import Floats
from lossmith.evaluate.opening import check_fits, load
from lossmith.evaluate.sampling import max_positions

POOLINGS = ("mean", "cls", "last")


@dataclass
class Encoder:
    """Hold a model with its Hugging Face tokenizer; `longer` counts the texts that were cut to the context."""

    folder: Path
    model: Any
    tokenizer: Any
    context: int | None
    texts: int = 0
    longer: int = 0

    def batch(self, texts: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Return the model's inputs for rows of one text or two; what is longer than the context is cut and counted."""
        columns = [list(column) for column in zip(*texts, strict=True)]
        rows = tokenized(self.tokenizer, *columns)["input_ids"]
        self.texts += len(rows)
        self.longer += sum(len(row) > self.context for row in rows) if self.context else 0
        limits = {"truncation": True, "max_length": self.context} if self.context else {}
        made = tokenized(self.tokenizer, *columns, padding=len(texts) > 1, return_tensors="pt", **limits)
        return {name: tensor.to(self.model.device) for name, tensor in made.items()}

    def note(self) -> str | None:
        """Say how many texts were cut; None where none was."""
        if not self.longer:
            return None
        return (
            f"{self.longer:,} of {self.texts:,} texts are longer than the context of {self.context} tokens: cut to it"
        )


def open_encoder(folder: Path, kind: str, tokenizer: str | None = None, *, several: bool = False) -> Encoder:
    """Open a model of a transformers Auto class with its tokenizer; `several`: its head gives several labels to a text.

    Errors: DataError for a folder without the head that is asked for, or a tokenizer that does not fit the model.
    """
    from transformers import AutoTokenizer

    source = tokenizer or str(folder)
    try:
        loaded = AutoTokenizer.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        why = (str(error).splitlines() or [""])[0]
        raise DataError(f"{source} holds no tokenizer that can be read ({why}): give one with --tokenizer") from error
    if kind != "AutoModel":
        _check_head(folder, kind.removeprefix("AutoModel"), several)
    model = load(folder, kind)
    check_fits(len(loaded), model, folder)
    limits = (max_positions(model), loaded.model_max_length)
    known = [int(limit) for limit in limits if limit and limit < 10**9]
    return Encoder(folder, model, loaded, min(known) - position_offset(model) if known else None)


def position_offset(model: Any) -> int:
    """Return the positions that RoBERTa and its kin keep for padding: theirs begin after pad_token_id."""
    kin = ("roberta", "xlm-roberta", "camembert", "longformer", "mpnet")
    return int(model.config.pad_token_id) + 1 if model.config.model_type in kin else 0


def _check_head(folder: Path, head: str, several: bool) -> None:
    """A head that is not in the file would be made up of random numbers, and its figures be those of chance."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} holds no model that transformers knows: {error}") from error
    kinds = config.architectures or ["a model without a named architecture"]
    if not any(head in kind for kind in kinds):
        raise DataError(
            f"{folder} holds {kinds[0]}, which has no {'tagging' if 'Token' in head else 'classification'} head: "
            "fine-tune it first, or give --predictions FILE"
        )
    if "Sequence" in head and several != (config.problem_type == "multi_label_classification"):
        if several:
            raise InputError(f"{folder} gives one label to a text: say --task classification")
        raise InputError(f"{folder} gives several labels to a text: say --task multi_label")


def classes_of_model(model: Any) -> list[str]:
    """Return the names of a head's classes in order; those nobody named are "0", "1", …"""
    names = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
    return [str(i) for i in range(len(names))] if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names


def logits(encoder: Encoder, rows: Iterable[Sequence[str]], batch_size: int) -> Floats:
    """Return the head's outputs float64[n, K] for rows of one text or two, a batch at a time.

    Errors: DataError where they are not finite.
    """
    found: Floats = np.concatenate(
        [_forward(encoder, batch).logits.double().cpu().numpy() for batch in _batches(encoder, rows, batch_size)]
    )
    if not np.isfinite(found).all():
        raise DataError(f"the model in {encoder.folder} gives outputs that are not finite: its weights are broken")
    return found


def _forward(encoder: Encoder, batch: Sequence[Sequence[str]]) -> Any:
    import torch

    with torch.no_grad():
        return encoder.model(**encoder.batch(batch))


def _batches(encoder: Encoder, rows: Iterable[Sequence[str]], size: int) -> Iterator[list[Sequence[str]]]:
    """Without a token to pad with, rows go one by one."""
    if size < 1:
        raise InputError(f"--per-device-eval-batch-size must be 1 or more; got {size}")
    stream, size = iter(rows), size if encoder.tokenizer.pad_token_id is not None else 1
    while batch := list(islice(stream, size)):
        yield batch


def embeddings(encoder: Encoder, texts: Iterable[str], batch_size: int, pooling: str = "mean") -> Floats:
    """Return the unit vectors of texts, float64[n, D]: the mean over tokens of the last hidden states, or one of them.

    Errors: InputError for another pooling, DataError for a model whose states are not finite or all zero.
    """
    if pooling not in POOLINGS:
        raise InputError(f"--pooling must be one of {', '.join(POOLINGS)}; got {pooling!r}")
    parts = [_pooled(encoder, batch, pooling) for batch in _batches(encoder, ((text,) for text in texts), batch_size)]
    found = np.concatenate(parts)
    sizes = np.linalg.norm(found, axis=1, keepdims=True)
    if not np.isfinite(sizes).all() or not sizes.all():
        raise DataError(f"the model in {encoder.folder} gives embeddings that are zero or not finite: is it trained?")
    unit: Floats = found / sizes
    return unit


def _pooled(encoder: Encoder, texts: Sequence[Sequence[str]], pooling: str) -> Floats:
    import torch

    from lossmith.objectives.shared import pool

    inputs = encoder.batch(texts)
    with torch.no_grad():
        states = encoder.model(**inputs).last_hidden_state.double()
    mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
    vectors: Floats = pool(states, mask, pooling).cpu().numpy()
    return vectors
