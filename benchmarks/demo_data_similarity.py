"""Human judgements of 50 news texts for the demonstration of sentence embeddings, out of a package.

pip download gensim==4.4.0 (LGPL-2.1) into a folder, once: only its test data is read, nothing is installed.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

LEE = "gensim/test/test_data/"


def fetch(folder: Path) -> Path:
    """Download gensim's wheel into `folder` where it is missing, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("gensim-*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "gensim==4.4.0"]
        subprocess.run(pip, check=True)
    return folder


def lee(folder: Path) -> tuple[list[str], np.ndarray]:
    """Return the 50 news texts of Lee, Pincombe & Welsh (2005), and how alike people found them, float64[50, 50]."""
    rows = _wheel(folder, "similarities0-1.txt").splitlines()
    return _wheel(folder, "lee.cor").splitlines(), np.array([[float(cell) for cell in row.split()] for row in rows])


def _wheel(folder: Path, name: str) -> str:
    with zipfile.ZipFile(next(folder.glob("gensim-*.whl"))) as wheel:
        return wheel.read(LEE + name).decode("latin-1")
