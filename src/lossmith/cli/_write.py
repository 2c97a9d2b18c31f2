"""Write a file whole or not at all, and clear away what a killed writer left."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from pathlib import Path

from lossmith.errors import InputError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file at once, or not at all: beside it as .NAME.PID.tmp, to the disk, renamed.

    What processes that are no more left of earlier tries is removed.
    Errors: InputError where the disk refuses.
    """
    remove_torn(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InputError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error


def remove_torn(path: Path) -> None:
    """Remove the .NAME.PID.tmp of `path` whose process is no more; what a living one writes stays."""
    for torn in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        number = re.fullmatch(r"\d+", torn.name[len(path.name) + 2 : -len(".tmp")])
        if number and not _alive(int(number[0])):
            with contextlib.suppress(OSError):  # another writer was first, or the folder is read-only
                torn.unlink()


def _alive(process: int) -> bool:
    if os.name == "nt":  # there os.kill(process, 0) would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
