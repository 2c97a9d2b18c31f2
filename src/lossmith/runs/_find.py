"""From what a user names (files, folders, globs, "-") to the files to read, each unpacked and as UTF-8."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lossmith.errors import DataError, InputError, did_you_mean
from lossmith.runs._text import head, open_packed, packing, wide_encoding

_FOLDERS = frozenset(
    {".git", ".hg", ".svn", "__pycache__", "node_modules", ".venv", "venv", "site-packages", ".ipynb_checkpoints"}
)
_NO_LOGS = frozenset({
    ".py", ".pyc", ".so", ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".distcp", ".h5", ".hdf5", ".keras",
    ".onnx", ".gguf", ".npy", ".npz", ".pkl", ".pickle", ".arrow", ".parquet", ".png", ".jpg", ".jpeg",
    ".gif", ".svg", ".pdf", ".zip", ".tar", ".whl", ".c", ".h", ".cpp", ".cu", ".js", ".ts", ".css", ".html",
    ".mp4", ".wav", ".mp3", ".model", ".lock", ".sh", ".webp", ".md", ".rst", ".tex", ".yaml", ".yml",
    ".toml", ".cfg", ".ini", ".xml",
})  # fmt: skip
_PACKED_NAMES = frozenset({".gz", ".xz", ".zst", ".bz2"})


@dataclass(frozen=True)
class Skipped:
    """Say what was not read, and why."""

    path: str
    why: str


@dataclass(frozen=True)
class Found:
    """Hold a file to read, the name it goes by, and whether the user named it (rather than a folder it lies in)."""

    path: Path
    source: str
    named: bool


def find(paths: Iterable[str | Path], skipped: list[Skipped]) -> Iterator[Found]:
    """Yield the files that paths, folders and globs stand for, each once, in the order of their names.

    What is no log by its name (weights, pictures, source code) goes to `skipped`; a path that does not exist is a
    DataError.
    """
    seen: set[str] = set()
    for path in paths:
        for found in _expand(path, skipped):
            key = os.path.realpath(found.path)
            if key not in seen:
                seen.add(key)
                yield found


def _expand(given: str | Path, skipped: list[Skipped]) -> Iterator[Found]:
    path = Path(given).expanduser()
    if path.is_dir():
        yield from _walk(path, skipped)
    elif path.exists():
        yield Found(path, str(given), True)
    else:
        matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(str(path)) else []  # noqa: PTH207
        if not matches:
            raise DataError(_missing(given, path))
        for match in matches:
            yield from _expand(match, skipped)


def _missing(given: str | Path, path: Path) -> str:
    if glob.has_magic(str(given)):
        return f"no file matches {str(given)!r}; the pattern is taken from the folder {Path.cwd()}"
    near = did_you_mean(path.name, [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else [])
    return (
        f"{given}: expected a file, a folder, a pattern or '-' for standard input; there is nothing of this name.{near}"
    )


def _walk(folder: Path, skipped: list[Skipped]) -> Iterator[Found]:
    def closed(error: OSError) -> None:
        skipped.append(Skipped(str(error.filename), f"could not be opened: {error.strerror}"))

    for here, folders, files in os.walk(folder, onerror=closed):
        for name in sorted(set(folders) & _FOLDERS):
            skipped.append(Skipped(str(Path(here, name)), "a folder of tools, not of logs"))
        folders[:] = sorted(set(folders) - _FOLDERS)
        for name in sorted(files):
            path = Path(here, name)
            if path.suffix.lower() in _NO_LOGS:
                skipped.append(
                    Skipped(
                        str(path), f"{path.suffix} files are no logs by their name; name the file itself to read it"
                    )
                )
            else:
                yield Found(path, str(path), False)


def plain(path: Path, folder: Path) -> Path:
    """Return the file unpacked and as UTF-8: itself where it is so, else a copy in `folder` under its plain name."""
    if not path.is_file():  # a pipe: `lossmith read <(ssh host cat log)`
        with path.open("rb") as stream:
            path = spooled(stream, folder)
    start = head(path)
    kind = packing(start)
    if kind:
        name = path.stem if path.suffix in _PACKED_NAMES else path.name
        copy = _place(folder, name)
        try:
            with open_packed(path, kind) as packed, copy.open("wb") as out:
                _copy_what_is_whole(packed, out)
        except ImportError:
            raise DataError(f"{path}: packed with zstd; pip install zstandard, or unpack it first") from None
        if not copy.stat().st_size:
            raise DataError(f"{path}: packed as {kind}, and damaged from its first byte on")
        return plain(copy, folder)
    encoding = wide_encoding(start)
    return _recoded(path, encoding, folder) if encoding else path


def _copy_what_is_whole(packed: IO[bytes], out: IO[bytes]) -> None:
    """Copy up to where a packed file is damaged or cut off: a log that is still being written ends that way."""
    piece = getattr(packed, "read1", packed.read)  # read would keep back what it has when the end is missing
    try:
        while chunk := piece(1 << 16):
            out.write(chunk)
    except ImportError:
        raise
    except Exception:  # each packer has errors of its own for a cut-off file
        return


def _recoded(path: Path, encoding: str, folder: Path) -> Path:
    copy = _place(folder, path.name)
    with (
        path.open(encoding=encoding, errors="replace", newline="") as text,
        copy.open("w", encoding="utf-8", newline="") as out,
    ):
        shutil.copyfileobj(text, out, 1 << 20)
    return copy


def spooled(stream: IO[bytes], folder: Path) -> Path:
    """Return standard input as a file."""
    copy = _place(folder, "stdin")
    with copy.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)
    return copy


def _place(folder: Path, name: str) -> Path:
    """A new place for a file of this name: the name may be what tells the format."""
    for index in range(1 << 30):
        inner = folder / str(index)
        if not inner.exists():
            inner.mkdir()
            return inner / (name or "file")
    raise InputError(f"{folder} is full")
