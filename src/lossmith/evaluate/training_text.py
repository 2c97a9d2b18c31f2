"""The text a model was trained on, for the compressors that are to be compared with it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from lossmith.data import DataConfig, Tokenizer, TokenStore
from lossmith.data.encoding import last_bytes
from lossmith.data.sources import expand
from lossmith.data.split import split
from lossmith.data.spool import Part, Spool, read_all, size_of
from lossmith.errors import DataError, InputError

KNOWN_AT_MOST = 32 * 2**20
_READ_AT_MOST = 2**30  # bytes of inputs that are read again where a run's store is gone
_TOKENS = 1 << 20


@dataclass(frozen=True)
class Known:
    """Hold the end of a text, at most 32 MiB: `data`; bytes of all of it: `total`; where it comes from: `source`."""

    data: bytes
    total: int
    source: str


def given_text(inputs: tuple[str, ...], text_field: str | None = None, encoding: str = "utf-8") -> Known:
    """Read files, folders, patterns or corpora as the text that others may learn from.

    Errors: DataError for what cannot be read or holds no text; InputError for standard input.
    """
    if "-" in inputs:
        raise InputError("--given reads files, folders, patterns and corpora; for standard input write a file")
    config = DataConfig(inputs=inputs, text_field=text_field, encoding=encoding)
    with tempfile.TemporaryDirectory(prefix="lossmith-given-") as folder, Spool(Path(folder) / "text.utf8") as spool:
        read_all(spool, expand(inputs).sources, config, Path(folder), lambda *_: None)
        spool.close()
        bounds = spool.byte_bounds
        if not len(spool):
            raise DataError(f"--given {' '.join(inputs)} holds no text. Give files with text, or leave it out")
        return _end_of(spool.path, Part(bounds[:-1], bounds[1:]), ", ".join(inputs))


def training_text(folder: Path) -> Known | None:
    """Return the training text of the run that a folder (of a run, its model, a checkpoint) belongs to, if it is there.

    It is read from the run's token store, or, where that is gone, from the run's inputs if they still hold as many
    bytes as they did. None: the folder is no run's, or both are gone.
    """
    record = next((found for up in _upwards(folder) if (found := _record(up))), None)
    if record is None:
        return None
    asked, data = record["config"], record["data"]
    try:
        config = DataConfig(**{f.name: _plain(asked[f.name]) for f in fields(DataConfig) if f.name in asked})
        return _from_store(config.cache / "stores" / str(data["fingerprint"])) or _from_inputs(config, data)
    except (DataError, InputError, OSError, KeyError, TypeError):
        return None


def _upwards(folder: Path) -> tuple[Path, ...]:
    whole = folder.absolute()
    return (whole, *whole.parents[:3])


def _record(folder: Path) -> dict[str, Any] | None:
    try:
        told = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    known = isinstance(told, dict) and isinstance(told.get("config"), dict) and isinstance(told.get("data"), dict)
    return told if known else None


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _from_store(folder: Path) -> Known | None:
    """Decode the end of a store's training part; None where its tokenizer does not give the very text back."""
    if not (folder / "store.json").is_file():
        return None
    store = TokenStore(folder)
    tokens, total = store.train.tokens, store.train.n_bytes
    if store.tokenizer.kind == "hf" and _bytes_of(tokens, store.tokenizer) != total:
        return None
    pieces, kept, size = store.tokenizer.pieces, list[bytes](), 0
    for end in range(len(tokens), 0, -_TOKENS):
        kept.append(b"".join([pieces[i] for i in tokens[max(0, end - _TOKENS) : end].tolist()]))
        size += len(kept[-1])
        if size >= KNOWN_AT_MOST:
            break
    text = b"".join(reversed(kept))[-KNOWN_AT_MOST:].decode(errors="ignore").encode()
    return Known(text, total, "the run's training text")


def _bytes_of(tokens: Any, tokenizer: Tokenizer) -> int:
    lengths = np.array([len(piece) for piece in tokenizer.pieces], np.int64)
    return sum(int(lengths[tokens[i : i + _TOKENS]].sum()) for i in range(0, len(tokens), _TOKENS))


def _from_inputs(config: DataConfig, data: dict[str, Any]) -> Known | None:
    """Read the inputs of a run again, and split them as it did; None where they are not what they were."""
    found, evaluation = expand(config.inputs), expand(config.eval_file)
    sources = found.sources + evaluation.sources
    if any(source.kind == "stdin" for source in sources) or sum(map(size_of, sources)) > _READ_AT_MOST:
        return None
    with tempfile.TemporaryDirectory(prefix="lossmith-given-") as folder, Spool(Path(folder) / "text.utf8") as spool:
        counts = read_all(spool, sources, config, Path(folder), lambda *_: None)
        spool.close()
        train, _, _ = split(spool, config, sum(counts[len(found.sources) :]))
        same = train.n_bytes == data["train_bytes"] and len(spool) == data["documents"]
        return _end_of(spool.path, train, "the run's training text") if same else None


def _end_of(path: Path, part: Part, source: str) -> Known:
    return Known(last_bytes(path, part, KNOWN_AT_MOST), part.n_bytes, source)
