"""What general compressors make of the same bytes, alone or given a text they may learn from."""

from __future__ import annotations

import lzma
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

Progress = Callable[[int, int], None]
_PPMD_MOST = 1 << 30  # bytes of PPMd's model at most; where a text needs more, it forgets and begins anew


@dataclass(frozen=True)
class Rival:
    """Name a compressor: `name` in JSON, `label` for people, size(data, given) in bytes."""

    name: str
    label: str
    size: Callable[[bytes, bytes], int]


def rivals(
    data: bytes, given: bytes = b"", progress: Progress | None = None, chosen: Sequence[Rival] | None = None
) -> dict[str, int]:
    """Return the bytes that gzip, xz, zstd, brotli and PPMd need for `data`, after having read `given`.

    With `given`, a size is what comes after everything of `given` has been written (xz: size(given + data) −
    size(given)): the fair rival of a model trained on `given`. gzip sees 32 kB back and brotli 16 MiB, the others
    everything. brotli and PPMd are there where their packages are (brotli, pyppmd); `chosen`: only these. `progress` is
    told how many of them are done. Two run at once; memory: about 11 times the text for xz, at most 1 GiB for PPMd.

    Source: Cleary & Witten 1984, https://doi.org/10.1109/TCOM.1984.1096090 (PPM); Cilibrasi & Vitányi 2005,
    https://doi.org/10.1109/TIT.2005.844059 (C(yx) − C(y)).

    >>> sizes = rivals(b"to be or not to be " * 50)
    >>> sizes["gzip -9"] < 60, rivals(b"to be or not", b"to be or not to be")["xz -9e"] < 60
    (True, True)
    """
    chosen = available() if chosen is None else chosen
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        jobs = {pool.submit(rival.size, data, given): rival.label for rival in reversed(chosen)}  # the slowest first
        sizes = {}
        for job in as_completed(jobs):
            sizes[jobs[job]] = job.result()
            if progress:
                progress(len(sizes), len(chosen))
    return {rival.label: sizes[rival.label] for rival in chosen}


def available() -> list[Rival]:
    """Return the compressors whose packages are installed, always in the same order.

    >>> [rival.name for rival in available()][:3]
    ['gzip', 'xz', 'zstd']
    """
    return list(_all())


def _all() -> Iterator[Rival]:
    yield Rival("gzip", "gzip -9", _gzip)
    yield Rival("xz", "xz -9e", _xz)
    yield Rival("zstd", "zstd -19", _zstd)
    try:
        import brotli  # type: ignore[import-untyped, import-not-found, unused-ignore]

        yield Rival("brotli", "brotli -q 11", lambda data, given: _brotli(brotli, data, given))
    except ImportError:
        pass
    try:
        import pyppmd  # type: ignore[import-untyped, import-not-found, unused-ignore]

        yield Rival("ppmd", "PPMd, order 12", lambda data, given: _ppmd(pyppmd, data, given))
    except ImportError:
        pass


def _gzip(data: bytes, given: bytes) -> int:
    coder = zlib.compressobj(9, zlib.DEFLATED, 31)
    if given:
        coder.compress(given)
        coder.flush(zlib.Z_SYNC_FLUSH)
    return len(coder.compress(data)) + len(coder.flush())


def _xz(data: bytes, given: bytes) -> int:
    # preset 9 looks back 64 MiB, and takes ten times that in memory: looking back over all of it is the same
    preset = 9 | lzma.PRESET_EXTREME
    filters = [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": max(len(given) + len(data), 4096)}]
    before = len(lzma.compress(given, filters=filters)) if given else 0
    return len(lzma.compress(given + data, filters=filters)) - before


def _zstd(data: bytes, given: bytes) -> int:
    import zstandard

    size = len(given) + len(data)
    window = min(max(size.bit_length(), 10), 27)
    settings = zstandard.ZstdCompressionParameters.from_level(19, source_size=size, window_log=window)
    coder = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    if given:
        coder.compress(given)
        coder.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return len(coder.compress(data)) + len(coder.flush())


def _brotli(brotli: object, data: bytes, given: bytes) -> int:
    coder = brotli.Compressor(quality=11, lgwin=24)  # type: ignore[attr-defined]
    if given:
        coder.process(given)
        coder.flush()
    return len(coder.process(data)) + len(coder.finish())


def _ppmd(pyppmd: object, data: bytes, given: bytes) -> int:
    memory = min(max(64 * (len(given) + len(data)), 1 << 24), _PPMD_MOST)
    coder = pyppmd.Ppmd7Encoder(12, memory)  # type: ignore[attr-defined]
    if given:
        coder.encode(given)
    return len(coder.encode(data)) + len(coder.flush())
