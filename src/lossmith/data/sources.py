"""From what the user named to a list of files: folders walked, globs expanded, corpora looked up."""

from __future__ import annotations

import glob
from dataclasses import dataclass, field
from pathlib import Path

from lossmith.data.corpora import CORPORA, Corpus
from lossmith.errors import DataError, did_you_mean

TEXT = (".txt", ".md")
TABLES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
COMPRESSED = (".gz", ".zst", ".xz")
STDIN = "-"


@dataclass(frozen=True)
class Source:
    """One thing to read: a file, standard input, or a corpus; `kind`: text, jsonl, json, csv, tsv, parquet, corpus."""

    name: str
    kind: str
    compression: str = ""
    path: Path | None = None
    corpus: Corpus | None = None


@dataclass
class Found:
    """What the inputs came to: sources to read, and files of a folder that are of no kind we read."""

    sources: list[Source] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


def expand(inputs: tuple[str, ...]) -> Found:
    """Return the sources that the inputs name, in order, each file once.

    Errors: DataError for a missing file, a glob or a folder without a readable file, an unknown extension.
    """
    found = Found()
    for name in inputs:
        _expand_one(name, found)
    found.sources = list({source.path or source.name: source for source in found.sources}.values())
    return found


def _expand_one(name: str, found: Found) -> None:
    if name == STDIN:
        found.sources.append(Source(name=STDIN, kind="stdin"))
    elif name in CORPORA:
        found.sources.append(Source(name=name, kind="corpus", corpus=CORPORA[name]))
    elif Path(name).expanduser().exists():
        _add_path(Path(name).expanduser(), found)
    elif glob.has_magic(name):
        _add_glob(name, found)
    else:
        raise DataError(_missing(name))


def _add_path(path: Path, found: Found) -> None:
    if path.is_dir():
        _add_folder(path, found)
    else:
        found.sources.append(file_source(path))


def _add_glob(pattern: str, found: Found) -> None:
    # Path.glob takes no absolute pattern
    matches = sorted(glob.glob(str(Path(pattern).expanduser()), recursive=True))  # noqa: PTH207
    if not matches:
        raise DataError(
            f"the pattern {pattern!r} matches no file; expected at least one. Quote it, and check the folder"
        )
    for match in matches:
        _add_path(Path(match), found)


def _add_folder(folder: Path, found: Found) -> None:
    before = len(found.sources)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            if classify(path) is None:
                found.ignored.append(str(path))
            else:
                found.sources.append(file_source(path))
    if len(found.sources) == before:
        raise DataError(f"the folder {str(folder)!r} holds no file that can be read; expected {_supported()}")


def classify(path: Path) -> tuple[str, str] | None:
    """Return (kind, compression) by the name of a file, or None when it is of no kind we read.

    >>> classify(Path("a.jsonl.gz")), classify(Path("a.txt")), classify(Path("a.png"))
    (('jsonl', '.gz'), ('text', ''), None)
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSED else ""
    last = suffixes[-1] if suffixes else ""
    if last in TEXT:
        return "text", compression
    return (last[1:], compression) if last in TABLES else None


def file_source(path: Path) -> Source:
    """Return the source of one file; DataError when it is no regular file or its extension says nothing."""
    kind = classify(path)
    if kind is None:
        last = path.suffix or "no extension"
        hint = did_you_mean(path.suffix, TEXT + TABLES)
        raise DataError(f"cannot tell how to read {str(path)!r} ({last}); expected {_supported()}.{hint}")
    return Source(name=str(path), kind=kind[0], compression=kind[1], path=path.absolute())


def _supported() -> str:
    return f"one of {', '.join(TEXT + TABLES)}, plain or with {', '.join(COMPRESSED)}"


def _missing(name: str) -> str:
    folder = Path(name).expanduser().parent
    near = did_you_mean(Path(name).name, (path.name for path in folder.iterdir())) if folder.is_dir() else ""
    near = near or did_you_mean(name, CORPORA)
    where = "" if folder.is_dir() else f" (its folder {str(folder)!r} does not exist either)"
    return (
        f"no such file, folder or corpus: {name!r}{where}; expected a path, a glob, '-' for standard input, or one of "
        f"the corpora {', '.join(CORPORA)}.{near}"
    )
