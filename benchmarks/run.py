"""Run every benchmark (make bench); rows go to benchmarks/results/. About an hour on two quiet cores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ALL = (
    "startup.py",
    "loop_overhead.py",
    "shakespeare.py",
    "memory_tokenize.py --save",
    "losses_cpu.py",
    "cuda_linear_cross_entropy.py",
    "hf_models.py",
    "hf_fused.py",
    "read_speed.py --big",
    "mlm_step.py",
    "diagnosis_curves.py",
    "forecast_backtest.py",
)


def main() -> None:
    """Run them one after the other; stop at the first that fails."""
    here = Path(__file__).parent
    for line in ALL:
        name, *options = line.split()
        print(f"{name} …", file=sys.stderr)
        subprocess.run([sys.executable, str(here / name), *options], check=True)


if __name__ == "__main__":
    main()
