"""One builder at a time, and nothing left of a killed one: a folder that is locked while it is being filled."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

fcntl: Any = None  # Windows: no lock; two builders of one store then each work in a folder of their own
with contextlib.suppress(ImportError):
    import fcntl

PREFIX = ".building-"


@contextlib.contextmanager
def building(final: Path) -> Iterator[Path | None]:
    """Yield an empty folder in which to build what shall become `final`, or None when `final` is there.

    Waits while another process builds the same. The lock is on the folder itself, so the system drops it with the
    process that held it, and no lock file stays behind. The folder is removed unless it was renamed to `final`.
    """
    work = final.with_name(PREFIX + final.name + ("" if fcntl else f"-{os.getpid()}"))
    final.parent.mkdir(parents=True, exist_ok=True)
    while not final.exists():
        with _held(work, wait=True) as ours:
            if ours and not final.exists():
                _empty(work)
                try:
                    yield work
                finally:
                    shutil.rmtree(work, ignore_errors=True)
                return
            if ours:
                shutil.rmtree(work, ignore_errors=True)
    yield None


def remove_stale(folder: Path) -> None:
    """Remove what killed builders left in a folder of stores, and nothing that a live process holds."""
    for work in folder.glob(PREFIX + "*"):
        with _held(work, wait=False) as ours:
            if ours:
                shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _held(work: Path, *, wait: bool) -> Iterator[bool]:
    """Lock a folder (made if `wait`); yield whether we hold it and it still is the folder of that name."""
    if wait:
        work.mkdir(exist_ok=True)
    if fcntl is None:
        yield wait
        return
    try:
        handle = os.open(work, os.O_RDONLY)
    except FileNotFoundError:  # its builder has just renamed or removed it
        yield False
        return
    try:
        yield _lock(handle, wait) and _same(handle, work)
    finally:
        os.close(handle)


def _lock(handle: int, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        # a file system without locks: build all the same (the rename decides), but never clean up after others
        return wait
    return True


def _same(handle: int, work: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), work.stat())
    except FileNotFoundError:
        return False


def _empty(work: Path) -> None:
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
