"""What the data room is asked for: inputs, tokenizer, split, cache."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lossmith.data.reading import check_encoding
from lossmith.data.splitting import SPLITS as SENTENCE_SPLITS
from lossmith.errors import InputError, did_you_mean

Progress = Callable[[str, int, "int | None"], None]
SPLITS = ("auto", "document", "tail")


def silent(what: str, done: int, total: int | None) -> None:
    """Report nothing: the default of every `progress` argument."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Say which text becomes which tokens, and which part of it is kept for validation.

    inputs: files, folders, globs, "-" (standard input) or the name of a corpus in `CORPORA`. A corpus name means the
    corpus even where a file of that name exists; write `./name` for the file.
    eval_file: explicit validation inputs; they win over the split, and are taken out of `inputs` where they occur.
    tokenizer: char, byte, bpe:SIZE, or a Hugging Face tokenizer folder.
    validation_fraction: share of the characters kept for validation, at most `validation_max_bytes` of UTF-8.
    split_by: document (whole documents, drawn by a seeded hash), tail (the last characters), auto (see `split`).
    sentence_split: each line or sentence becomes a document of its own (line, sentence); document or None: none does.
    pair_columns: 2 or 3 columns of tables whose cells become documents, a row's behind each other; they are not split.
    Errors: InputError for a value out of range.

    >>> DataConfig(inputs=("shakespeare",)).tokenizer
    'bpe:1024'
    """

    inputs: tuple[str, ...]
    eval_file: tuple[str, ...] = ()
    text_field: str | None = None
    encoding: str = "utf-8"
    tokenizer: str = "bpe:1024"
    validation_fraction: float = 0.1
    validation_max_bytes: int = 8 * 2**20
    split_by: str = "auto"
    cache_dir: str | None = None
    num_workers: int | None = None
    sentence_split: str | None = None
    pair_columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        self._check_split()
        check_encoding(self.encoding)
        self._check_texts()
        if not self.inputs:
            raise InputError("no input: expected files, folders, globs, '-' or the name of a corpus; got none")
        if self.num_workers is not None and self.num_workers < 1:
            raise InputError(f"--num-workers must be at least 1; got {self.num_workers}")

    def _check_split(self) -> None:
        if self.split_by not in SPLITS:
            hint = did_you_mean(self.split_by, SPLITS)
            raise InputError(f"--split-by must be one of {', '.join(SPLITS)}; got {self.split_by!r}.{hint}")
        if not 0 < self.validation_fraction < 1:
            raise InputError(
                f"--validation-fraction must be between 0 and 1 (exclusive); got {self.validation_fraction}"
            )
        if self.validation_max_bytes < 1:
            raise InputError(f"--validation-max-bytes must be at least 1; got {self.validation_max_bytes}")

    def _check_texts(self) -> None:
        if self.sentence_split not in (None, *SENTENCE_SPLITS):
            hint = did_you_mean(str(self.sentence_split), SENTENCE_SPLITS)
            known = ", ".join(SENTENCE_SPLITS)
            raise InputError(f"--sentence-split must be one of {known}; got {self.sentence_split!r}.{hint}")
        columns = self.pair_columns
        if columns is None:
            return
        if len(columns) not in (2, 3) or len(set(columns)) < len(columns):
            raise InputError(
                "--pair-columns must name two or three different columns: anchor, positive, and if there is one the "
                f"hard negative; got {' '.join(columns) or 'none'}"
            )
        if self.text_field is not None:
            raise InputError("--text-field names one column and --pair-columns several: give only one of them")
        if self.split_by == "tail":
            raise InputError("--split-by tail would cut through a row of --pair-columns: leave it out")

    @property
    def columns(self) -> int:
        """Documents that belong together: the columns of a pair, else 1."""
        return len(self.pair_columns or ("text",))

    @property
    def in_sentences(self) -> bool:
        """Whether a document is a line, a sentence or a cell: what a split must not cut."""
        return self.columns > 1 or self.sentence_split in ("line", "sentence")

    @property
    def workers(self) -> int:
        """Threads that tokenize: `num_workers`, or the cores this process may use."""
        return self.num_workers or len(_cores())

    @property
    def cache(self) -> Path:
        """Folder of the cache: cache_dir, $LOSSMITH_CACHE, $XDG_CACHE_HOME/lossmith, or ~/.cache/lossmith."""
        chosen = self.cache_dir or os.environ.get("LOSSMITH_CACHE")
        if chosen:
            return Path(chosen).expanduser().absolute()
        home = os.environ.get("XDG_CACHE_HOME")
        return (Path(home) if home else Path.home() / ".cache").absolute() / "lossmith"


def _cores() -> range | set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)
