"""What a reader is: a name, a look at a file, and the runs in it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from lossmith.runs._curve import Run


@runtime_checkable
class Reader(Protocol):
    """Read one log format; a package offers its own as an entry point of the group `lossmith.readers`.

    `sniff` says quickly whether a file could be of this format; `read` returns its runs, none where there are none. A
    malformed file is a DataError. Files come unpacked, and text as UTF-8. Readers are asked in the order of `rank`
    (0 where a reader has none; general formats come late).
    """

    name: str

    def sniff(self, path: Path) -> bool:
        """Return whether the file could be of this format."""
        ...

    def read(self, path: Path) -> list[Run]:
        """Return the runs in the file."""
        ...
