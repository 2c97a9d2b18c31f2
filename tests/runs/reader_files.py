"""Shared by the tests of readers: files to read, and the curves that came out."""

from __future__ import annotations

from pathlib import Path

from lossmith.runs import Reading

CSV = "step,loss,val_loss\n10,5.0,\n20,4.0,4.5\n30,3.5,\n"


def write(tmp_path: Path, name: str, text: str | bytes) -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def curve(reading: Reading, name: str = "loss", run: int = 0) -> list[tuple[int, float]]:
    found = reading.runs[run].curves[name]
    return list(zip(found.step.tolist(), found.value.tolist(), strict=True))


def csv_of(points: list[tuple[int, float]]) -> str:
    return "step,loss\n" + "".join(f"{step},{loss}\n" for step, loss in points)
