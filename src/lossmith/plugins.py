"""The one door by which readers, checks, losses and objectives come in, ours and other people's: entry points."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUPS = ("lossmith.readers", "lossmith.checks", "lossmith.losses", "lossmith.objectives")


def load(group: str, builtin: Iterable[str] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what a group holds, by name, and why a plugin could not be loaded, by name.

    `builtin` lists our own as `module:attribute`, loaded the same way as the entry points of installed packages. Those
    come after ours; a plugin with the name of a built-in one takes its place. A plugin that fails to import breaks
    nothing: it is named in the second dictionary.

    >>> loaded, broken = load("lossmith.readers", ["json:loads", "no_such_module:READER"])
    >>> loaded["loads"]("[1]"), broken["no_such_module"]
    ([1], "ModuleNotFoundError: No module named 'no_such_module'")
    """
    if group not in GROUPS:
        raise ValueError(f"group must be one of {', '.join(GROUPS)}; got {group!r}")
    loaded: dict[str, Any] = {}
    broken: dict[str, str] = {}
    for point in [*(_point(group, value) for value in builtin), *entry_points(group=group)]:
        try:
            loaded[point.name] = point.load()
        except Exception as error:  # whatever a stranger's module raises while it is imported
            broken[point.name] = f"{type(error).__name__}: {error}"
    return loaded, broken


def _point(group: str, value: str) -> EntryPoint:
    module, _, attribute = value.partition(":")
    name = module.rpartition(".")[2] if attribute.isupper() else attribute
    return EntryPoint(name, value, group)
