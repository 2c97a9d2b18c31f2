"""Checkpoints: written beside, fsynced, renamed; a manifest of sizes and hashes tells a whole one from a torn one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError

from lossmith.errors import DataError, RunError
from lossmith.models.folder import MANIFEST, checkpoints_in, has_all_files, newest_complete, step_of

OWN = "own.safetensors"
LATEST = "latest"  # the value of --resume-from-checkpoint that means the newest complete one


def checkpoint_name(step: int) -> str:
    """Return the folder name of a step, which sorts by step.

    >>> checkpoint_name(500)
    'step-000500'
    """
    return f"step-{step:06d}"


def save_weights(model: Any, folder: Path, **options: Any) -> None:
    """Write model weights and configuration in one file each, as any Hugging Face tool loads them, without a bar."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.save_pretrained(folder, max_shard_size="1000GB", **options)


def save_checkpoint(
    folder: Path, step: int, parts: tuple[Any, Any], tokenizer: Any, optimizers: Any, state: dict[str, Any]
) -> Path:
    """Write checkpoints/step-NNNNNN so that it either exists whole or not at all, and return it.

    `parts`: the model, and the module of the objective's own tensors or None. Holds model/ (save_pretrained, with the
    tokenizer), own.safetensors, optimizer.pt, state.json and manifest.json. Random state needs no place: each step
    seeds its own generators from (seed, rank, step).
    Errors: RunError when the disk refuses, naming the last good one.
    """
    from safetensors.torch import save_model

    final, (model, own) = folder / checkpoint_name(step), parts
    with published(final, folder) as beside:
        # In the names of the modules, so that they can be loaded into the model in place (from_pretrained knows both).
        save_weights(model, beside / "model", save_original_format=False)
        tokenizer.save(beside / "model")
        if own is not None:
            save_model(own, str(beside / OWN))
        torch.save(optimizers.state_dict(), beside / "optimizer.pt")
        (beside / "state.json").write_text(json.dumps({"step": step, **state}), encoding="utf-8")
        (beside / MANIFEST).write_text(json.dumps(_contents(beside)), encoding="utf-8")
    return final


@contextmanager
def published(final: Path, checkpoints: Path) -> Iterator[Path]:
    """Give a folder beside `final` to write into; then fsync every file of it and rename it: it appears at once.

    Errors: RunError when the disk refuses, naming the last good checkpoint; nothing half-written stays.
    """
    beside = final.with_name(f".writing-{final.name}")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        yield beside
        for path in [*_walk(beside), beside]:
            _fsync(path)
        if final.exists():  # its place is taken in one move, and only then is it deleted
            old = final.with_name(f".writing-old-{final.name}")
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
        beside.rename(final)
        _fsync(final.parent)
        shutil.rmtree(final.with_name(f".writing-old-{final.name}"), ignore_errors=True)
    except (OSError, RuntimeError, SafetensorError) as error:  # each library has its own word for a full disk
        shutil.rmtree(beside, ignore_errors=True)
        last = newest_complete(checkpoints)
        kept = f"the last complete checkpoint is {last}" if last else "there is no earlier checkpoint"
        raise RunError(f"could not save {final}: {error}; {kept}. Free space and resume.") from error


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints (0: none), and what killed writers left behind."""
    for torn in folder.glob(".writing-*"):
        shutil.rmtree(torn, ignore_errors=True)
    for old in checkpoints_in(folder)[:-keep] if keep else ():
        shutil.rmtree(old, ignore_errors=True)


def forget_after(folder: Path, step: int) -> list[Path]:
    """Delete the checkpoints after `step`, which belong to a continuation that is being replaced, and return them."""
    later = [path for path in checkpoints_in(folder) if step_of(path) > step]
    for path in later:
        shutil.rmtree(path, ignore_errors=True)
    return later


def is_intact(checkpoint: Path) -> bool:
    """Tell whether a checkpoint's files have the sizes and the bytes of its manifest."""
    return has_all_files(checkpoint) and _contents(checkpoint) == json.loads(
        (checkpoint / MANIFEST).read_text(encoding="utf-8")
    )


def find_checkpoint(wanted: str, run_folder: Path) -> Path:
    """Return the checkpoint to resume from: the folder `wanted`, or for "latest" the newest undamaged one of the run.

    Errors: DataError when there is none or when the one asked for is damaged.
    """
    if wanted != LATEST:
        path = Path(wanted)
        if not is_intact(path):
            state = "is damaged: its files are not those of its manifest" if path.exists() else "does not exist"
            raise DataError(
                f"--resume-from-checkpoint {path} {state}; leave the value out to take the newest complete one"
            )
        return path
    newest_first = reversed(checkpoints_in(run_folder / "checkpoints"))
    newest = next((path for path in newest_first if is_intact(path)), None)
    if newest is None:
        raise DataError(
            f"{run_folder}/checkpoints holds no complete checkpoint to resume from: start the run over, with the "
            "command that began it (the same --output-dir will do, without --resume-from-checkpoint)"
        )
    return newest


def save_checkpoint_weights(model: Any, folder: Path) -> None:
    """Write the weights in the names of the modules, so that load_weights finds them."""
    save_weights(model, folder, save_original_format=False)


def load_weights(model: Any, folder: Path) -> None:
    """Load weights that save_checkpoint_weights wrote into the model, in place."""
    from safetensors.torch import load_model

    load_model(model, folder / "model.safetensors")


def load_checkpoint(checkpoint: Path, parts: tuple[Any, Any], optimizers: Any) -> dict[str, Any]:
    """Load weights and optimizer in place and return the saved state (step, tokens, …)."""
    from safetensors.torch import load_model

    model, own = parts
    load_model(model, checkpoint / "model" / "model.safetensors")
    if own is not None:
        load_model(own, checkpoint / OWN)
    optimizers.load_state_dict(torch.load(checkpoint / "optimizer.pt", map_location=model.device, weights_only=True))
    return dict(json.loads((checkpoint / "state.json").read_text(encoding="utf-8")))


def _walk(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")))


def _contents(folder: Path) -> dict[str, dict[str, Any]]:
    files = [path for path in _walk(folder) if path.is_file() and path.name != MANIFEST]
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "xxh3_128": _hash(path)} for path in files
    }


def _hash(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(2**24):
            digest.update(piece)
    return digest.hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
