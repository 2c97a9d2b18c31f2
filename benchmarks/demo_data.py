"""Text and labels for the demonstrations, out of Debian: descriptions of packages, translations, WordNet.

The index is fetched with apt into a folder of its own; the system's state is left alone. 61,000 descriptions (free
licences, one per package) are English prose about 58 sections; a title that several packages share counts once.
"""

from __future__ import annotations

import collections
import gettext
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

CACHE = Path("/tmp/lossmith-demo")
STATE = CACHE / "apt"
SECTIONS = ("admin", "electronics", "games", "graphics", "math", "net", "science", "sound", "text", "web")
"""Sections told apart by what a package is for, not by the language that it is written in (libs, python, perl, …)."""

NOUNS = (
    *("Tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event", "feeling"),
    *("food", "group", "location", "motive", "object", "person", "phenomenon", "plant", "possession", "process"),
    *("quantity", "relation", "shape", "state", "substance", "time"),
)
"""WordNet's lexicographer files of nouns, in the order of their numbers."""

SENTENCE = re.compile(r"(?<=[.!?:;])\s+|(?<=[。！？：；])\s*")
HOW_IT_IS_BUILT = ("role", "implemented-in", "interface", "uitoolkit", "x11", "scope", "suite", "made-of", "devel")


def downloaded(folder: Path, requirement: str, *options: str) -> Path:
    """Return the file that `pip download` gets for NAME==VERSION, fetched once into a folder; nothing is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    name = requirement.replace("==", "-")
    if not list(folder.glob(f"{name}*")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options, "--dest", str(folder)]
        subprocess.run([*pip, requirement], check=True)
    return next(folder.glob(f"{name}*"))


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


def private() -> list[str]:
    """Return the options that let apt work in a folder of its own; the lists are there after `fetch_index`."""
    fetch_index()
    return ["-o", f"Dir::State={STATE}/state", "-o", f"Dir::State::lists={STATE}/state/lists"]


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
    """Write train.jsonl, test.jsonl (text cut to `length` characters, label) and prose.jsonl; return the three paths.

    The prose is every description but those of the test rows, whatever its section, a document each.
    """
    every = descriptions()
    ours = [pair for pair in every if pair[1] in SECTIONS]
    random.Random(seed).shuffle(ours)
    rows = [{"text": text[:length], "label": label} for text, label in ours]
    held = {text for text, _ in ours[:test]}
    train, tested = write_rows(folder / "train.jsonl", rows[test:]), write_rows(folder / "test.jsonl", rows[:test])
    prose = write_rows(folder / "prose.jsonl", ({"text": text} for text, _ in every if text not in held))
    return train, tested, prose


def definitions(folder: Path, *, test: int = 2000, train: int = 6000, seed: int = 0) -> tuple[Path, Path, Path]:
    """Write train.jsonl, test.jsonl (definition, kind of thing) and prose.jsonl out of WordNet; return the three paths.

    The label is the lexicographer file that a noun stands in (animal, artifact, food, …), the 15 largest. The prose is
    WordNet as a dictionary, a document for each word: its definitions and examples, without those of the test rows.
    """
    senses = [sense for part in ("noun", "verb", "adj", "adv") for sense in wordnet(part)]
    kinds = collections.Counter(kind for _, _, kind in senses if kind in NOUNS)
    labels = {kind for kind, _ in kinds.most_common(15)}
    first = {definition(gloss): kind for _, gloss, kind in reversed(senses)}
    ours = [pair for pair in first.items() if pair[1] in labels and len(pair[0].split()) >= 4]
    random.Random(seed).shuffle(ours)
    rows = [{"text": text, "label": kind} for text, kind in ours[: test + train]]
    held = {row["text"] for row in rows[:test]}
    entries: dict[str, list[str]] = {}
    for word, gloss, _ in senses:
        if definition(gloss) not in held:
            entries.setdefault(word, []).append(gloss)
    prose = ({"text": f"{word}: {'. '.join(entries[word])}."} for word in sorted(entries, key=str.lower))
    tables = (("train", rows[test:]), ("test", rows[:test]), ("prose", prose))
    made = [write_rows(folder / f"{name}.jsonl", table) for name, table in tables]
    return made[0], made[1], made[2]


def wordnet(part: str) -> Iterator[tuple[str, str, str]]:
    """Yield (first word, gloss, lexicographer file) of every sense in WordNet 3.0's data file of a part of speech."""
    folder = CACHE / "wordnet"
    if not (folder / "usr").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", *private(), "download", "wordnet-base"], check=True, cwd=folder)
        (package,) = folder.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    for line in (folder / "usr/share/wordnet" / f"data.{part}").open(encoding="latin-1"):
        if not line.startswith("  "):  # the licence
            head, gloss = line.split(" | ", 1)
            fields = head.split()
            number = int(fields[1])  # https://wordnet.princeton.edu/documentation/lexnames5wn: 3 … 28 are nouns
            kind = NOUNS[number - 3] if 3 <= number < 3 + len(NOUNS) else part
            yield fields[4].split("(")[0].replace("_", " "), gloss.strip(), kind


def definition(gloss: str) -> str:
    """Return a gloss without its examples."""
    return gloss.split('; "')[0]


def tagged(rows: Path, *, least: int = 3, most: int = 400) -> tuple[list[str], list[frozenset[str]]]:
    """Return the texts of rows whose packages have at least `least` debtags of a subject, and these tags.

    Tags of how a program is built (role, implemented-in, interface, uitoolkit, x11, …) say nothing of its subject.
    """
    packages = {s["Package"]: s.get("Tag", "") for s in stanzas(read_list("binary-amd64_Packages"))}
    tags: dict[str, frozenset[str]] = {}
    for entry in stanzas(read_list("i18n_Translation-en")):
        found = re.findall(r"[a-z0-9-]+::[\w:+-]+", packages.get(entry["Package"], ""))
        subjects = frozenset(tag for tag in found if tag.split("::")[0] not in HOW_IT_IS_BUILT)
        tags.setdefault(plain(entry["Description-en"])[:320], subjects)
    texts = [json.loads(line)["text"] for line in rows.open(encoding="utf-8")]
    chosen = [text for text in texts if len(tags.get(text, ())) >= least][:most]
    return chosen, [tags[text] for text in chosen]


def translations(
    folder: Path, language: str = "fr", *, test: int = 500, seed: int = 0
) -> tuple[Path, Path, Path, Path]:
    """Write train.jsonl and test.jsonl (en, LANGUAGE), prose.txt and pairs.jsonl; return the four paths.

    Rows: the titles of packages and their translations, and for zh_CN, of which there are few, the messages of the
    programs that are installed here. Those that begin alike ("… - documentation", "… (debug symbols)") stand on one
    side. The prose is every description in both languages whose title is in no test row, and the training rows. The
    pairs are its sentences below the titles, a document each: an English one and, on the next line, its translation.
    """
    english = {s["Description-md5"]: s["Description-en"] for s in stanzas(read_list("i18n_Translation-en"))}
    listed = stanzas(read_list(f"i18n_Translation-{language.replace('_', '%5f')}"))
    other = {s["Description-md5"]: s.get(f"Description-{language}", "") for s in listed}
    whole = [(english[key], text) for key, text in other.items() if key in english and "<trans" not in text]
    titles = {a.split("\n")[0].strip(): b.split("\n")[0].strip() for a, b in whole}
    labelled = titles | (messages(language) if language == "zh_CN" else {})
    groups: dict[str, list[str]] = {}
    for source, target in labelled.items():
        if source and target and source != target:
            groups.setdefault(re.split(r" ?[-–(:,]", source)[0].lower(), []).append(source)
    heads = sorted(groups)
    random.Random(seed).shuffle(heads)
    held: set[str] = set()
    for head in heads:
        if len(held) < test and len(groups[head]) <= 3:  # "library", "documentation": not as many alike in the test
            held |= set(groups[head])
    rows = [{"en": source, language: labelled[source]} for head in heads for source in groups[head]]
    train, tested = ([row for row in rows if (row["en"] in held) is side] for side in (False, True))
    folder.mkdir(parents=True, exist_ok=True)
    prose = folder / "prose.txt"
    unseen = [pair for pair in whole if pair[0].split("\n")[0].strip() not in held]
    kept = [plain(text) for pair in unseen for text in pair]
    kept += [text for row in train if language == "zh_CN" for text in row.values()]
    prose.write_text("\n\n".join(kept) + "\n", encoding="utf-8")
    pairs = sentences(unseen)
    tables = (("train", train), ("test", tested), ("pairs", ({"text": "\n".join(pair)} for pair in pairs)))
    made = [write_rows(folder / f"{name}.jsonl", table) for name, table in tables]
    return made[0], made[1], prose, made[2]


def sentences(descriptions: Iterable[tuple[str, str]], longest: int = 240) -> list[tuple[str, str]]:
    """Return the sentences below the titles with their translations, each once, in an order drawn by chance.

    Where the two sides of a paragraph have as many sentences, these belong together; otherwise the paragraph is one. A
    description whose sides have different numbers of paragraphs is left out, as is what is too long or untranslated.
    """
    found: dict[tuple[str, str], None] = {}
    for both in descriptions:
        one, other = (paragraphs(side) for side in both)
        for here, there in zip(one, other, strict=True) if len(one) == len(other) else ():
            cut = [[part for part in SENTENCE.split(side) if part] for side in (here, there)]
            pairs = zip(*cut, strict=True) if len(cut[0]) == len(cut[1]) else [(here, there)]
            found |= {(a, b): None for a, b in pairs if a != b and len(a) + len(b) <= 2 * longest}
    listed = list(found)
    random.Random(0).shuffle(listed)
    return listed


def paragraphs(description: str) -> list[str]:
    """Return the paragraphs below a description's title, a line each."""
    body = re.split(r"\n\s*\.\s*(?:\n|$)", description.partition("\n")[2])
    return [" ".join(part.split()) for part in body if part.strip()]


def messages(language: str) -> dict[str, str]:
    """Return English messages of installed programs and their translations: whole phrases without placeholders."""
    found: dict[str, str] = {}
    for path in sorted(Path("/usr/share/locale").glob(f"{language}/LC_MESSAGES/*.mo")):
        with path.open("rb") as file:
            catalog: dict[Any, Any] = vars(gettext.GNUTranslations(file))["_catalog"]
        for key, target in catalog.items():
            source = key.split("\x04", 1)[-1] if isinstance(key, str) else ""
            if isinstance(target, str) and _phrase(source, target):
                found.setdefault(re.sub("[_&]", "", source).strip(), re.sub("[_&]", "", target).strip())
    return found


def _phrase(source: str, target: str) -> bool:
    words = 3 <= len(source.split()) <= 16 and re.search("[\u4e00-\u9fff]", target)
    return bool(words) and not re.search(r"[%\n<>{}\\|]", source + target)
