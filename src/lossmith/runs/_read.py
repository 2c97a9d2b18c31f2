"""read: every run in every file, which reader took what, and what was skipped and why."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from lossmith.errors import DataError, InputError
from lossmith.runs._curve import Run
from lossmith.runs._find import Found, Skipped, find, plain, spooled
from lossmith.runs._join import joined
from lossmith.runs._text import head, is_binary
from lossmith.runs.readers import Reader, readers


@dataclass(frozen=True)
class Taken:
    """Say which reader read a run, from which file, and how many points each of its curves has."""

    path: str
    reader: str
    source: str
    curves: dict[str, int]


@dataclass(frozen=True, eq=False)
class Reading:
    """Hold what was read: the runs; what was skipped, and why; what each reader took; what had to be understood.

    It is a sequence of its runs: `read("trainer_state.json")[0]`, `for run in read("runs/")`.
    """

    runs: list[Run] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __getitem__(self, index: int) -> Run:
        return self.runs[index]


def read(*paths: str | Path, stdin: BinaryIO | None = None) -> Reading:
    """Read every run in files, folders, patterns and standard input ("-"), whatever tool wrote it.

    Files may be packed (gz, xz, zst, bz2) and in UTF-8 or UTF-16. Losses are in nats; curves have the names Hugging
    Face logs (`loss`, `eval_loss`, `learning_rate`, `grad_norm` ...). A path that does not exist is a DataError; a file
    in which no run is found is skipped with a reason.

    >>> import io
    >>> log = io.BytesIO(b"step,loss\\n1,5.0\\n2,4.0\\n")
    >>> reading = read("-", stdin=log)
    >>> [(run.source, run.curves["loss"].value.tolist()) for run in reading]
    [('-', [5.0, 4.0])]
    """
    if not paths:
        raise InputError("name a file, a folder, a pattern, or '-' for standard input; got nothing")
    reading = Reading()
    loaded, broken = readers()
    reading.notes.extend(f"plugin {name!r} could not be loaded: {why}" for name, why in broken.items())
    with tempfile.TemporaryDirectory(prefix="lossmith-read-") as folder:
        for found in _files(paths, stdin, Path(folder), reading.skipped):
            _read_file(found, Path(folder), loaded, reading)
    return _finished(reading)


def _files(
    paths: tuple[str | Path, ...], stdin: BinaryIO | None, folder: Path, skipped: list[Skipped]
) -> Iterator[Found]:
    if any(str(path) == "-" for path in paths):
        yield Found(spooled(stdin or sys.stdin.buffer, folder), "-", True)
    yield from find([path for path in paths if str(path) != "-"], skipped)


def _read_file(found: Found, folder: Path, loaded: list[Reader], reading: Reading) -> None:
    try:
        path = plain(found.path, folder)
        why = _take(path, found, loaded, reading)
    except OSError as error:
        why = f"could not be opened: {error.strerror or error}"
    except DataError as error:
        why = str(error)
    if why:
        reading.skipped.append(Skipped(found.source, why))


def _take(path: Path, found: Found, loaded: list[Reader], reading: Reading) -> str:
    """Let the first reader that finds a run have the file; return why none did."""
    if not path.stat().st_size:
        return "empty file"
    reasons = []
    for reader in loaded:
        try:
            runs = reader.read(path) if reader.sniff(path) else None
        except DataError as error:
            reasons.append(f"{reader.name}: {error}".replace(str(path), found.source))
            continue
        except OSError:
            raise
        except Exception as error:  # a reader that breaks on one file must not stop the others
            reasons.append(f"{reader.name} failed: {type(error).__name__}: {error}")
            continue
        runs = [run for run in runs or () if any(len(curve) for curve in run.curves.values())]
        if runs:
            named = [replace(run, source=run.source.replace(str(path), found.source, 1)) for run in runs]
            reading.runs.extend(named)
            reading.taken.extend(_taken(found.source, reader.name, run) for run in named)
            return ""
        reasons += [f"{reader.name}: no loss in it"] if runs is not None and reader.sniff(path) else []
    return "; ".join(reasons) or _unknown(path)


def _unknown(path: Path) -> str:
    if is_binary(head(path)):
        return "a binary file of no known format"
    return "no reader recognises it: no loss by name beside a number, no known log line"


def _taken(path: str, reader: str, run: Run) -> Taken:
    return Taken(path, reader, run.source, {name: len(curve) for name, curve in run.curves.items()})


def _finished(reading: Reading) -> Reading:
    runs, notes = joined(reading.runs)
    reading.notes.extend(f"{run.source}: {note}" for run in runs for note in run.notes)
    return replace(reading, runs=runs, notes=[*reading.notes, *notes])
