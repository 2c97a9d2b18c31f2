"""Compress and decompress 100 kB with a model, beside other compressors, alone and given the training text.

    python benchmarks/compress.py --model RUN --text FILE [--given TRAINING_TEXT] [--bytes 100000] [--jobs N]

Compressing encodes, decodes and compares. Processor seconds (other processes share the machine) and wall.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from rows import keep

from lossmith.evaluate.compress import compress, decompress
from lossmith.evaluate.compress_rivals import rivals
from lossmith.evaluate.surprise_model import open_scorer
from lossmith.models.folder import find_model, model_bytes


def main() -> None:
    """Measure and keep one row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--given", type=Path)
    parser.add_argument("--bytes", type=int, default=100_000)
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args()
    scorer = open_scorer(options.model)
    data = options.text.read_bytes()[: options.bytes]
    marks = [(time.process_time(), time.perf_counter())]
    packed = compress(data, scorer, jobs=options.jobs)
    marks.append((time.process_time(), time.perf_counter()))
    assert decompress(packed.data, scorer) == data
    marks.append((time.process_time(), time.perf_counter()))
    seconds = {
        f"{what}_{clock}": round(marks[i + 1][j] - marks[i][j], 2)
        for i, what in enumerate(("compress", "decompress"))
        for j, clock in enumerate(("cpu", "wall"))
    }
    row: dict[str, Any] = {
        "bytes": len(data),
        "compressed": len(packed.data),
        "loss_bytes": packed.loss_bits / 8,
        "bits_per_byte": packed.bits_per_byte,
        "with_model": len(packed.data) + model_bytes(find_model(options.model)),
        "jobs": packed.streams,
        "price_of_jobs_bytes": packed.price,
        "others": rivals(data),
        "unit": "seconds",
        "bar": "120 s for both",
    }
    if options.given:
        row["others_given_training_text"] = rivals(data, options.given.read_bytes())
    keep("compress", row | seconds)


if __name__ == "__main__":
    main()
