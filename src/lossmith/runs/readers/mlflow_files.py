"""MLflow's file store: `mlruns/EXPERIMENT/RUN/metrics/NAME`, lines of `timestamp value step`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._curve import Run
from lossmith.runs._series import table_of_series
from lossmith.runs._table import number
from lossmith.runs._text import head

_PARAMS = ("max_steps", "num_train_epochs", "gradient_accumulation_steps", "vocab_size")


class MlflowFiles:
    """Read the whole run to which a metric's file belongs."""

    name = "mlflow_files"

    def sniff(self, path: Path) -> bool:
        """Return whether the file lies in a run's folder `metrics`, and holds lines of numbers."""
        return (
            _run_folder(path) is not None
            and _line(head(path).split(b"\n", 1)[0].decode("utf-8", "replace")) is not None
        )

    def read(self, path: Path) -> list[Run]:
        """Return the run; it is the same for every metric's file of it."""
        folder = _run_folder(path)
        return _run(folder) if folder is not None else []


def _run_folder(path: Path) -> Path | None:
    """The folder of the run: above one named `metrics`, beside meta.yaml."""
    for parent in path.parents:
        if parent.name == "metrics" and (parent.parent / "meta.yaml").is_file():
            return parent.parent
    return None


def _line(text: str) -> tuple[float, float] | None:
    parts = text.split()
    if len(parts) < 2:
        return None
    value, step = number(parts[1]), number(parts[2]) if len(parts) > 2 else 0.0
    return (step, value) if number(parts[0]) is not None and value is not None and step is not None else None


@lru_cache(maxsize=8)
def _run(folder: Path) -> list[Run]:
    metrics = folder / "metrics"
    series = {}
    for path in sorted(metrics.rglob("*")):
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            pairs = [pair for pair in map(_line, lines) if pair is not None]
            series[path.relative_to(metrics).as_posix()] = ([step for step, _ in pairs], [value for _, value in pairs])
    return runs_of(table_of_series(series), str(folder), Form("MLflow", config=_params(folder)))


def _params(folder: Path) -> dict[str, int]:
    found = {}
    for name in _PARAMS:
        path = folder / "params" / name
        value = number(path.read_text(encoding="utf-8", errors="replace").strip()) if path.is_file() else None
        if value is not None and value >= 0:
            found[name] = int(value)
    return found


READER = MlflowFiles()
