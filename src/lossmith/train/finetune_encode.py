"""Labelled rows as token ids: one text, a pair, words with tags; what is longer than the context is cut and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lossmith.data.labelled import Labelled
from lossmith.data.tokenizers import tokenized
from lossmith.errors import DataError, InputError
from lossmith.evaluate.tagging import first_places

AT_ONCE = 1000  # texts given to the tokenizer together


@dataclass
class Encoded:
    """Hold examples, which row each comes from, and what was longer than the context."""

    examples: list[dict[str, Any]] = field(default_factory=list)
    rows: list[Labelled] = field(default_factory=list)
    longer: int = 0
    """Rows with more tokens than the context."""
    cut_tokens: int = 0
    """Tokens of those rows that were cut off."""
    dropped: int = 0
    """Rows that were left out: too long with --truncation drop, or without a token that weighs."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(example["tokens"]) + len(example.get("labels", ())) for example in self.examples]


@dataclass(frozen=True)
class Coder:
    """How rows become ids: the tokenizer (transformers), the longest row, and what happens to longer ones."""

    tokenizer: Any
    longest: int
    truncation: str

    def texts(self, rows: Sequence[tuple[str, ...]]) -> list[dict[str, Any]]:
        """Return for rows of one text or two {"tokens", "types", "whole"}; whole: how many ids it had before a cut."""
        found = []
        for start in range(0, len(rows), AT_ONCE):
            columns = [list(column) for column in zip(*rows[start : start + AT_ONCE], strict=True)]
            whole = [len(ids) for ids in tokenized(self.tokenizer, *columns)["input_ids"]]
            made = tokenized(
                self.tokenizer, *columns, truncation=True, max_length=self.longest, return_token_type_ids=True
            )
            for ids, types, n in zip(made["input_ids"], made["token_type_ids"], whole, strict=True):
                found.append({"tokens": np.array(ids, np.int64), "types": np.array(types, np.int64), "whole": n})
        return found

    def words(self, words: Sequence[str]) -> dict[str, Any]:
        """Return {"tokens", "firsts", "whole"} of one row of words; firsts: place of each word's first token, or −1."""
        made = tokenized(self.tokenizer, list(words), is_split_into_words=True)
        ids, owners = made["input_ids"], made.word_ids()
        kept = len(ids)
        if kept > self.longest:
            made = tokenized(
                self.tokenizer, list(words), is_split_into_words=True, truncation=True, max_length=self.longest
            )
            owners = made.word_ids()
        found = first_places(owners)
        firsts = np.array([found.get(word, -1) for word in range(len(words))], np.int64)
        return {"tokens": np.array(made["input_ids"], np.int64), "firsts": firsts, "whole": kept}


def encode(
    rows: Sequence[Labelled], coder: Coder, made: Callable[[Sequence[Labelled]], list[dict[str, Any]]]
) -> Encoded:
    """Return the examples of rows; `made` gives one for each, whose "whole" says how many tokens it had uncut.

    Errors: DataError with --truncation error for the first row that is too long.
    """
    out = Encoded()
    for row, example in zip(rows, made(rows), strict=True):
        whole, kept = example.pop("whole"), len(example["tokens"])
        if whole > kept:
            out.longer += 1
            if coder.truncation == "error":
                raise DataError(
                    f"row {row.row} has {whole} tokens, and the context holds {coder.longest}: shorten it, or say "
                    "--truncation cut or --truncation drop"
                )
            if coder.truncation == "drop":
                out.dropped += 1
                continue
            out.cut_tokens += whole - kept
        if not kept or example.pop("weightless", False):
            out.dropped += 1
            continue
        out.examples.append(example)
        out.rows.append(row)
    return out


def check_whole(encoded: Encoded, what: str) -> None:
    """Raise InputError where not a row is left."""
    if not encoded.examples:
        raise InputError(
            f"no {what} row is left: {encoded.dropped} were longer than the context. Give a larger --max-length, or "
            "--truncation cut"
        )
