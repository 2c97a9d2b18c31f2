"""A batch in words: what the model sees, and what it must guess."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Protocol

from torch import Tensor

from lossmith.models.mode import evaluating


class Decoder(Protocol):
    """What showing a batch asks of a tokenizer."""

    def decode(self, ids: Any, *, special: bool = False) -> str:
        """Return the text of ids."""
        ...

    def token_text(self, id: int) -> str:
        """Return one token in readable form."""
        ...


def describe(batch: dict[str, Tensor], tokenizer: Decoder, objective: Any = None) -> list[dict[str, Any]]:
    """Return for each row of a batch {"sees": text, "tokens": n, "guesses": [{"place", "sees", "answer"}, …]}.

    A guess is made at a place of the input; "sees" there is the token that stands in it, "answer" what is asked.
    Other labels of the row (is the second segment the next one?) come under their own name; what the objective says of
    a row under "says". The rows of a mixture come part by part, with "part". An objective that describes its batches
    itself (`described`) is asked to.
    """
    if hasattr(objective, "described"):
        told: list[dict[str, Any]] = objective.described(batch, tokenizer)
        return told
    if hasattr(objective, "split"):
        parts = objective.split(batch)
        return [{"part": name} | row for name, part, own in parts for row in describe(own, tokenizer, part)]
    rows = []
    for index, (ids, labels) in enumerate(zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True)):
        asked = [(place, ids[place], label) for place, label in enumerate(labels) if label != -100]
        guesses = [
            {"place": place, "sees": tokenizer.token_text(seen), "answer": tokenizer.token_text(answer)}
            for place, seen, answer in asked
        ]
        row: dict[str, Any] = {"sees": tokenizer.decode(ids, special=True), "tokens": len(ids), "guesses": guesses}
        if "sentence_labels" in batch:
            label = int(batch["sentence_labels"][index])
            row |= {
                "sentence_label": label,
                "says": "the second part " + ("is no continuation" if label else "follows"),
            }
        if hasattr(objective, "says"):
            row["says"] = objective.says(batch, index)
        rows.append(row)
    return rows


def marked(ids: list[int], marks: list[bool], tokenizer: Decoder) -> str:
    """Return the text of ids with «» around the marked ones; neighbours, and parts of one character, share them.

    >>> from lossmith.data import Tokenizer
    >>> marked([104, 105, 228, 189, 160, 33], [True, False, False, True, False, False], Tokenizer.byte())
    '«h»i«你»!'
    """
    characters: list[tuple[list[int], bool]] = []  # tokens that are one character together
    for number, mark in zip(ids, marks, strict=True):
        open_ = characters and tokenizer.decode(characters[-1][0], special=True).endswith("\ufffd")
        if open_ and len(characters[-1][0]) < 4:
            characters[-1] = ([*characters[-1][0], number], characters[-1][1] or mark)
        else:
            characters.append(([number], mark))
    same = groupby(characters, key=lambda one: one[1])
    groups = [([number for part, _ in parts for number in part], mark) for mark, parts in same]
    texts = [(tokenizer.decode(group, special=True), mark) for group, mark in groups]
    # WordPiece and SentencePiece put no space before what they decode first.
    between = "" if "".join(text for text, _ in texts) == tokenizer.decode(ids, special=True) else " "
    return between.join(f"«{text}»" if mark else text for text, mark in texts)


def shown(
    model: Any, objective: Any, batch: dict[str, Tensor], tokenizer: Decoder, length: int
) -> tuple[str, str] | None:
    """Return a prompt and what the model makes of it: its guesses, or what the objective shows; None for neither."""
    if hasattr(objective, "shown"):
        device = next(model.parameters()).device
        batch = {key: value.to(device) for key, value in batch.items()}
        with evaluating(model):
            made: tuple[str, str] = objective.shown(model, batch, tokenizer, length)
        return made
    return fill_in(model, objective, batch, tokenizer, length) if hasattr(objective, "guesses") else None


def fill_in(model: Any, objective: Any, batch: dict[str, Tensor], tokenizer: Decoder, length: int) -> tuple[str, str]:
    """Return the first `length` tokens of a batch's first row as the model sees them, and with its guesses in place."""
    device = next(model.parameters()).device
    batch = {key: value.to(device) for key, value in batch.items()}
    with evaluating(model):
        guesses = objective.guesses(model, batch)
    filled = batch["input_ids"].flatten().clone()
    filled[batch["rows"]] = guesses
    seen, text = (ids.flatten()[:length].tolist() for ids in (batch["input_ids"][0], filled))
    return tokenizer.decode(seen, special=True), tokenizer.decode(text, special=True)
