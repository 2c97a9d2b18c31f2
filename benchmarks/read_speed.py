"""Reading logs: a million rows of JSONL and of CSV, ten million within 2 GB, one trainer_state.json from process start.

    python benchmarks/read_speed.py [--repeats 5] [--big]

Each reading is a process of its own; wall and processor seconds of `lossmith.runs.read`, imports apart, and the peak of
resident memory; and the command, from process start to end. Rows hold step, loss, learning rate and gradient norm;
every thousandth row of the JSONL is an evaluation. Floor: `json.loads` of the same lines, one by one. `--big` adds the
ten million.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rows import keep, median

CHILD = """
import json, resource, sys, time
from lossmith.runs import read
wall, cpu = time.perf_counter(), time.process_time()
run = read(sys.argv[1]).runs[0]
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
points = {name: len(curve) for name, curve in run.curves.items()}
print(json.dumps([wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, points]))
"""
FLOOR = """
import json, sys, time
wall, cpu = time.perf_counter(), time.process_time()
rows = sum(1 for line in open(sys.argv[1], "rb") if json.loads(line))
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu, 0, rows]))
"""


def write(path: Path, count: int) -> None:
    """Write a log of `count` rows in the form that its name says."""
    with path.open("w") as file:
        if path.suffix == ".csv":
            file.write("step,loss,learning_rate,grad_norm\n")
        for step in range(count):
            loss, norm = 2 + 5 / (1 + step * 1e-4), 1 + step % 17 / 16
            if path.suffix == ".csv":
                file.write(f"{step},{loss:.6f},3e-04,{norm:.4f}\n")
            else:
                row = f'{{"step": {step}, "loss": {loss:.6f}, "learning_rate": 3e-04, "grad_norm": {norm:.4f}}}\n'
                file.write(row)
                if step % 1000 == 999:
                    file.write(f'{{"step": {step}, "eval_loss": {loss:.6f}}}\n')


def run(code: str, path: Path) -> list[Any]:
    """Run one process on a file; return what it printed."""
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    result: list[Any] = json.loads(done.stdout)
    return result


def measure(path: Path, count: int, repeats: int, bar: str) -> None:
    """Write a log, read it, keep a row."""
    write(path, count)
    read, floor = [], []
    for _ in range(repeats):
        read.append(run(CHILD, path))
        if path.suffix == ".jsonl":
            floor.append(run(FLOOR, path))
    if read[0][3]["loss"] != count:
        raise RuntimeError(f"{read[0][3]} points read, {count} written")
    row = {"unit": "seconds", "log": path.name, "rows": count, "megabytes": path.stat().st_size >> 20, "bar": bar}
    row |= {"wall": median([one[0] for one in read]), "processor": median([one[1] for one in read])}
    row |= {"peak_mb": median([one[2] for one in read]), "repeats": repeats}
    if floor:
        row["floor_json_loads_wall"] = median([one[0] for one in floor])
        row["floor_json_loads_processor"] = median([one[1] for one in floor])
    keep("read_speed", row)
    if count == 1_000_000:
        measure_command(path, count, repeats, "2 s of reading and findings")
    path.unlink()


def measure_command(path: Path, rows: int, repeats: int, bar: str) -> None:
    """Keep a row of `lossmith read --json` (read, findings, forecast), process start to end; floor: importing numpy."""
    seconds: dict[str, list[float]] = {"wall": [], "floor_import_numpy": []}
    codes = {"wall": ["-m", "lossmith", "read", str(path), "--json"], "floor_import_numpy": ["-c", "import numpy"]}
    for _ in range(repeats):
        for name, code in codes.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *code], check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    row = {"unit": "seconds", "what": "lossmith read --json", "log": path.name, "rows": rows, "bar": bar}
    keep("read_speed", row | {"repeats": repeats} | {name: median(values) for name, values in seconds.items()})


def write_state(path: Path, rows: int) -> None:
    """Write a trainer_state.json of so many rows."""
    history = [
        {"epoch": i / 300, "grad_norm": 1.5, "learning_rate": 3e-4, "loss": 2 + 5 / (i + 1), "step": i}
        for i in range(rows)
    ]
    path.write_text(json.dumps({"log_history": history, "max_steps": rows}, indent=2))


def main() -> None:
    """Measure and keep the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--big", action="store_true", help="ten million rows too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("metrics.jsonl", "metrics.csv"):
            measure(Path(folder, name), 1_000_000, options.repeats, "1.2 s of the 2 s for read and diagnose")
            if options.big:
                measure(Path(folder, name), 10_000_000, 1, "2048 MB")
        state = Path(folder, "trainer_state.json")
        write_state(state, 1000)
        measure_command(state, 1000, options.repeats, "0.6 s")


if __name__ == "__main__":
    main()
