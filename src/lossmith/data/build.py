"""Build a token store in a folder: read, split, learn the tokenizer, encode, describe; store.json comes last."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from lossmith.data.config import DataConfig, Progress
from lossmith.data.encoding import first_bytes, learning_texts, token_dtype, write_tokens
from lossmith.data.fingerprint import FORMAT
from lossmith.data.sources import Found, Source
from lossmith.data.split import split
from lossmith.data.spool import Part, Spool, read_all, size_of
from lossmith.data.tokenizer_files import bpe_size, kind_of
from lossmith.data.tokenizers import Tokenizer
from lossmith.errors import DataError

COMPRESS_AT_MOST = 16 * 2**20


def build(
    config: DataConfig, found: Found, evaluation: Found, work: Path, fingerprint: str, progress: Progress
) -> None:
    """Fill the folder `work` with a finished store."""
    sources = found.sources + evaluation.sources
    with Spool(work / "text.utf8", characters=kind_of(config.tokenizer) == "char") as spool:
        counts = read_all(spool, sources, config, work, progress)
    if not len(spool):
        hold = "holds" if len(sources) == 1 else "hold"
        raise DataError(
            f"the input has no text: {', '.join(_names(sources))} {hold} 0 characters. Give files with text"
        )
    train, validation, how = split(spool, config, sum(counts[len(found.sources) :]))
    with ThreadPoolExecutor(3) as pool:  # the compressors run beside the encoding: neither holds Python's lock
        compressed = compress(pool, spool.path, validation)
        tokenizer = _tokenizer(config, spool, train, progress)
        sizes = _encode(config, spool, {"train": train, "validation": validation}, tokenizer, work, progress)
        measured = {name: future.result() for name, future in compressed.items()}
    spool.path.unlink()
    tokenizer.save(work / "tokenizer")
    meta = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **sizes,
        "documents": len(spool),
        "dtype": token_dtype(tokenizer).name,
        "tokenizer": config.tokenizer,
        "vocab_size": tokenizer.vocab_size,
        "split_by": how,
        "columns": config.columns,
        "marked": tokenizer.eos_id is not None,
        "validation_compressed": measured,
        "sources": [_describe(*pair) for pair in zip(sources, counts, strict=True)],
        "ignored": found.ignored + evaluation.ignored,
    }
    _finish(work, meta)


def _names(sources: list[Source]) -> list[str]:
    names = [repr(source.name) for source in sources]
    return names if len(names) <= 5 else [*names[:5], f"and {len(names) - 5} more"]


def _describe(source: Source, documents: int) -> dict[str, Any]:
    described = {"name": source.name, "bytes": size_of(source), "documents": documents}
    return described if documents else described | {"skipped": "no text in it"}


def _tokenizer(config: DataConfig, spool: Spool, train: Part, progress: Progress) -> Tokenizer:
    kind = kind_of(config.tokenizer)
    if kind == "char":
        return Tokenizer.char(spool.characters)
    if kind == "byte":
        return Tokenizer.byte()
    if kind == "hf":
        return Tokenizer.load(config.tokenizer)
    texts = learning_texts(spool.path, train, _ticker(progress, "learning the tokenizer", train.n_bytes))
    return Tokenizer.train_bpe(texts, bpe_size(config.tokenizer))


def _ticker(progress: Progress, what: str, total: int, before: int = 0) -> Callable[[int], None]:
    return lambda done: progress(what, before + done, total)


def _encode(
    config: DataConfig, spool: Spool, parts: dict[str, Part], tokenizer: Tokenizer, work: Path, progress: Progress
) -> dict[str, int]:
    total, done = sum(part.n_bytes for part in parts.values()), 0
    sizes: dict[str, int] = {}
    for name, part in parts.items():
        tick = _ticker(progress, "tokenizing", total, done)
        bounds = write_tokens(spool.path, part, tokenizer, work / f"{name}.bin", workers=config.workers, tick=tick)
        np.save(work / f"{name}.bounds.npy", bounds)
        done += part.n_bytes
        sizes |= {f"n_{name}_tokens": int(bounds[-1]), f"{name}_bytes": part.n_bytes}
    return sizes


def compress(pool: ThreadPoolExecutor, path: Path, part: Part) -> dict[str, Future[int]]:
    """Return what gzip -9, xz -9 and zstd -19 make of a part's text, or of its first 16 MiB ("of" says how many)."""
    data = first_bytes(path, part, COMPRESS_AT_MOST)
    jobs = {"gzip": _gzip, "xz": _xz, "zstd": _zstd, "of": len}
    return {name: pool.submit(job, data) for name, job in jobs.items()}


def _gzip(data: bytes) -> int:
    import gzip

    return len(gzip.compress(data, 9))


def _xz(data: bytes) -> int:
    import lzma

    # preset 9 looks back 64 MiB, and takes ten times that in memory: looking back over all of the data is the same
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": max(len(data), 4096)}]
    return len(lzma.compress(data, filters=filters))


def _zstd(data: bytes) -> int:
    import zstandard

    return len(zstandard.ZstdCompressor(level=19).compress(data))


def _finish(work: Path, meta: dict[str, Any]) -> None:
    """Write store.json after every other file has reached the disk."""
    for path in sorted(work.rglob("*")):
        _sync(path)
    part = work / "store.json"
    part.write_text(json.dumps(meta, indent=2, ensure_ascii=False), encoding="utf-8")
    _sync(part)
    _sync(work)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
