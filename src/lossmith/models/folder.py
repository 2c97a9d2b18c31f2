"""Find the model in a folder: of a run, of a checkpoint, or as save_pretrained wrote it; and its size."""

from __future__ import annotations

import json
from pathlib import Path

from lossmith.errors import DataError, InputError
from lossmith.models.build import has_weights

MANIFEST = "manifest.json"
_KINDS = ("*.safetensors", "pytorch_model*.bin", "tokenizer.json", "lossmith_tokenizer.json", "config.json")


def find_model(path: Path) -> Path:
    """Return the folder with config.json and weights: the path itself, its model/, or its newest whole checkpoint's.

    Errors: InputError when nothing is there, DataError when there is no model in it yet, or one without weights.
    """
    if not path.is_dir():
        why = "is a file" if path.exists() else "does not exist"
        raise InputError(f"expected a run folder, a model folder or a checkpoint; {path} {why}")
    for folder in (path, path / "model"):
        if (folder / "config.json").exists():
            return _with_weights(folder)
    newest = newest_complete(path / "checkpoints")
    if newest is None:
        raise DataError(
            f"{path} holds no model and no complete checkpoint: train first (lossmith train … --output-dir {path})"
        )
    return newest / "model"


def model_bytes(folder: Path) -> int:
    """Return the size in bytes of the files that hold a model's weights, its shape and its tokenizer."""
    return sum(path.stat().st_size for kind in _KINDS for path in folder.glob(kind))


def step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint folder by its name; −1 for any other name.

    >>> step_of(Path("checkpoints/step-1000000"))
    1000000
    """
    number = checkpoint.name.removeprefix("step-")
    return int(number) if number.isdigit() else -1


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the oldest step first."""
    return sorted((path for path in folder.glob("step-*") if step_of(path) >= 0), key=step_of)


def newest_complete(folder: Path) -> Path | None:
    """Return the newest checkpoint whose files are all there in full size; None without one."""
    return next((path for path in reversed(checkpoints_in(folder)) if has_all_files(path)), None)


def has_all_files(checkpoint: Path) -> bool:
    """Tell whether a checkpoint's files have the sizes of its manifest."""
    try:
        known = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        return all((checkpoint / name).stat().st_size == entry["bytes"] for name, entry in known.items())
    except (OSError, ValueError):
        return False


def _with_weights(model: Path) -> Path:
    if not has_weights(model):
        raise DataError(
            f"{model} holds a config.json and no weights (model.safetensors): it is the shape of a model, not "
            f"a trained one. Train it first: lossmith train TEXT --model {model}"
        )
    return model
