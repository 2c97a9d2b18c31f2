"""Human judgements of 50 news texts for the demonstration of sentence embeddings, out of a package.

pip download gensim==4.4.0 (LGPL-2.1) into a folder, once: only its test data is read, nothing is installed.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from demo_data import downloaded

LEE = "gensim/test/test_data/"


def lee(folder: Path) -> tuple[list[str], np.ndarray]:
    """Return the 50 news texts of Lee, Pincombe & Welsh (2005), and how alike people found them, float64[50, 50]."""
    rows = _wheel(folder, "similarities0-1.txt").splitlines()
    return _wheel(folder, "lee.cor").splitlines(), np.array([[float(cell) for cell in row.split()] for row in rows])


def _wheel(folder: Path, name: str) -> str:
    with zipfile.ZipFile(downloaded(folder, "gensim==4.4.0")) as wheel:
        return wheel.read(LEE + name).decode("latin-1")
