"""SQLite files of experiment trackers, opened for reading only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from lossmith.errors import DataError
from lossmith.runs._text import head


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that another process may be writing to; what SQLite has to complain of is a DataError."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as database:
            database.text_factory = lambda text: text.decode("utf-8", "replace")
            yield database
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a readable SQLite database, got {error}") from None


def columns(path: Path, table: str) -> set[str]:
    """Return the names of a table's columns, none where the file is no database or has no such table."""
    if not head(path).startswith(b"SQLite format 3\x00"):
        return set()
    try:
        with opened(path) as database:
            return {row[1] for row in database.execute(f"pragma table_info({table})")}
    except DataError:
        return set()
