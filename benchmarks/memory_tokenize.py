"""Peak memory of building a token store from a large text file, in a process of its own (children included).

    python benchmarks/memory_tokenize.py [--megabytes 1000] [--tokenizer bpe:1024 byte] [--one-line] [--save]

Prints a JSON row for each tokenizer. `floor_seconds` is what copying the text and writing the tokens takes: no build
can be faster. `--one-line` takes every line end out of the text, the worst case for a reader that goes by lines.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lossmith.data import CORPORA

RESULTS = Path(__file__).parent / "results" / "memory_tokenize.jsonl"

# Run apart, so that nothing but the build is in the peak. RUSAGE_CHILDREN: the largest child, should there be any.
BUILD = """
import json, resource, sys, time
start = time.perf_counter()
from lossmith.data import DataConfig, open_store
store = open_store(DataConfig(inputs=(sys.argv[1],), tokenizer=sys.argv[2], cache_dir=sys.argv[3]))
seconds = time.perf_counter() - start
own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({"seconds": seconds, "peak_kib": own + children, "meta": store.meta}))
"""


def write_text(path: Path, megabytes: int, one_line: bool) -> None:
    """Fill a file with the lines of Shakespeare in ever new order."""
    lines = "".join(CORPORA["shakespeare"].documents()).splitlines()
    mark, order = " " if one_line else "\n", random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 10**6:
            order.shuffle(lines)
            file.write(mark.join(lines) + mark)


def measure(text: Path, tokenizer: str, folder: Path) -> dict[str, Any]:
    """Build one store in a fresh process and return its time, its peak and the floor."""
    command = [sys.executable, "-c", BUILD, str(text), tokenizer, str(folder / "cache")]
    done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    meta, size = done["meta"], text.stat().st_size
    tokens = meta["n_train_tokens"] + meta["n_validation_tokens"]
    written = tokens * (2 if meta["dtype"] == "uint16" else 4)
    return {
        "tokenizer": tokenizer,
        "text_bytes": size,
        "seconds": round(done["seconds"], 2),
        "megabytes_per_second": round(size / 1e6 / done["seconds"], 2),
        "peak_rss_mib": round(done["peak_kib"] / 1024, 1),
        "bar_mib": round(1e9 / 2**20, 1),
        "tokens": tokens,
        "floor_bytes_written": written,
        "floor_seconds": round(floor(text, size + written, folder / "floor"), 2),
    }


def floor(text: Path, n_bytes: int, target: Path) -> float:
    """Return the seconds to read the text and write as many bytes as a build must (its copy of the text, tokens)."""
    start, left = time.perf_counter(), n_bytes
    with text.open("rb") as source, target.open("wb") as out:
        while left > 0:
            block = source.read(1 << 20) or bytes(1 << 20)
            out.write(block[:left])
            left -= len(block)
        out.flush()
        os.fsync(out.fileno())
    target.unlink()
    return time.perf_counter() - start


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    return {
        "benchmark": "memory_tokenize",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "device": f"{os.cpu_count()} cores, {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("lossmith", "tokenizers", "numpy")},
    }


def main() -> None:
    """Measure every tokenizer asked for, and print and save the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--tokenizer", nargs="+", default=["bpe:1024", "byte"])
    parser.add_argument("--one-line", action="store_true")
    parser.add_argument("--save", action="store_true", help=f"append the rows to {RESULTS.name}")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        write_text(text, asked.megabytes, asked.one_line)
        for tokenizer in asked.tokenizer:
            row = machine() | {"one_line": asked.one_line} | measure(text, tokenizer, Path(folder))
            print(json.dumps(row), flush=True)
            if asked.save:
                RESULTS.parent.mkdir(exist_ok=True)
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
