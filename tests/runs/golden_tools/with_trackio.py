"""trackio: a sqlite file a project."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

from golden_common import Seen, train_tiny


def main(root: Path) -> None:
    """Log one run."""
    out, seen = root / "trackio", Seen()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as work:
        os.environ["TRACKIO_DIR"] = work
        import trackio

        trackio.init(project="golden", name="golden", config={"learning_rate": 5e-3})

        def log(step: int, row: dict[str, float]) -> None:
            seen.add_row(step, row)
            trackio.log(row, step=step)

        train_tiny(log)
        trackio.finish()
        path = next(Path(work).rglob("*.db"))
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA page_size=1024")
            connection.execute("VACUUM")  # small pages: most of its tables are nearly empty
        shutil.copy(path, out / "golden.db")
    seen.write(out, packages=("trackio", "torch"), file="golden.db")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
