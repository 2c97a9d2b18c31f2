"""Compress any bytes to the size of a model's loss on them, and bring them back exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossmith.errors import InputError, RunError
from lossmith.evaluate.compress_format import (
    Packed,
    digest,
    model_print,
    split,
    tokenizer_print,
    unpack,
)
from lossmith.evaluate.compress_segments import Segment, restore, segments
from lossmith.evaluate.sampling import max_positions
from lossmith.evaluate.surprise_model import Scorer, open_scorer

Progress = Callable[[int, int], None]
_STREAM = 2500  # tokens from which on a text is worth another stream by default …
_STREAMS = 16  # … up to so many: one step for 16 costs about twice that for one (4 layers of 128, one core)


@dataclass(frozen=True)
class Compressed:
    """Hold a compressed file, already decoded and compared, and what it is made of.

    loss_bits: Σ −log₂ p over the tokens as coded, and 8 for every byte kept as it is; the size is within 0.1 % and 64
    bytes of it for one stream. `price` is what coding in several streams costs, in bytes, against one; None for one.
    """

    data: bytes
    original: int
    loss_bits: float
    tokens: int
    raw: int
    streams: int
    price: int | None

    @property
    def bits_per_byte(self) -> float:
        """Bits of the compressed file per byte of the original; NaN for an empty one."""
        return 8 * len(self.data) / self.original if self.original else math.nan


def compress(
    data: bytes,
    model: Any,
    *,
    tokenizer: Any = None,
    jobs: int | None = None,
    context: int | None = None,
    progress: Progress | None = None,
) -> Compressed:
    """Compress bytes with a causal model: a folder, a trained run, or a model in memory with `tokenizer`.

    Tokens are range-coded with the model's own probabilities, in float64 and on one thread; what the tokenizer cannot
    restore is kept as bytes. `jobs` streams are coded side by side (default: one for every 2,500 tokens, at most 16);
    each begins without context, and `price` says what that costs. The result has been decoded and compared.
    Errors: InputError for a masked model, RunError where decoding does not give the bytes back.

    Source: https://arxiv.org/abs/2309.10668 (language modeling is compression); constriction, arXiv:2201.01741.
    """
    scorer = _scorer(model, tokenizer)
    context = scorer.context if context is None else context
    _check(jobs, context, max_positions(scorer.model))
    found = segments(data, scorer.tokenizer)
    packed, nats = _pack(data, scorer, found, jobs, context, progress)
    small = packed.pack()
    if packed.tokens and len(small) > len(data) + 64:
        packed, nats = _pack(data, scorer, [Segment((), data)], 1, context, None)
        small = packed.pack()
    price = _price(scorer, packed, found, len(small)) if len(packed.streams) > 1 else None
    loss = nats / math.log(2) + 8 * len(packed.raw)
    return Compressed(small, len(data), loss, packed.tokens, len(packed.raw), len(packed.streams), price)


def decompress(data: bytes, model: Any, *, tokenizer: Any = None, progress: Progress | None = None) -> bytes:
    """Return the bytes that `compress` was given; the model must be the one it had.

    Errors: DataError for a file that is no such file or is damaged, InputError for another model or tokenizer, RunError
    where this machine computes the model so differently that the text is not the one that was compressed.
    """
    packed = unpack(data)
    scorer = _scorer(model, tokenizer)
    for name, want, have in (
        ("model", packed.model, model_print(scorer.model)),
        ("tokenizer", packed.tokenizer, tokenizer_print(scorer.tokenizer)),
    ):
        if want != have:
            raise InputError(
                f"the file was compressed with the {name} of fingerprint {want.hex()}; "
                f"--model {scorer.name} has {have.hex()}: give the same model"
            )
    return _decoded(packed, scorer, progress)


def _scorer(model: Any, tokenizer: Any) -> Scorer:
    from lossmith.evaluate._coder_streams import check_causal

    scorer = open_scorer(model, tokenizer)
    check_causal(scorer.masked, scorer.name)
    return scorer


def _check(jobs: int | None, context: int, limit: int | None) -> None:
    from lossmith.evaluate.surprise_windows import check_window

    if jobs is not None and not 1 <= jobs <= 4096:
        raise InputError(f"--jobs must be 1 to 4096; got {jobs}")
    check_window(context, 1, limit)


def _pack(
    data: bytes, scorer: Scorer, found: list[Segment], jobs: int | None, context: int, progress: Progress | None
) -> tuple[Packed, float]:
    """Encode, decode, compare."""
    import torch

    tokens = [token for segment in found for token in segment.tokens]
    count = min(len(tokens), jobs or min(_STREAMS, 1 + len(tokens) // _STREAM))
    stride = max(1, context // 2)
    both = _Count(progress, 2 * len(tokens))
    streams, nats = _encode(scorer, tokens, count, context, stride, both)
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    packed = Packed(
        (major, minor),
        model_print(scorer.model),
        tokenizer_print(scorer.tokenizer),
        digest(data),
        len(data),
        context,
        stride,
        tuple((len(segment.tokens), len(segment.raw)) for segment in found),
        streams,
        b"".join(segment.raw for segment in found),
    )
    if _decoded(packed, scorer, None, both) != data:
        raise RunError("decoding did not give the file back: nothing was written. Please report this")
    return packed, nats


def _encode(
    scorer: Scorer, tokens: list[int], count: int, context: int, stride: int, done: _Count
) -> tuple[tuple[tuple[tuple[int, ...], bytes], ...], float]:
    from lossmith.evaluate._coder import Encoder
    from lossmith.evaluate._coder_streams import Streams, code_streams, wide

    if not count:
        return (), 0.0
    lengths = split(len(tokens), count)
    ends = np.cumsum(lengths).tolist()
    parts = [tokens[end - length : end] for length, end in zip(lengths, ends, strict=True)]
    coders = [Encoder() for _ in parts]
    code_streams(Streams(wide(scorer.model), context, stride), coders, scorer.start_id, lengths, parts, done)
    nats = math.fsum(coder.nats for coder in coders)
    return tuple((tuple(coder.exceptions), coder.finish()) for coder in coders), nats


def _decoded(packed: Packed, scorer: Scorer, progress: Progress | None, done: _Count | None = None) -> bytes:
    """Return the original; RunError where it is not what was compressed."""
    done = done or _Count(progress, packed.tokens)
    try:
        data = restore(_segments(packed, _tokens(packed, scorer, done)), scorer.tokenizer)
    except RunError as error:
        raise RunError(f"{error}; {_elsewhere(packed)}") from error
    if len(data) != packed.length or digest(data) != packed.digest:
        raise RunError(f"what was decoded is not what was compressed; {_elsewhere(packed)}")
    return data


def _elsewhere(packed: Packed) -> str:
    import torch

    return (
        f"nothing was restored. The model and the file are the right ones, and this machine computes the model "
        f"differently: it was compressed with torch {packed.torch[0]}.{packed.torch[1]}, here is {torch.__version__}"
    )


def _tokens(packed: Packed, scorer: Scorer, done: _Count) -> list[int]:
    from lossmith.evaluate._coder import Decoder
    from lossmith.evaluate._coder_streams import Streams, code_streams, wide

    if not packed.streams:
        return []
    streams = Streams(wide(scorer.model), packed.context, packed.stride)
    coders = [Decoder(code, list(exceptions)) for exceptions, code in packed.streams]
    parts = code_streams(streams, coders, scorer.start_id, packed.lengths(), None, done)
    return [token for part in parts for token in part]


def _segments(packed: Packed, tokens: list[int]) -> list[Segment]:
    found, at, raw_at = [], 0, 0
    for count, size in packed.runs:
        found.append(Segment(tuple(tokens[at : at + count]), packed.raw[raw_at : raw_at + size]))
        at, raw_at = at + count, raw_at + size
    return found


def _price(scorer: Scorer, packed: Packed, found: list[Segment], size: int) -> int:
    """Bytes that one stream would save: the context that the others' starts lack, and their lengths and ends."""
    from lossmith.evaluate.surprise_windows import score_causal

    start = [] if scorer.start_id is None else [scorer.start_id]
    sequence = np.array(start + [token for segment in found for token in segment.tokens], np.int64)
    rows = score_causal(scorer.model, sequence, context=packed.context, stride=packed.stride)
    bits = float(np.nansum(rows.nats)) / math.log(2)
    bits += 0.0 if start else math.log2(scorer.model.get_output_embeddings().weight.shape[0])
    # constriction ends a code within a word of 32 bits, half of it on average
    one = replace(packed, streams=(((), bytes(math.ceil(bits / 8) + 2)),))
    return size - len(one.pack())


class _Count:
    """Count coded tokens for a progress bar."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, more: int) -> None:
        self.done += more
        if self.progress:
            self.progress(self.done, self.total)
