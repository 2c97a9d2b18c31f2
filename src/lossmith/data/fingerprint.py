"""Names for content: a store is found again by what went into it, not by where that lay."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from lossmith.data.config import DataConfig
from lossmith.data.sources import Source
from lossmith.data.tokenizers import spec_content
from lossmith.errors import DataError

FORMAT = 1  # raise when the same input would give other files, so that no old store is taken for a new one
_MEMO_FROM = 32 * 2**20  # hashing less than this takes under 10 ms: not worth a note
_SETTLED_NS = 2 * 10**9


def fingerprint(config: DataConfig, sources: list[Source], evaluation: list[Source]) -> str:
    """Return 32 hexadecimal digits that change with input contents, tokenizer and options, and with nothing else."""
    import xxhash

    asked = {
        "format": FORMAT,
        "tokenizer": spec_content(config.tokenizer),
        "text_field": config.text_field,
        "encoding": config.encoding,
        "split": [config.validation_fraction, config.validation_max_bytes, config.split_by],
        "inputs": [_content(source, config.cache) for source in sources],
        "evaluation": [_content(source, config.cache) for source in evaluation],
    }
    if config.pair_columns or config.sentence_split:  # others keep the names that they had before there was either
        asked["texts"] = [config.sentence_split, list(config.pair_columns or ())]
    return xxhash.xxh3_128(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _content(source: Source, cache: Path) -> list[str]:
    if source.corpus is not None:
        return ["corpus", source.corpus.content_key()]
    assert source.path is not None
    return [source.kind, source.compression, file_hash(source.path, cache)]


def file_hash(path: Path, cache: Path) -> str:
    """Return the hash of a file's bytes; for a large file, noted under its path, size and time of change."""
    try:
        status = path.stat()
        if status.st_size < _MEMO_FROM:
            return _hash(path)
        return _noted_hash(path, status, cache / "hashes")
    except OSError as error:
        raise DataError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


def _hash(path: Path) -> str:
    import xxhash

    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _noted_hash(path: Path, status: os.stat_result, folder: Path) -> str:
    import xxhash

    note = folder / xxhash.xxh3_128(str(path).encode("utf-8", "surrogateescape")).hexdigest()
    state = [status.st_size, status.st_mtime_ns, status.st_ino]
    noted = _read_note(note, state)
    if noted is not None:
        return noted
    digest = _hash(path)
    # a file changed within the last moments could change again without a new time stamp (as git's index knows)
    if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
        _write_note(note, [*state, digest])
    return digest


def _read_note(note: Path, state: list[int]) -> str | None:
    try:
        *known, digest = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(digest) if known == state else None


def _write_note(note: Path, content: list[object]) -> None:
    part = note.with_name(f"{note.name}.{os.getpid()}")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(note)
    except OSError:  # a note saves time; without it everything still works
        part.unlink(missing_ok=True)
