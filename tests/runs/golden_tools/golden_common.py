"""What the golden runs share: a small real task, a capture of everything printed, and the expected values.

The tools are imported inside functions, so that collecting the tests needs none of them.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONTEXT = 8


def text_bytes() -> bytes:
    """Return half a megabyte of real English that every Python ships: the topics of help()."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics)).encode()


@contextmanager
def captured(path: Path) -> Iterator[None]:
    """Send whatever is written to stdout and stderr, by Python or by C, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)


class Seen:
    """Collect the values that a script saw in memory, and write what a reader must find in the log of them."""

    def __init__(self) -> None:
        self.curves: dict[str, list[tuple[int, float]]] = {}

    def add(self, name: str, step: int, value: float) -> None:
        """Remember a value under the name a Run gives its curve."""
        self.curves.setdefault(name, []).append((step, float(value)))

    def add_row(self, step: int, row: dict[str, float]) -> None:
        """Remember every value of a row."""
        for name, value in row.items():
            self.add(name, step, value)

    def write(self, folder: Path, *, packages: tuple[str, ...], rtol: float = 1e-6, **about: Any) -> None:
        """Write expected.json: n, first and last point of each curve; `about` says what the log cannot hold.

        rtol is the rounding of the log; steps_in_log=False: the log has no step numbers, only the order (or epochs);
        eval_steps_in_log=False: it has none of the evaluations.
        """
        expected: dict[str, Any] = {"about": {"rtol": rtol, "steps_in_log": True, "versions": _versions(packages)}}
        expected["about"] |= about
        for name, points in self.curves.items():
            first, last = ([step, _plain(value)] for step, value in (points[0], points[-1]))
            expected[name] = {"n": len(points), "first": first, "last": last}
        (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in packages}


def train_tiny(log: Callable[[int, dict[str, float]], None], *, steps: int = 60, eval_steps: int = 20) -> None:
    """Train a small model to guess the next byte from the last 8, and log each step as Hugging Face names things."""
    import torch

    torch.manual_seed(0)
    tokens = torch.frombuffer(bytearray(text_bytes()), dtype=torch.uint8).long().unfold(0, CONTEXT + 1, 1)
    train, held = tokens[:-8192], tokens[-4096:]
    model = torch.nn.Sequential(
        torch.nn.Embedding(256, 16),
        torch.nn.Flatten(),
        torch.nn.Linear(16 * CONTEXT, 64),
        torch.nn.GELU(),
        torch.nn.Linear(64, 256),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(batch[:, :-1]), batch[:, -1])

    for step in range(1, steps + 1):
        loss = loss_of(train[torch.randint(len(train), (64,))])
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()
        log(step, {"loss": loss.item(), "learning_rate": rate, "grad_norm": norm.item()})
        if step % eval_steps == 0:
            with torch.no_grad():
                log(step, {"eval_loss": loss_of(held).item()})
