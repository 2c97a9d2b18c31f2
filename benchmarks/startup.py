"""From process start to the end of the first training step, store cached, against importing a model class.

    python benchmarks/startup.py [--repeats 9]

Compared with `python -c "from transformers import LlamaForCausalLM"`, in turns. Ours is stopped by the clock when the
first line of metrics arrives, so the first step itself is included. Floor: `python -c "import torch"`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time

from rows import keep, median


def seconds_of(code: str) -> float:
    """Seconds of a process that runs `code`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def seconds_to_first_step(folder: str, turn: int) -> float:
    """Seconds from the start of `lossmith train` to its first line of metrics."""
    command = [sys.executable, "-m", "lossmith", "train", "shakespeare", "--json", "--logging-steps", "1"]
    command += ["--cache-dir", f"{folder}/cache", "--output-dir", f"{folder}/run-{turn}"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if json.loads(line)["event"] == "metrics":
                seconds = time.perf_counter() - start
                child.kill()
                return seconds
    raise RuntimeError("the run ended before its first step")


def main() -> None:
    """Measure and keep one row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    ours, imports, floors = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        seconds_to_first_step(folder, -1)  # fills the caches of store and files
        for turn in range(repeats):
            imports.append(seconds_of("from transformers import LlamaForCausalLM"))
            ours.append(seconds_to_first_step(folder, turn))
            floors.append(seconds_of("import torch"))
    keep(
        "startup",
        {
            "unit": "seconds",
            "ratio": median([a / b for a, b in zip(ours, imports, strict=True)]),
            "bar": 1.25,
            "seconds_to_first_step": median(ours),
            "seconds_import_llama": median(imports),
            "floor_import_torch": median(floors),
            "repeats": repeats,
        },
    )


if __name__ == "__main__":
    main()
