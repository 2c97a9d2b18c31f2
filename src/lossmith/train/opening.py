"""Where a run begins: a new folder, or the options of the run that is continued."""

from __future__ import annotations

import datetime
import importlib.util
import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from lossmith.errors import InputError, MissingPackageError
from lossmith.models.build import has_weights
from lossmith.models.folder import step_of
from lossmith.train.checkpoint import LATEST, find_checkpoint
from lossmith.train.config import TrainConfig, objective_spec, option, resolve
from lossmith.train.folder import RunFolder
from lossmith.train.hardware import versions
from lossmith.train.options import RunOptions

# What may change between the parts of any run without making it another run, and what of a training run.
FREE_ON_RESUME = {"output_dir", "resume_from_checkpoint", "max_steps", "num_train_epochs", "logging_steps"}
FREE_ON_RESUME |= {"save_steps", "save_total_limit", "sample_tokens", "report_to"}
FREE_IN_TRAINING = {"eval_steps", "eval_max_tokens", "sample_prompt", "cache_dir", "num_workers"}

Options = TypeVar("Options", bound=RunOptions)


@dataclass(frozen=True)
class Opening:
    """What all ranks must agree on: the folder, the settled options, run.json so far, and where to continue from."""

    path: Path
    config: Any  # TrainConfig or FinetuneConfig
    record: dict[str, Any]
    checkpoint: Path | None = None


def open_run(config: TrainConfig) -> Opening:
    """Make the folder of a new run, or read that of the run to continue.

    Errors: InputError and DataError for options that cannot work; nothing has been made then.
    """
    if config.report_to == "tensorboard" and importlib.util.find_spec("tensorboard") is None:
        raise MissingPackageError("--report-to tensorboard needs the package: pip install tensorboard")
    config = replace(config, model=_model_of(config.model), teacher=_model_of(config.teacher))
    return _resumed(config) if config.resume_from_checkpoint else _new(config)


def _new(config: TrainConfig) -> Opening:
    settled = settle_options(config)
    folder = RunFolder(Path(config.output_dir or default_folder(settled.inputs[0], "text")))
    defaults = resolve(TrainConfig(model=config.model, optim=_optimizer(config), objective=config.objective))
    return started(folder, settled, defaults)


def started(folder: RunFolder, options: Options, defaults: Options, **about: Any) -> Opening:
    """Make the folder of a new run and write its first run.json; `about`: further fields of it."""
    options = replace(options, output_dir=str(folder.path))
    folder.create()
    record = {
        "format": 1,
        "status": "running",
        "error": None,
        "created": now(),
        "command": ["lossmith", *sys.argv[1:]] if Path(sys.argv[0]).stem in ("lossmith", "__main__") else sys.argv,
        **about,
        "config": asdict(options),
        "defaults": asdict(defaults),
        "versions": versions(),
        "result": None,
    }
    folder.write_run(record)
    return Opening(folder.path, options, record)


def settle_options(config: TrainConfig) -> TrainConfig:
    """Return a new run's options with every None replaced, those included that a model's folder decides."""
    config = replace(config, teacher=_model_of(config.teacher))
    tokenizer = config.tokenizer or _own_tokenizer(config.model) or _own_tokenizer(config.teacher, "--teacher")
    given = replace(config, tokenizer=tokenizer, optim=_optimizer(config))
    context = _longest_context(config.model) if config.block_size is None else config.block_size
    settled = resolve(replace(given, block_size=context))
    objective_spec(settled).refuse(asdict(settled))
    return settled


def _model_of(name: str | None) -> str | None:
    """Return --model, or the model/ of the run folder that it names."""
    inside = Path(name or "") / "model"
    run = name and not (inside.parent / "config.json").exists() and (inside / "config.json").exists()
    return str(inside) if run else name


def _optimizer(config: TrainConfig) -> Any:
    """Return the optimizer asked for; where nobody asked and torch is too old for muon, adamw."""
    import torch

    return config.optim if config.optim or hasattr(torch.optim, "Muon") else "adamw"


def _resumed(config: TrainConfig) -> Opening:
    path = run_of(config)
    record = record_of(path, "train")
    record["config"] = {"objective": "causal", **record["config"]}  # runs of before there were others
    return continued(config, path, record, resolve, FREE_ON_RESUME | FREE_IN_TRAINING)


def continued(
    config: Options, path: Path, record: dict[str, Any], resolved: Callable[[Options], Options], free: set[str]
) -> Opening:
    """Take the options of the run that is continued; what was given anew must not change what the run computes.

    `free`: the options that may be other ones.
    """
    checkpoint = find_checkpoint(config.resume_from_checkpoint or LATEST, path)
    known = {field.name for field in fields(config)}
    before = type(config)(**{k: _tuple(v) for k, v in record["config"].items() if k in known})
    given = {k: v for k, v in asdict(config).items() if v is not None and v is not False and v != ()}
    clashes = {k: v for k, v in given.items() if k not in free and v != getattr(before, k)}
    if clashes:
        told = ", ".join(f"{option(k)} {v!r} (the run has {getattr(before, k)!r})" for k, v in clashes.items())
        raise InputError(f"a resumed run keeps its options; got {told}. Leave them out, or start a new run")
    if "num_train_epochs" in given and "max_steps" not in given:
        given["max_steps"] = None
    merged = resolved(replace(before, **given | {"resume_from_checkpoint": None, "output_dir": str(path)}))
    if merged.max_steps is not None and merged.max_steps < step_of(checkpoint):
        raise InputError(f"--max-steps {merged.max_steps} is before step {step_of(checkpoint)} of {checkpoint}")
    news = {"config": asdict(merged), "status": "running", "error": None, "result": None}
    return Opening(path, merged, record | news, checkpoint)


def record_of(path: Path, command: str) -> dict[str, Any]:
    """Return run.json of the run to continue; InputError where another command than this one made it."""
    record = RunFolder(path).read_run()
    made_by = record.get("kind", "train")
    if made_by != command:
        raise InputError(
            f"{path} was made by lossmith {made_by}: continue it with that command, not lossmith {command}"
        )
    return record


def run_of(config: RunOptions) -> Path:
    """Return the folder of the run to continue; InputError where the options do not say which."""
    if config.output_dir:
        return Path(config.output_dir)
    if config.resume_from_checkpoint != LATEST:
        return Path(str(config.resume_from_checkpoint)).resolve().parent.parent
    raise InputError(
        "--resume-from-checkpoint needs to know the run: add --output-dir RUN, or give the checkpoint's folder"
    )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _longest_context(model: str | None) -> int | None:
    """Return the positions of the model in a folder, where they are fewer than the default context."""
    try:
        config = json.loads((Path(model or "") / "config.json").read_text(encoding="utf-8"))
        positions = int(config.get("max_position_embeddings", 512))
    except (OSError, ValueError, TypeError, AttributeError):  # building the model will say what is wrong
        return None
    return positions if positions < 512 and has_weights(Path(model or "")) else None


def _own_tokenizer(model: str | None, asked: str = "--model") -> str | None:
    """Return the folder of pre-trained weights, whose tokenizer is the only one that fits them; else None."""
    folder = Path(model or "")
    if not (model and folder.is_dir() and has_weights(folder)):
        return None
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise InputError(
            f"{asked} {model} holds weights and no tokenizer: say which one they know with --tokenizer FOLDER"
        )
    return model


def default_folder(first_input: str, otherwise: str) -> str:
    """Return runs/INPUT-DATE-TIME; `otherwise` stands for an input of no name."""
    stem = "stdin" if first_input == "-" else re.sub(r"[^\w-]+", "", Path(first_input).name.split(".")[0])
    name = f"{stem or otherwise}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    same = len(list(Path("runs").glob(f"{name}*"))) if Path("runs").is_dir() else 0
    return str(Path("runs") / (f"{name}-{same + 1}" if same else name))


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
