"""The plugin door: a package that is really installed (as metadata on the path) adds a reader, and may be broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lossmith import plugins
from lossmith.runs import Reader, readers

MODULE = """
from lossmith.runs import Curve, Run

class Mine:
    name = "mine"
    rank = -1

    def sniff(self, path):
        return path.suffix == ".mine"

    def read(self, path):
        points = [tuple(map(float, line.split())) for line in path.read_text().splitlines()]
        return [Run(str(path), "mine", {"loss": Curve.of("loss", points)}, {"step_unit": "step"})]
"""
PROGRAM = """
import sys
from lossmith.runs import read
reading = read(*sys.argv[1:])
for run in reading.runs:
    print(run.tool, run.curves["loss"].value.tolist())
for line in [*reading.notes, *(skipped.why for skipped in reading.skipped)]:
    print(line)
"""


def install(folder: Path, points: str, **modules: str) -> None:
    """Lay down what pip would: modules, and metadata with entry points."""
    metadata = folder / "mine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(points)
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)


def run(folder: Path, *paths: Path) -> str:
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n{PROGRAM}"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)], check=True, capture_output=True, text=True
    ).stdout


def test_an_installed_package_adds_a_reader(tmp_path: Path) -> None:
    install(tmp_path, "[lossmith.readers]\nmine = mine_reader:Mine\n", mine_reader=MODULE)
    (tmp_path / "a.mine").write_text("1 5.5\n2 4.5\n")
    assert run(tmp_path, tmp_path / "a.mine") == "mine [5.5, 4.5]\n"


def test_broken_plugins_are_named_and_break_nothing(tmp_path: Path) -> None:
    points = "[lossmith.readers]\nmine = mine_reader:Mine\ngone = no_such_module:X\nodd = json:loads\n"
    install(tmp_path, points, mine_reader=MODULE)
    (tmp_path / "a.csv").write_text("step,loss\n1,5.5\n")
    (tmp_path / "b.mine").write_text("not a number\n")
    out = run(tmp_path, tmp_path / "a.csv", tmp_path / "b.mine")
    assert "CSV [5.5]" in out
    assert "plugin 'gone' could not be loaded: ModuleNotFoundError: No module named 'no_such_module'" in out
    assert "plugin 'odd' could not be loaded: expected a reader with name, sniff(path) and read(path)" in out
    assert "mine failed: ValueError: could not convert string to float: 'not'" in out


def test_a_plugin_takes_the_place_of_a_built_in_reader(tmp_path: Path) -> None:
    install(tmp_path, "[lossmith.readers]\ntable_csv = mine_reader:Mine\n", mine_reader=MODULE)
    (tmp_path / "a.csv").write_text("step,loss\n1,5.5\n")
    assert "CSV" not in run(tmp_path, tmp_path / "a.csv")


def test_every_built_in_reader_keeps_the_protocol() -> None:
    loaded, broken = readers()
    assert not broken
    assert len({reader.name for reader in loaded}) == len(loaded) >= 30
    assert all(isinstance(reader, Reader) for reader in loaded)
    assert all(type(reader).__doc__ for reader in loaded)


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(ValueError, match=r"group must be one of lossmith\.readers"):
        plugins.load("lossmith.writers")
