"""MLflow: the file store (mlruns/) and the sqlite store (mlflow.db)."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

from golden_common import Seen, train_tiny

ABOUT = {"packages": ("mlflow", "torch")}


def log_to(uri: str, artifacts: str) -> Seen:
    """Log one run into a store."""
    import mlflow

    seen = Seen()
    mlflow.set_tracking_uri(uri)
    experiment = mlflow.create_experiment("golden", artifact_location=artifacts)
    with mlflow.start_run(experiment_id=experiment, run_name="golden"):
        mlflow.log_params({"learning_rate": 5e-3, "max_steps": 60})

        def log(step: int, row: dict[str, float]) -> None:
            seen.add_row(step, row)
            mlflow.log_metrics(row, step=step)

        train_tiny(log)
    return seen


def main(root: Path) -> None:
    """Fill both stores; the database is repacked with small pages, since most of its tables are empty."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    files, database = root / "mlflow_files", root / "mlflow_sqlite"
    for folder in (files, database):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as work:
        try:
            seen = log_to(f"file://{files}/mlruns", "file:///tmp/artifacts")
            seen.write(files, file="mlruns", **ABOUT)
        finally:
            path = Path(work) / "mlflow.db"
            seen = log_to(f"sqlite:///{path}", "file:///tmp/artifacts")
            with sqlite3.connect(path) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")
                connection.execute("PRAGMA page_size=512")
                connection.execute("VACUUM")
            shutil.copy(path, database / "mlflow.db")
            seen.write(database, file="mlflow.db", **ABOUT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
