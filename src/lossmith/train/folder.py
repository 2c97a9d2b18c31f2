"""The run folder: plain files, appended or replaced so that a crash at any byte loses nothing reported as saved."""

from __future__ import annotations

import itertools
import json
import math
import os
from pathlib import Path
from typing import Any, TextIO

from lossmith.errors import InputError, RunError
from lossmith.models.folder import newest_complete


def jsonable(value: Any) -> Any:
    """Return value with non-finite numbers as the strings "nan", "inf", "-inf" (JSON has none of them).

    >>> jsonable({"loss": float("nan")})
    {'loss': 'nan'}
    """
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


class RunFolder:
    """Write run.json, metrics.jsonl and samples.jsonl of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, TextIO] = {}
        self._there: dict[str, set[str]] = {}  # rows after the checkpoint that is resumed from, kept

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    def create(self) -> None:
        """Make the folder; refuse one that already holds a trained model.

        A run that ended before its first checkpoint can only be started over: its logs are kept as *.old.jsonl.
        """
        if newest_complete(self.checkpoints) is not None:
            raise InputError(
                f"{self.path} already holds a run: choose another --output-dir, or continue it with "
                f"--output-dir {self.path} --resume-from-checkpoint"
            )
        if (self.path / "model").exists():
            raise InputError(
                f"{self.path} already holds a run, without the checkpoints to continue it from: choose another "
                "--output-dir, or delete it"
            )
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            for name in ("metrics", "samples"):
                if (self.path / f"{name}.jsonl").exists():
                    (self.path / f"{name}.jsonl").replace(self.path / f"{name}.old.jsonl")
        except OSError as error:
            raise InputError(f"--output-dir {self.path} cannot be written: {error.strerror}") from None

    def write_run(self, record: dict[str, Any]) -> None:
        """Replace run.json in one move."""
        beside = self.path / ".run.json.writing"
        with beside.open("w", encoding="utf-8") as file:
            json.dump(jsonable(record), file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path / "run.json")

    def read_run(self) -> dict[str, Any]:
        """Return run.json; InputError when the folder holds no run."""
        try:
            return dict(json.loads((self.path / "run.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise InputError(f"{self.path} is not a run folder: it has no run.json") from None
        except ValueError as error:
            raise InputError(f"{self.path}/run.json is not JSON: {error}") from None

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Append one JSON object to `name`.jsonl and hand it to the operating system.

        A row that stands there already, because resuming a finished run ends it once more, is not repeated.
        """
        line = json.dumps(jsonable(row), ensure_ascii=False) + "\n"
        if line in self._there.get(name, ()):
            return
        if name not in self._files:
            self._files[name] = (self.path / f"{name}.jsonl").open("a", encoding="utf-8")
        try:
            self._files[name].write(line)
            self._files[name].flush()
        except OSError as error:
            raise RunError(
                f"could not write {self.path}/{name}.jsonl: {error.strerror}. Free space and resume."
            ) from error

    def sync(self) -> dict[str, int]:
        """Bring the logs to the disk and return their lengths in bytes, to be kept in the checkpoint."""
        for file in self._files.values():
            os.fsync(file.fileno())
        return {name: (self.path / f"{name}.jsonl").stat().st_size for name in self._files}

    def rewind(self, lengths: dict[str, int], step: int) -> None:
        """Cut the logs back to a checkpoint of `step`: the rows after it are about to be written again.

        `lengths`: of the logs when it was saved. What was written later about that step (the evaluation and the sample
        that end a run come after its last checkpoint) stays.
        """
        for name in ("metrics", "samples"):
            path = self.path / f"{name}.jsonl"
            if path.exists():
                kept = lengths.get(name, 0)
                with path.open("rb") as file:
                    file.seek(kept)
                    rows = list(itertools.takewhile(lambda row: _not_after(row, step), file))
                self._there[name] = {row.decode() for row in rows}
                kept += sum(map(len, rows))
                if path.stat().st_size > kept:
                    os.truncate(path, kept)

    def close(self) -> None:
        """Close the logs."""
        for file in self._files.values():
            file.close()
        self._files.clear()


def _not_after(row: bytes, step: int) -> bool:
    """Tell whether a row of a log is whole, and of `step` or before."""
    try:
        return row.endswith(b"\n") and bool(json.loads(row)["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False
