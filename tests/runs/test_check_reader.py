"""The laws for readers hold for every built-in one, on the logs that tools really wrote; planted faults break them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossmith.errors import DataError
from lossmith.runs import Curve, Run, read, readers
from lossmith.testing import ReaderError, check_reader

GOLDEN = Path(__file__).parent / "golden"
LOADED = {reader.name: reader for reader in readers()[0]}
TAKEN = sorted({(taken.reader, taken.path) for taken in read(GOLDEN).taken})


@pytest.mark.parametrize(("name", "path"), TAKEN, ids=[f"{name}-{Path(path).parent.name}" for name, path in TAKEN])
def test_built_in_readers_keep_the_laws(name: str, path: str) -> None:
    check_reader(LOADED[name], path)


class Planted:
    """A reader of two columns with one fault."""

    name = "planted"

    def __init__(self, fault: str) -> None:
        self.fault, self.calls = fault, 0

    def sniff(self, path: Path) -> bool:
        return self.fault != "blind"

    def read(self, path: Path) -> list[Run]:
        self.calls += 1
        text = path.read_bytes().decode("utf-8", "strict" if self.fault == "crashes" else "replace")
        rows = [line.split() for line in text.splitlines()]
        pairs = [
            (int(row[0]), float(row[1])) for row in rows if len(row) == 2 and row[0].isdigit() and row[1][0].isdigit()
        ]
        if not pairs:
            raise DataError(f"{path}: nothing")
        name = "accuracy" if self.fault == "no loss" else "loss"
        pairs = pairs[: -self.calls] if self.fault == "forgets" else pairs
        if self.fault == "writes":
            path.write_bytes(path.read_bytes() + b"\n")
        if self.fault == "invents" and path.stat().st_size < 60:
            pairs *= 50
        return [Run(str(path), "planted", {name: Curve.of(name, pairs)})]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("blind", "sniff says no"),
        ("no loss", "no loss was found"),
        ("forgets", "reading twice gives different curves"),
        ("crashes", "UnicodeDecodeError"),
        ("writes", "reading changed the file"),
        ("invents", "points, and the whole file has"),
    ],
)
def test_planted_faults_are_caught(fault: str, said: str, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("".join(f"{step} {5 / step:.3f}\n" for step in range(1, 30)), encoding="utf-8")
    with pytest.raises(ReaderError, match=said):
        check_reader(Planted(fault), log)


def test_a_reader_without_fault_passes(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("".join(f"{step} {5 / step:.3f}\n" for step in range(1, 30)), encoding="utf-8")
    check_reader(Planted(""), log)
