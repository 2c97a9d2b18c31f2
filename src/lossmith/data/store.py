"""The token store: memory-mapped tokens and document bounds of a training and a validation part, found by content."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lossmith.data.config import DataConfig, Progress, silent
from lossmith.data.fingerprint import fingerprint
from lossmith.data.locks import building, remove_stale
from lossmith.data.sources import TABLES, Found, Source, expand
from lossmith.data.tokenizers import Tokenizer, check_spec
from lossmith.errors import DataError, InputError

PARTS = ("train", "validation")


@dataclass(frozen=True)
class Split:
    """One part of a store.

    tokens: uint16 or uint32, memory-mapped; each document is [eos_id] + its tokens. bounds: int64[documents + 1], where
    each document starts, and the end. n_bytes: UTF-8 bytes of the text. Predicting tokens[1:] predicts every token
    of the text once, so bits per byte = Σ nll / n_bytes / ln 2.
    """

    tokens: npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
    bounds: npt.NDArray[np.int64]
    n_bytes: int
    columns: int = 1
    """How many documents behind each other belong together: the columns of --pair-columns, else 1."""
    marked: bool = False
    """Whether documents begin with eos_id (known of stores made with --sentence-split or --pair-columns)."""

    @property
    def n_documents(self) -> int:
        """Documents in the part; one that the cut between the parts divides counts in both."""
        return len(self.bounds) - 1


class TokenStore:
    """A finished store in its folder: `train` and `validation`, the tokenizer, and what is known about them (`meta`).

    Errors: DataError when the folder holds no finished store.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.meta: dict[str, Any] = json.loads((self.path / "store.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{str(path)!r} holds no finished token store ({error}); remove it and try again"
            ) from error
        self.fingerprint: str = self.meta["fingerprint"]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the tokens."""
        return Tokenizer.load(self.path / "tokenizer")

    @cached_property
    def train(self) -> Split:
        """The part to learn from."""
        return self._part("train")

    @cached_property
    def validation(self) -> Split:
        """The part to judge by."""
        return self._part("validation")

    def _part(self, name: str) -> Split:
        tokens = np.memmap(self.path / f"{name}.bin", dtype=self.meta["dtype"], mode="r")
        bounds = np.load(self.path / f"{name}.bounds.npy", mmap_mode="r")
        texts = self.meta.get("columns", 1), self.meta.get("marked", False)
        return Split(tokens, bounds, self.meta[f"{name}_bytes"], *texts)


def open_store(config: DataConfig, progress: Progress | None = None) -> TokenStore:
    """Return the store of these inputs, tokenizer and options: the cached one, or a new one.

    Several processes may ask for the same store at once: one builds, the others wait and open what it built.
    Errors: InputError, DataError or MissingPackageError for inputs that cannot be used; DataError when the cache
    cannot be written. Nothing half-written is left behind or ever opened.
    """
    check_spec(config.tokenizer)
    with _kept_input(config) as kept:
        found, evaluation = _sources(config, kept)
        name = fingerprint(config, found.sources, evaluation.sources)
        final = config.cache / "stores" / name
        if not final.exists():
            with _writable(config.cache):
                _build(config, found, evaluation, final, progress or silent)
    return TokenStore(final)


def _build(config: DataConfig, found: Found, evaluation: Found, final: Path, progress: Progress) -> None:
    with building(final) as work:
        if work is None:
            return
        from lossmith.data.build import build  # only a build needs it, and opening must be quick

        remove_stale(final.parent)
        build(config, found, evaluation, work, final.name, progress)
        try:
            work.rename(final)
        except OSError as error:
            if not final.exists():  # else another process was first, with the same content
                raise error
        _sync_folder(final.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sources(config: DataConfig, kept: Path | None) -> tuple[Found, Found]:
    found, evaluation = with_input(expand(config.inputs), kept), with_input(expand(config.eval_file), kept)
    held = {_identity(source) for source in evaluation.sources}
    found.sources = [source for source in found.sources if _identity(source) not in held]
    if not found.sources:
        raise DataError(
            "--eval-file names every input: nothing is left to train on. Give other files to one of the two"
        )
    if config.pair_columns and any(source.kind in ("text", "corpus") for source in found.sources + evaluation.sources):
        raise InputError(
            f"--pair-columns names columns of {', '.join(TABLES)}, and an input is none of these: give tables alone"
        )
    plain = all(source.kind in ("text", "corpus") for source in found.sources + evaluation.sources)
    if config.text_field is not None and plain:
        raise InputError(
            f"--text-field {config.text_field!r} names a column or key of {', '.join(TABLES)}; "
            "none of the inputs is one of these: leave it out"
        )
    return found, evaluation


def with_input(found: Found, kept: Path | None) -> Found:
    """Put the file that standard input was kept in (`keep_input`) in its place among the sources."""
    found.sources = [
        replace(source, kind="text", path=kept) if source.kind == "stdin" else source for source in found.sources
    ]
    return found


def _identity(source: Source) -> str | Path:
    return source.path.resolve() if source.path else source.name


@contextmanager
def _kept_input(config: DataConfig) -> Iterator[Path | None]:
    """Write standard input, if asked for, to a file: it can be read only once, and a build reads more often."""
    if "-" not in (*config.inputs, *config.eval_file):
        yield None
        return
    path = config.cache / f"stdin-{os.getpid()}"
    try:
        with _writable(config.cache):
            config.cache.mkdir(parents=True, exist_ok=True)
            keep_input(path)
        yield path
    finally:
        path.unlink(missing_ok=True)


def keep_input(path: Path) -> None:
    """Write standard input to a file, a megabyte at a time."""
    with path.open("wb") as file:
        while block := sys.stdin.buffer.read(1 << 20):
            file.write(block)


_DISK = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "is over its quota",
    errno.EFBIG: "does not take a file of this size",
    errno.EROFS: "is read-only",
    errno.EACCES: "may not be written",
    errno.EPERM: "may not be written",
    errno.ENOTDIR: "is not a folder",
    errno.EEXIST: "is not a folder",
}


@contextmanager
def _writable(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = _DISK.get(error.errno or 0, f"cannot be used ({error.strerror or error})")
        raise DataError(
            f"the cache {str(cache)!r} {what}: building a token store needs room for about 3 to 5 times the text. "
            f"Make room, or choose another folder with --cache-dir or LOSSMITH_CACHE"
        ) from error
