"""The documentation is true: its commands run, its messages are the real ones, its links lead somewhere."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

import lossmith
from lossmith import cli
from lossmith.data import CORPORA
from lossmith.models.presets import PRESETS
from lossmith.train.config import TrainConfig, option

ROOT = Path(__file__).resolve().parents[1]
ENGLISH = ["README.md"]
ENGLISH += [f"docs/{page}.md" for page in ("data", "training", "numbers", "losses", "reading", "integrations")]
ENGLISH += [f"docs/{page}.md" for page in ("objectives", "finetuning", "evaluation", "surprise")]
PAGES = [*ENGLISH, *(page.replace(".md", ".zh.md") for page in ENGLISH)]
EVERY_PAGE = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
GOLDEN = ROOT / "tests" / "runs" / "golden"
SKIP = "<!-- test: skip -->"
FENCE = re.compile(rf"({re.escape(SKIP)}\n)?^```(\w*)\n(.*?)^```$", re.M | re.S)
SHORT = ["--sample-tokens", "4", "--eval-max-tokens", "256"]


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    skipped: bool

    @property
    def commands(self) -> list[str]:
        return [line for line in self.text.splitlines() if line and not line.startswith("#")]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    return [Block(language, body, bool(skip)) for skip, language, body in FENCE.findall(text)]


def to_run(page: str, language: str) -> list[Block]:
    return [block for block in blocks(read(page)) if block.language == language and not block.skipped]


def headings(text: str) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", FENCE.sub("", text), re.M)]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the documentation speaks of; `lossmith` and `python` are those under test."""
    text = ("ROMEO:\nIs the day so young?\n\nJULIET:\nAn hour but new struck nine, ANTONIO.\n\n" * 400)[:30_000]
    (tmp_path / "books").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "books" / f"{name}.txt").write_text(text[:6000] + name, encoding="utf-8")
    (tmp_path / "my.txt").write_text(text, encoding="utf-8")
    (tmp_path / "notes.md.gz").write_bytes(gzip.compress(text[:3000].encode()))
    rows = [json.dumps({"title": part[:9], "body": part}) for part in text.split("\n\n") if part]
    (tmp_path / "posts.jsonl").write_text("\n".join(rows), encoding="utf-8")
    reviews = [f"{word} {i},{word}" for i, word in enumerate(["good", "bad", "好"] * 20)]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,stars", *reviews]), encoding="utf-8")
    (tmp_path / "novel-gb.txt").write_bytes("床前明月光，疑是地上霜。\n".encode("gb18030") * 300)
    (tmp_path / "latin.txt").write_bytes("café latin".encode("latin-1"))
    (tmp_path / "one.txt").write_text("x", encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    shutil.copy(GOLDEN / "hf_trainer" / "trainer_state.json", tmp_path)
    (tmp_path / "logs").mkdir()
    for name, low in (("a", 2.0), ("b", 2.5)):
        rows = "".join(f"{step},{low + 5 * step**-0.5}\n" for step in range(1, 200))
        (tmp_path / "logs" / f"{name}.csv").write_text(f"step,loss\n{rows}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return tmp_path


def shortened(words: list[str]) -> list[str]:
    """The command as written, cut to two steps (three where it goes on) and small samples; the last option wins."""
    if words[:2] == ["lossmith", "finetune"]:
        return [*words, "--max-steps", "2"]
    if words[:2] == ["lossmith", "compress"]:  # token by token, and read back: the whole file would take minutes
        Path("start.txt").write_bytes(Path(words[2]).read_bytes()[:500])
        return [*words[:2], "start.txt", *words[3:]]
    if words[:2] != ["lossmith", "train"] or any(word.startswith("--list-") for word in words):
        return words
    steps = "3" if "--resume-from-checkpoint" in words else "2"
    return [*words, "--max-steps", steps, *SHORT]


def run_line(line: str) -> None:
    """Run one command line as written: in this process where it is lossmith alone, else by bash."""
    if line.startswith("lossmith ") and not re.search(r"[|&;<>$`]", line):
        assert cli.run(shortened(shlex.split(line))[1:]) == 0, line
        return
    parts = [shlex.join(shortened(shlex.split(part))) for part in line.split("|")]
    subprocess.run(["bash", "-euo", "pipefail", "-c", " | ".join(parts)], check=True, capture_output=True, timeout=120)


@pytest.mark.parametrize("page", ENGLISH)  # the Chinese pages hold the same blocks: see below
def test_commands_run_as_written(page: str, desk: Path) -> None:
    lines = [line for block in to_run(page, "bash") for line in block.commands]
    assert lines
    for line in lines:
        run_line(line)


@pytest.mark.parametrize("page", [page for page in ENGLISH if page != "docs/data.md"])
def test_python_runs_as_written(page: str, desk: Path) -> None:
    for block in to_run(page, "python"):
        short = r"\1max_steps=2, sample_tokens=4, eval_max_tokens=256"
        code = re.sub(r"(lossmith\.train\([^()]*)max_steps=\d+", short, block.text)
        exec(compile(code, page, "exec"), {"__name__": "__main__"})


def messages(page: str) -> list[tuple[str, str]]:
    """Each (command, message on stderr) that a page shows."""
    shown = [block.text.split("\n", 1) for block in blocks(read(page)) if block.text.startswith("$ ")]
    return [(first[2:], rest) for first, rest in shown if rest.startswith("lossmith: ")]


def test_messages_are_the_real_ones(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = messages("docs/data.md")
    assert len(shown) >= 5
    for command, message in shown:
        assert cli.run(shlex.split(command)[1:]) == 2, command
        assert capsys.readouterr().err.split() == message.split()


@pytest.mark.parametrize("page", ENGLISH)
def test_both_languages_say_the_same(page: str) -> None:
    ours, theirs = read(page), read(page.replace(".md", ".zh.md"))
    assert headings(ours) == headings(theirs)
    assert blocks(ours) == blocks(theirs)


@pytest.mark.parametrize("language", ["", ".zh"])
def test_everything_is_mentioned(language: str) -> None:
    pages = [page.replace(".md", f"{language}.md") for page in ENGLISH if page != "README.md"]
    text = "".join(map(read, pages))
    ways = {field.name: option(field.name) for field in fields(TrainConfig) if field.name != "inputs"}
    assert [name for name in ways.values() if not re.search(rf"{name}(?![\w-])", text)] == []
    assert [name for name in lossmith.__all__ if f"lossmith.{name}" not in text] == []
    assert [name for name in (*CORPORA, *PRESETS) if f"`{name}`" not in text] == []
    assert [name for name in cli.COMMANDS if f"lossmith {name}" not in text] == []


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to headings."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def broken_links(page: Path, text: str) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text))
    return [link for link in found if not re.match(r"\w+:", link) and not resolves(page, link)]


def resolves(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    return target.exists() and (not anchor or anchor in anchors(target.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_links_lead_somewhere(page: str) -> None:
    assert broken_links(ROOT / page, read(page)) == []


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_plain_and_wrapped(page: str) -> None:
    text = read(page)
    assert "{{" not in text
    prose = [line for line in FENCE.sub("", text).splitlines() if not line.startswith("|")]
    assert [line for line in prose if len(line) > 125] == []


def test_the_checks_can_fail(desk: Path) -> None:
    assert broken_links(ROOT / "README.md", "[x](docs/no.md) [y](docs/data.md#no) [z](docs/data.md#inputs)") == [
        "docs/no.md",
        "docs/data.md#no",
    ]
    assert headings("# a\n```bash\n# b\n```\n## c\n") == [1, 2]
    with pytest.raises(AssertionError):
        run_line("lossmith train no-such-file.txt")
    with pytest.raises(subprocess.CalledProcessError):
        run_line("cat my.txt | lossmith train - --tokenizer nothing")
