"""Text and human judgements for the demonstration of sentence embeddings, out of packages; nothing is installed.

apt-get download sword-text-web sword-text-kjv (public domain) and pip download gensim==4.4.0 (LGPL-2.1, only its test
data is read), into a folder, once.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lossmith.data.corpus_readers import plain_verse

LEE = "gensim/test/test_data/"


def fetch(folder: Path) -> Path:
    """Download and unpack what is missing in `folder`, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("gensim-*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "gensim==4.4.0"]
        subprocess.run(pip, check=True)
    if not (folder / "usr").exists():
        subprocess.run(["apt-get", "download", "-q", "sword-text-web", "sword-text-kjv"], cwd=folder, check=True)
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
    return folder


def _wheel(folder: Path, name: str) -> str:
    with zipfile.ZipFile(next(folder.glob("gensim-*.whl"))) as wheel:
        return wheel.read(LEE + name).decode("latin-1")


def background(folder: Path) -> list[str]:
    """Return the 300 news texts of lee_background.cor, none of which was judged."""
    return _wheel(folder, "lee_background.cor").splitlines()


def lee(folder: Path) -> tuple[list[str], np.ndarray]:
    """Return the 50 news texts of Lee, Pincombe & Welsh (2005), and how alike people found them, float64[50, 50]."""
    rows = _wheel(folder, "similarities0-1.txt").splitlines()
    return _wheel(folder, "lee.cor").splitlines(), np.array([[float(cell) for cell in row.split()] for row in rows])


def verses(folder: Path) -> list[tuple[str, str]]:
    """Return the verses that the World English Bible and the King James Version share, as (WEB, KJV)."""
    one, two = (dict(_verses(folder, name)) for name in ("engWEB2015eb", "engKJV2006eb"))
    return [(one[key], two[key]) for key in one if key in two]


def _verses(folder: Path, name: str) -> Iterator[tuple[tuple[str, int, int], str]]:
    from functools import lru_cache

    from pysword.modules import SwordModules

    modules = SwordModules(str(folder / "usr" / "share" / "sword"))
    modules.parse_modules()
    text: Any = modules.get_bible_from_module(name)
    text._decompressed_text = lru_cache(2)(text._decompressed_text)  # else a book is decompressed for every verse
    for books in text.get_structure().get_books().values():
        for book in books:
            for chapter in range(1, book.num_chapters + 1):
                found = text.get_iter(books=[book.name], chapters=[chapter], clean=False)
                for number, verse in enumerate(found, 1):
                    plain = " ".join(plain_verse(verse).split())
                    if plain:
                        yield (book.name, chapter, number), plain
