"""Shared by the tests: a cache of their own, one thread's worth of quiet, small real texts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc_data.topics import topics  # real English prose that every Python carries

import pytest
import warm_python

# Tiny models gain nothing from a second thread, and lose much where tests share two cores with their own processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSMITH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def english() -> str:
    """Some 60 kB of Python's own documentation."""
    return "\n\n".join(topics[name] for name in sorted(topics))[:60_000]


@pytest.fixture
def text_file(tmp_path: Path, english: str) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(english, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_options() -> dict[str, object]:
    """Options of a run that takes a second."""
    return {
        "tokenizer": "byte",
        "block_size": 16,
        "per_device_train_batch_size": 4,
        "sample_tokens": 8,
        "eval_max_tokens": 512,
        "validation_fraction": 0.02,
    }


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment for child processes: one thread each, so that two of them do not fight for two cores."""
    return os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.fixture(scope="session")
def python(environment: dict[str, str]) -> Iterator[str]:
    """What starts `-m lossmith …` in a process of its own, without six seconds of imports: see warm_python."""
    with warm_python.standing_by(environment) as stand_in:
        yield stand_in


@pytest.fixture
def on_ranks(environment: dict[str, str], python: str) -> Callable[..., None]:
    """Do what `python ARGUMENTS` does, by a real torchrun where there are several ranks."""
    torchrun = [python, "-m", "torch.distributed.run", "--standalone"]

    def call(ranks: int, *arguments: str) -> None:
        head = [*torchrun, f"--nproc-per-node={ranks}"] if ranks > 1 else [python]
        told = environment | dict(os.environ) | {"PYTHON_EXEC": python}  # what torchrun starts
        done = subprocess.run([*head, *arguments], env=told, capture_output=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr.decode()[-2000:]

    return call
