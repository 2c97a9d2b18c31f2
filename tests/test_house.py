"""The laws of the house: imports point one way, the front door is lazy, everything public is documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import lossmith

SOURCE = Path(lossmith.__file__).parent
ROOMS = {
    "errors": set(),
    "total": {"errors"},
    "precision": set(),
    "losses": {"precision", "total", "errors"},
    "testing": {"objectives", "losses", "models", "runs", "total", "errors"},  # imported by nobody: in no other row
    "models": {"precision", "total", "errors"},
    "objectives": {"losses", "models", "total", "errors"},
    "data": {"errors"},
    "plugins": set(),
    "runs": {"plugins", "errors"},
    "pictures": {"runs", "errors"},
    "diagnosis": {"pictures", "runs", "plugins", "errors"},
    "evaluate": {"diagnosis", "pictures", "objectives", "losses", "models", "data", "runs", "total", "errors"},
    "train": {
        *("evaluate", "diagnosis", "pictures", "objectives", "losses", "models", "data", "runs", "precision", "total"),
        "errors",
    },
    "integrations": {"diagnosis", "losses", "models", "runs", "total", "errors"},
    "cli": {
        *("train", "evaluate", "diagnosis", "pictures", "objectives", "losses", "models", "data", "runs", "total"),
        "errors",
    },
}
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(SOURCE)], "lossmith.") if m.name != "lossmith.__main__")
FORBIDDEN = {
    "runs": ("torch", "transformers"),
    "diagnosis": ("torch", "transformers", "scipy"),
    "data": ("torch",),
    "cli": ("torch", "transformers"),
}


def room_of(module: str) -> str:
    return module.split(".")[1]


def imports(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def misplaced(module: str, source: str) -> set[str]:
    """Names of rooms that `module` imports and must not."""
    rooms = {name.split(".")[1] for name in imports(ast.parse(source)) if name.startswith("lossmith.")}
    return rooms - ROOMS[room_of(module)] - {room_of(module)}


def path_of(module: str) -> Path:
    base = SOURCE.parent / Path(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    assert misplaced(module, path_of(module).read_text(encoding="utf-8")) == set()


def test_the_layer_test_can_fail() -> None:
    assert misplaced("lossmith.losses.planted", "from lossmith.train import train") == {"train"}


@pytest.mark.parametrize(("room", "package"), [(room, name) for room, names in FORBIDDEN.items() for name in names])
def test_importing_a_light_room_stays_light(room: str, package: str) -> None:
    code = f"import sys, lossmith.{room}; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_front_door_is_lazy_sorted_and_complete() -> None:
    code = "import sys, lossmith; sys.exit(bool({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert list(lossmith.__all__) == sorted(lossmith.__all__)
    assert all(getattr(lossmith, name) is not None for name in lossmith.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = lossmith.trian  # type: ignore[attr-defined]


def public_objects() -> list[tuple[str, object]]:
    found = []
    for name in MODULES:
        module = importlib.import_module(name)
        for key, value in vars(module).items():
            if not key.startswith("_") and getattr(value, "__module__", None) == name and callable(value):
                found.append((f"{name}.{key}", value))
    return found


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module: str) -> None:
    assert importlib.import_module(module).__doc__


@pytest.mark.parametrize(("name", "thing"), public_objects(), ids=lambda x: x if isinstance(x, str) else "")
def test_everything_public_is_documented(name: str, thing: object) -> None:
    assert thing.__doc__, f"{name} has no docstring"
    for key, member in vars(thing).items() if inspect.isclass(thing) else ():
        if inspect.isfunction(member) and not key.startswith("_"):
            assert member.__doc__, f"{name}.{key} has no docstring"


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_stay_small(module: str) -> None:
    source = path_of(module).read_text(encoding="utf-8")
    lengths = {
        node.name: (node.end_lineno or 0)
        - node.lineno
        + 1
        - len((ast.get_docstring(node, clean=False) or "").splitlines())
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    }
    assert len(source.splitlines()) <= 320
    assert max(lengths.values(), default=0) <= 50, max(lengths, key=lambda name: lengths[name])
