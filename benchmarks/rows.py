"""What every benchmark row holds beside its figures, and where rows are kept."""

from __future__ import annotations

import datetime
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from lossmith.train.hardware import hardware, versions

RESULTS = Path(__file__).parent / "results"
TINY_SHAKESPEARE = Path(__file__).resolve().parents[2] / "shared" / "data" / "tinyshakespeare.txt"


def keep(name: str, row: dict[str, Any]) -> None:
    """Print a row with command, device, versions, load and date, and append it to results/NAME.jsonl."""
    machine = hardware(torch.device("cuda" if torch.cuda.is_available() else "cpu"), 1)
    full = {
        "benchmark": name,
        **row,
        "command": shlex.join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]]),
        "device": machine["device"],
        "cores": machine["cores"],
        "load_before": round(os.getloadavg()[2], 2),
        "versions": versions(),
        "date": datetime.date.today().isoformat(),
    }
    print(json.dumps(full, ensure_ascii=False))
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(full, ensure_ascii=False) + "\n")


def median(values: list[float]) -> float:
    """Return the median, rounded for a row."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return round(ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2, 4)
