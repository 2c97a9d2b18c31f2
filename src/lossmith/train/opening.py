"""Where a run begins: a new folder, or the options of the run that is continued."""

from __future__ import annotations

import dataclasses
import datetime
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lossmith.errors import InputError
from lossmith.models.build import has_weights
from lossmith.train.checkpoint import find_checkpoint
from lossmith.train.config import TrainConfig, option, resolve
from lossmith.train.folder import RunFolder
from lossmith.train.hardware import versions

# What may change between the parts of a run without making it another run.
FREE_ON_RESUME = {"output_dir", "resume_from_checkpoint", "max_steps", "num_train_epochs", "logging_steps"}
FREE_ON_RESUME |= {"eval_steps", "eval_max_tokens", "save_steps", "save_total_limit", "sample_prompt", "sample_tokens"}
FREE_ON_RESUME |= {"report_to", "cache_dir", "num_workers"}


def new_or_resumed(config: TrainConfig) -> tuple[Path, TrainConfig, dict[str, Any]]:
    """Return folder, settled options and run.json of a new run, or of the one that is continued."""
    if config.resume_from_checkpoint:
        return _resumed(config)
    settled = resolve(dataclasses.replace(config, tokenizer=config.tokenizer or _own_tokenizer(config.model)))
    folder = RunFolder(Path(config.output_dir or _default_folder(config.inputs[0])))
    settled = dataclasses.replace(settled, output_dir=str(folder.path))
    folder.create()
    record = {
        "format": 1,
        "status": "running",
        "error": None,
        "created": now(),
        "command": ["lossmith", *sys.argv[1:]] if Path(sys.argv[0]).stem == "lossmith" else sys.argv,
        "config": asdict(settled),
        "defaults": asdict(resolve(TrainConfig(model=config.model, optim=config.optim))),
        "versions": versions(),
        "result": None,
    }
    folder.write_run(record)
    return folder.path, settled, record


def _resumed(config: TrainConfig) -> tuple[Path, TrainConfig, dict[str, Any]]:
    """Take the options of the run that is continued; what was given anew must not change what the run computes."""
    path = _run_of(config)
    record = RunFolder(path).read_run()
    checkpoint = find_checkpoint(config.resume_from_checkpoint or "latest", path)
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    before = TrainConfig(**{k: _tuple(v) for k, v in record["config"].items() if k in known})
    given = {k: v for k, v in asdict(config).items() if v != getattr(TrainConfig(), k) and k not in ("output_dir",)}
    clashes = {k: v for k, v in given.items() if k not in FREE_ON_RESUME and v != getattr(before, k)}
    if clashes:
        told = ", ".join(f"{option(k)} {v!r} (the run has {getattr(before, k)!r})" for k, v in clashes.items())
        raise InputError(f"a resumed run keeps its options; got {told}. Leave them out, or start a new run")
    merged = before.__class__(
        **asdict(before) | given | {"resume_from_checkpoint": str(checkpoint), "output_dir": str(path)}
    )
    return path, resolve(merged), record | {"status": "running", "error": None, "result": None}


def _run_of(config: TrainConfig) -> Path:
    if config.output_dir:
        return Path(config.output_dir)
    if config.resume_from_checkpoint not in ("latest", "true", "True"):
        return Path(str(config.resume_from_checkpoint)).resolve().parent.parent
    raise InputError(
        "--resume-from-checkpoint needs to know the run: add --output-dir RUN, or give the checkpoint's folder"
    )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _own_tokenizer(model: str) -> str | None:
    folder = Path(model)
    return model if folder.is_dir() and has_weights(folder) and (folder / "tokenizer.json").exists() else None


def _default_folder(first_input: str) -> str:
    stem = "stdin" if first_input == "-" else Path(first_input.rstrip("/*")).name.split(".")[0] or "text"
    name = f"{stem}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    same = len(list(Path("runs").glob(f"{name}*"))) if Path("runs").is_dir() else 0
    return str(Path("runs") / (f"{name}-{same + 1}" if same else name))


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
