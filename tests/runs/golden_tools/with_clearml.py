"""ClearML offline: the metrics.jsonl of an offline session."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from golden_common import Seen, train_tiny


def main(root: Path) -> None:
    """Log one run without a server."""
    out, seen = root / "clearml", Seen()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as work:
        os.environ["CLEARML_CACHE_DIR"] = work
        os.environ["CLEARML_OFFLINE_MODE"] = "1"
        from clearml import Task

        quiet = {"auto_connect_frameworks": False, "auto_resource_monitoring": False, "auto_connect_streams": False}
        task = Task.init("golden", "golden", auto_connect_arg_parser=False, **quiet)
        logger = task.get_logger()

        def log(step: int, row: dict[str, float]) -> None:
            seen.add_row(step, row)
            for key, value in row.items():
                title, series = ("loss", "eval") if key == "eval_loss" else (key, "train")
                logger.report_scalar(title, series, iteration=step, value=value)

        train_tiny(log)
        task.flush(wait_for_uploads=True)
        folder = Path(task.get_offline_mode_folder())
        task.close()
        for path in folder.rglob("metrics.jsonl"):
            shutil.copy(path, out / path.name)
    seen.write(out, packages=("clearml", "torch"), file="metrics.jsonl")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
