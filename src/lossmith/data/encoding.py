"""Text of a part → token file: cut into chunks, encoded on all cores, written in order."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lossmith.data.spool import Offsets, Part
from lossmith.data.tokenizers import Ids, Tokenizer
from lossmith.data.word_cache import EDGE, WordCache

# Measured on two cores with bpe:1024: 16 KiB chunks in groups of 1 MiB give 9.8 MB/s; one group of 4 MiB gives 6.7 and
# holds 150 MB more (an Encoding of the library takes about 100 bytes a token). Its threads reach what two processes
# would (1.9 times one core) and cost no start-up, so there are no processes here. On few cores, knowing the words
# already met is faster still (see `WordCache`).
GROUP = 1 << 20
FEW_WORKERS = 5
_CHUNK = {"bpe": 1 << 14, "hf": 1 << 18}

# What bpe learns from, in bytes spread evenly over the training part. The library holds every distinct word in memory
# at about 60 times its size, and Chinese, with its long words, is almost all distinct: so the bound is on distinct
# words, guessed from the first megabyte.
LEARN_DISTINCT = 8 * 2**20
LEARN_AT_MOST = 64 * 2**20


def chunks(path: Path, part: Part, size: int) -> Iterator[tuple[bool, str]]:
    """Yield the text of a part in chunks of about `size` bytes: (does a document start here, text)."""
    with path.open("rb") as file:
        for start, end in zip(part.starts.tolist(), part.ends.tolist(), strict=True):
            file.seek(start)
            yield from _document(file, end - start, size)


def first_bytes(path: Path, part: Part, most: int) -> bytes:
    """Return the text of a part from its beginning, at most `most` bytes of it, without half a character at the end."""
    text = bytearray()
    for _, chunk in chunks(path, part, 1 << 20):
        text += chunk.encode()
        if len(text) >= most:
            break
    return bytes(text[:most]).decode(errors="ignore").encode()


def last_bytes(path: Path, part: Part, most: int) -> bytes:
    """Return the text of a part up to its end, at most `most` bytes of it, without half a character at the start."""
    kept: list[bytes] = []
    with path.open("rb") as file:
        for start, end in zip(part.starts[::-1].tolist(), part.ends[::-1].tolist(), strict=True):
            file.seek(max(start, end - most))
            kept.append(file.read(min(end - start, most)))
            most -= len(kept[-1])
            if not most:
                break
    return b"".join(reversed(kept)).decode(errors="ignore").encode()


def _document(file: BinaryIO, left: int, size: int) -> Iterator[tuple[bool, str]]:
    first, kept = True, b""
    while left:
        data = kept + file.read(min(size, left))
        left -= len(data) - len(kept)
        text = data.decode(errors="ignore") if left else data.decode()  # a character cut in two waits in `kept`
        text = text[: safe_cut(text)] if left else text
        kept = data[len(text.encode()) :]
        yield first, text
        first = False


def safe_cut(text: str) -> int:
    """Return where to cut so that the parts most likely have the tokens of the whole: before a single space.

    GPT-2's pattern, and those of its successors, always end a word between a letter and a space. Where the second half
    has no such place the cut is before other white space, or else at the end.

    >>> safe_cut("to be or not")
    8
    """
    for mark in (" ", "\n"):
        at = text.rfind(mark, len(text) // 2)
        while at > 0:
            if not text[at - 1].isspace() and not text[at + 1 : at + 2].isspace():
                return at
            at = text.rfind(mark, len(text) // 2, at)
    return len(text)


def learning_texts(path: Path, part: Part, tick: Callable[[int], None]) -> Iterator[str]:
    """Yield what bpe learns from: at most LEARN_AT_MOST bytes of a part, in stretches spread evenly over it."""
    total, done = part.n_bytes, 0
    period = max(GROUP * total // _learn_from(path, part), GROUP)
    for _, text in chunks(path, part, 1 << 16):
        if done % period < GROUP:
            yield from in_short(text)
        done += len(text.encode())
        tick(done)


def _learn_from(path: Path, part: Part) -> int:
    words: set[str] = set()
    size = 0
    for _, text in chunks(path, part, 1 << 16):
        words.update(EDGE.split(text))
        size += len(text.encode())
        if size >= GROUP:
            break
    distinct = sum(len(word.encode()) for word in words)
    return min(LEARN_DISTINCT * size // max(distinct, 1), LEARN_AT_MOST)


def in_short(text: str, size: int = 1 << 10) -> Iterator[str]:
    """Yield a text in parts that bpe learns from: without white space it is one word, and learning takes its square.

    64 KiB of one word: 20 s.
    """
    while text:
        cut = safe_cut(text[:size]) if len(text) > size else len(text)
        yield text[:cut]
        text = text[cut:]


def write_tokens(
    path: Path, part: Part, tokenizer: Tokenizer, target: Path, *, workers: int, tick: Callable[[int], None]
) -> Offsets:
    """Encode a part into `target` (each document: eos_id, then its tokens) and return its bounds, int64[docs + 1]."""
    dtype = token_dtype(tokenizer)
    mark = [] if tokenizer.eos_id is None else [np.array([tokenizer.eos_id], np.uint32)]
    bounds, at, done = array("q"), 0, 0
    encode = encoder(tokenizer, workers)
    with target.open("wb") as out:
        for group in _groups(chunks(path, part, _CHUNK.get(tokenizer.kind, GROUP))):
            texts = [text for _, text in group]
            arrays: list[Ids] = []
            for (first, _), ids in zip(group, encode(texts), strict=True):
                if first:
                    bounds.append(at)
                    arrays += mark
                    at += len(mark)
                arrays.append(ids)
                at += len(ids)
            out.write(np.concatenate(arrays).astype(dtype).tobytes())
            done += sum(len(text.encode()) for text in texts)
            tick(done)
    return np.array([*bounds, at], np.int64)


def token_dtype(tokenizer: Tokenizer) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    """Return uint16 where every id fits, else uint32."""
    return np.dtype(np.uint16) if tokenizer.vocab_size <= 2**16 else np.dtype(np.uint32)


def encoder(tokenizer: Tokenizer, workers: int) -> Callable[[list[str]], list[Ids]]:
    """Return what encodes texts fastest with so many workers; the ids are the same."""

    def threads(texts: list[str]) -> list[Ids]:
        # the library takes a thread for each core: only fewer texts at a time make it take fewer
        width = workers if workers < (os.cpu_count() or 1) else max(len(texts), 1)
        starts = range(0, len(texts), width)
        return [ids for start in starts for ids in tokenizer.encode_batch(texts[start : start + width])]

    return WordCache(threads) if tokenizer.kind == "bpe" and workers < FEW_WORKERS else threads


def _groups(pieces: Iterator[tuple[bool, str]]) -> Iterator[list[tuple[bool, str]]]:
    group: list[tuple[bool, str]] = []
    size = 0
    for piece in pieces:
        group.append(piece)
        size += len(piece[1])
        if size >= GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group
