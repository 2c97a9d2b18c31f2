"""The laws of a log reader, shipped for plugin authors: what it must do with a file, with half of it, with another."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np

from lossmith.errors import DataError
from lossmith.runs import Reader, Run

CUTS = 12  # places at which a file is cut off


class ReaderError(AssertionError):
    """A reader breaks a law: which one, on which file, and what it did."""


def check_reader(reader: Reader, path: str | Path, *, seed: int = 0) -> None:
    """Assert that a reader keeps its laws on a file of its format; raise ReaderError where it does not.

    It recognises the file and finds a loss in it, the same each time; its curves are int64 steps and float64 values of
    one length. A file that is cut off, shuffled, empty or binary gives runs or a DataError, and never more points than
    the whole file has. Reading changes no file.

    Errors: ReaderError (an AssertionError) names reader, law and file.

    >>> from lossmith.runs import readers
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = Path(folder, "log.csv")
    ...     _ = log.write_text("step,loss\\n" + "".join(f"{i},{5 / i}\\n" for i in range(1, 20)))
    ...     check_reader(next(reader for reader in readers()[0] if reader.name == "csv"), log)
    """
    path = Path(path)
    whole = path.read_bytes()
    if not reader.sniff(path):
        _broken(reader, path, "sniff says no to a file of its own format")
    runs = reader.read(path)
    if not any(len(run.curves.get(name, ())) for run in runs for name in ("loss", "eval_loss")):
        _broken(reader, path, "no loss was found in a file of its own format")
    if not _same(runs, reader.read(path)):
        _broken(reader, path, "reading twice gives different curves")
    for run in runs:
        _check_types(reader, path, run)
    most = _points(runs)
    with tempfile.TemporaryDirectory(prefix="lossmith-check-") as folder:
        for what, content in _damaged(whole, random.Random(seed)):
            damaged = Path(folder, path.name)
            damaged.write_bytes(content)
            found = _read(reader, damaged, what)
            if what.startswith("cut") and found is not None and _points(found) > most:
                _broken(reader, path, f"{what}: {_points(found)} points, and the whole file has {most}")
    if path.read_bytes() != whole:
        _broken(reader, path, "reading changed the file")


def _check_types(reader: Reader, path: Path, run: Run) -> None:
    for name, curve in run.curves.items():
        if curve.step.dtype != np.int64 or curve.value.dtype != np.float64 or len(curve.step) != len(curve.value):
            kinds = f"{curve.step.dtype}[{len(curve.step)}] and {curve.value.dtype}[{len(curve.value)}]"
            _broken(reader, path, f"curve {name!r} must be int64 steps and float64 values of one length; got {kinds}")


def _damaged(whole: bytes, rng: random.Random) -> list[tuple[str, bytes]]:
    """Return what can happen to a file: cut off at places, its lines shuffled, nothing in it, bytes of anything."""
    cuts = sorted(rng.randrange(len(whole) + 1) for _ in range(CUTS))
    lines = whole.split(b"\n")
    rng.shuffle(lines)
    return [
        *((f"cut off after {cut} of {len(whole)} bytes", whole[:cut]) for cut in cuts),
        ("lines shuffled", b"\n".join(lines)),
        ("empty", b""),
        ("random bytes", rng.randbytes(4096)),
        ("zeros in the middle", whole[: len(whole) // 2] + bytes(512) + whole[len(whole) // 2 :]),
    ]


def _read(reader: Reader, path: Path, what: str) -> list[Run] | None:
    """Return the runs of a damaged file, None where the reader refuses it as it should: by sniff, or by DataError."""
    try:
        return reader.read(path) if reader.sniff(path) else None
    except DataError:
        return None
    except Exception as error:
        raise ReaderError(f"reader {reader.name!r} on a file {what}: {type(error).__name__}: {error}") from error


def _points(runs: list[Run]) -> int:
    return sum(len(curve) for run in runs for curve in run.curves.values())


def _same(first: list[Run], second: list[Run]) -> bool:
    return len(first) == len(second) and all(
        one.curves.keys() == two.curves.keys()
        and all(
            np.array_equal(one.curves[name].step, two.curves[name].step)
            and np.array_equal(one.curves[name].value, two.curves[name].value, equal_nan=True)
            for name in one.curves
        )
        for one, two in zip(first, second, strict=True)
    )


def _broken(reader: Reader, path: Path, why: str) -> None:
    raise ReaderError(f"reader {reader.name!r} on {path}: {why}")
