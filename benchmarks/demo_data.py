"""Text and labels for the demonstrations, out of Debian's package index: descriptions, and the section each stands in.

The index is fetched with apt into a folder of its own; the system's state is left alone. 61,000 descriptions (free
licences, one per package) are English prose about 58 sections; a title that several packages share counts once.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

CACHE = Path("/tmp/lossmith-demo")
STATE = CACHE / "apt"
SECTIONS = ("admin", "electronics", "games", "graphics", "math", "net", "science", "sound", "text", "web")
"""Sections told apart by what a package is for, not by the language that it is written in (libs, python, perl, …)."""


def fetch_index(languages: str = "en,zh_CN,fr") -> Path:
    """Fetch Debian's package index and its translations once; return the folder of the lists."""
    lists = STATE / "state" / "lists"
    if not list(lists.glob("*bookworm_main_i18n_Translation-en*")):
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        (STATE / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        options = [f"Dir::State={STATE}/state", f"Dir::State::lists={lists}", f"Dir::Cache={STATE}/cache"]
        options += [f"Acquire::Languages={languages}"]
        subprocess.run(["apt-get", *(part for o in options for part in ("-o", o)), "-q", "update"], check=True)
    return lists


def read_list(pattern: str) -> str:
    """Return the text of the one list that a pattern names."""
    (path,) = fetch_index().glob(f"*debian_dists_bookworm_main_{pattern}*")
    done = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", str(path)], check=True, capture_output=True)
    return done.stdout.decode("utf-8")


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the fields of each stanza; lines that go on are joined with line breaks."""
    for block in text.split("\n\n"):
        pairs = re.findall(r"^(\S+?): ?(.*(?:\n .*)*)", block, re.M)
        if pairs:
            yield {key: re.sub(r"\n ", "\n", value) for key, value in pairs}


def plain(description: str) -> str:
    """Return a description as prose: title, then paragraphs; bullets and line breaks become spaces."""
    title, *rest = description.split("\n")
    body = re.sub(r"\s+", " ", " ".join("\n" if line == "." else line for line in rest))
    return f"{title.strip()}. {body.strip()}".strip()


def descriptions() -> list[tuple[str, str]]:
    """Return (description, section) of every package, titles that several share once, in the order of the index."""
    section = {s["Package"]: s.get("Section", "").split("/")[-1] for s in stanzas(read_list("binary-amd64_Packages"))}
    found: dict[str, tuple[str, str]] = {}
    for entry in stanzas(read_list("i18n_Translation-en")):
        text = plain(entry["Description-en"])
        # the packages of one source begin alike: what is tested must not have been read in another's description
        found.setdefault(text[text.find(". ") + 2 :][:80], (text, section.get(entry["Package"], "")))
    return [pair for pair in found.values() if pair[1] and len(pair[0]) > 80]


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write rows as .jsonl."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def sections(folder: Path, *, test: int = 2000, seed: int = 0, length: int = 320) -> tuple[Path, Path, Path]:
    """Write train.jsonl, test.jsonl (text cut to `length` characters, label) and prose.txt; return the three paths.

    The prose is every description but those of the test rows, whatever its section; a blank line parts them.
    """
    every = descriptions()
    ours = [pair for pair in every if pair[1] in SECTIONS]
    random.Random(seed).shuffle(ours)
    rows = [{"text": text[:length], "label": label} for text, label in ours]
    held = {text for text, _ in ours[:test]}
    train, tested = write_rows(folder / "train.jsonl", rows[test:]), write_rows(folder / "test.jsonl", rows[:test])
    prose = folder / "prose.txt"
    prose.write_text("\n\n".join(text for text, _ in every if text not in held) + "\n", encoding="utf-8")
    return train, tested, prose
