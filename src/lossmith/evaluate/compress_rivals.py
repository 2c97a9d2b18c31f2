"""What general compressors make of the same bytes, alone or given a text they may learn from."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable, Iterator


def rivals(data: bytes, given: bytes = b"") -> dict[str, int]:
    """Return the bytes that gzip, xz, zstd, brotli and PPMd need for `data`, after having read `given`.

    With `given`, a size is size(given + data) − size(given): the fair rival of a model trained on `given`. gzip and
    brotli see at most 32 kB and 16 MB back. brotli and PPMd are there where their packages are (brotli, pyppmd).

    Source: Cleary & Witten 1984, https://doi.org/10.1109/TCOM.1984.1096090 (PPM); Cilibrasi & Vitányi 2005,
    https://doi.org/10.1109/TIT.2005.844059 (C(yx) − C(y)).

    >>> sizes = rivals(b"to be or not to be " * 50)
    >>> sizes["gzip -9"] < 60, rivals(b"to be or not", b"to be or not to be")["xz -9"] < 60
    (True, True)
    """
    return {name: size(given + data) - (size(given) if given else 0) for name, size in _compressors()}


def _compressors() -> Iterator[tuple[str, Callable[[bytes], int]]]:
    import zstandard

    yield "gzip -9", lambda data: len(gzip.compress(data, 9, mtime=0))
    yield "xz -9", lambda data: len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
    yield "zstd -19", lambda data: len(zstandard.ZstdCompressor(level=19).compress(data))
    try:
        import brotli  # type: ignore[import-untyped, import-not-found, unused-ignore]

        yield "brotli -q 11", lambda data: len(brotli.compress(data, quality=11, lgwin=24))
    except ImportError:
        pass
    try:
        import pyppmd  # type: ignore[import-untyped, import-not-found, unused-ignore]

        yield "PPMd, order 12", lambda data: len(pyppmd.compress(data, max_order=12, mem_size=256 << 20, variant="H"))
    except ImportError:
        pass
