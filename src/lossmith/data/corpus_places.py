"""Where packages put the texts of the built-in corpora, and which version of them is there."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
from pathlib import Path


def module(name: str, part: str = "") -> Path | None:
    """Return the folder of a Python package (or a part of it) without importing it (or what it requires)."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    place = Path(next(iter(spec.submodule_search_locations))) / part
    return place if place.is_dir() else None


def roots() -> list[Path]:
    """Return where Debian's folders are looked for: / and, for packages unpacked by hand, $LOSSMITH_CORPORA."""
    extra = os.environ.get("LOSSMITH_CORPORA", "")
    return [*(Path(part) for part in extra.split(os.pathsep) if part), Path("/")]


def shared(pattern: str, needs: str | None = None) -> Path | None:
    """Return the first usr/share/<pattern>; None as well when the Python package that reads it is missing."""
    if needs is not None and importlib.util.find_spec(needs) is None:
        return None
    found = (match for root in roots() for match in sorted((root / "usr/share").glob(pattern)))
    return next(found, None)


def games(name: str) -> Path | None:
    """Return usr/share/games/<name>."""
    return shared(f"games/{name}")


def node(name: str) -> Path | None:
    """Return a folder of an npm package, installed under the current folder, home, $LOSSMITH_CORPORA or globally."""
    binary = shutil.which("node")
    prefixes = [Path.cwd(), Path.home(), *roots()[:-1], Path("/usr/local/lib"), Path("/usr/lib")]
    prefixes += [Path(binary).resolve().parent.parent / "lib"] if binary else []
    found = (prefix / "node_modules" / name for prefix in prefixes)
    return next((place for place in found if place.is_dir()), None)


def node_version(place: Path) -> str:
    """Return the version of the npm package that holds a folder two levels down."""
    return str(json.loads((place.parent.parent / "package.json").read_text(encoding="utf-8"))["version"])


def debian_version(place: Path, package: str) -> str:
    """Return what tells one version of a Debian package from another: size and time of its change log.

    Files keep the time at which the package was built, so that this is the same on every machine.
    """
    root = Path(*place.parts[: place.parts.index("usr")])
    log = root / "usr/share/doc" / package / "changelog.Debian.gz"
    status = (log if log.exists() else place).stat()
    return f"{package}-{status.st_size}-{int(status.st_mtime)}"


def count_files(folder: Path) -> int:
    """Return how many files a folder holds, where several packages share it."""
    return sum(len(files) for _, _, files in os.walk(folder))


def distribution_version(name: str) -> str:
    """Return the version of an installed Python package."""
    from importlib.metadata import version

    return version(name)


def python_version() -> str:
    """Return the version of Python, which ships pydoc_data."""
    return platform.python_version()
