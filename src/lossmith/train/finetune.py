"""`lossmith finetune` from options to a run folder: a job like training, with rows for text and figures for a loss."""

from __future__ import annotations

import datetime
import re
import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from lossmith.errors import InputError
from lossmith.models.folder import step_of
from lossmith.models.precision import fast_bf16
from lossmith.objectives import adopted
from lossmith.train.checkpoint import LATEST, find_checkpoint
from lossmith.train.config import option, settled
from lossmith.train.distributed import agreed
from lossmith.train.finetune_config import FinetuneConfig, resolve_finetune
from lossmith.train.finetune_loop import FinetuneLoop, FinetuneTrainer
from lossmith.train.finetune_model import Made, parameters_of, start_at_mean, suited_rate
from lossmith.train.finetune_report import told
from lossmith.train.finetune_setup import (
    FineTask,
    Rows,
    make_kind,
    make_model,
    make_task,
    read_rows,
    write_tokenizer,
)
from lossmith.train.finetune_tokenizer import SavedTokenizer
from lossmith.train.folder import RunFolder
from lossmith.train.hardware import hardware, versions
from lossmith.train.job import Job
from lossmith.train.loop import Loop
from lossmith.train.opening import Opening, now
from lossmith.train.optim import build_optimizers
from lossmith.train.reporter import Reporter
from lossmith.train.scale import Scale
from lossmith.train.session import Session, run_job, total_steps

FREE_ON_RESUME = {"output_dir", "resume_from_checkpoint", "max_steps", "num_train_epochs", "logging_steps"}
FREE_ON_RESUME |= {"save_steps", "save_total_limit", "sample_tokens", "report_to", "early_stopping_patience"}


def run_finetuning(config: FinetuneConfig, reporters: list[Reporter]) -> Path:
    """Fine-tune as the options say and return the run folder; errors: see run_job."""
    return run_job(Finetuning(config), reporters)


@dataclass(frozen=True)
class Finetuning(Job):
    """What `lossmith finetune` does."""

    config: FinetuneConfig
    command = "finetune"

    def open(self) -> Opening:
        """Make the folder of a new run, or read that of the run to continue."""
        return _resumed(self.config) if self.config.resume_from_checkpoint else _new(self.config)

    def loop(self, session: Session) -> FinetuneLoop:
        """Read the rows, say what they hold, make tokenizer, model and order, and return the loop."""
        config: FinetuneConfig = session.config
        rows = agreed(session.world, lambda: read_rows(config))
        kind = make_kind(config, rows)
        model, folder = _model_folder(config), session.folder.path / "tokenizer"
        agreed(session.world, lambda: _tokenizer_once(config, model, rows, folder))
        tokenizer = SavedTokenizer(folder)
        made = make_model(config, kind, model, tokenizer)
        if kind.task == "regression" and made.heads:
            start_at_mean(made, sum(row.label for row in rows.training) / len(rows.training))
        task = make_task(config, kind, rows, tokenizer, made.model, session.world.size)
        _check_whole(config, task.objective)
        objective = adopted(task.objective, made.model)
        tokenizer.inputs = _inputs(objective)
        for line in told(rows.facts, kind.task):
            session.tell(line)
        return _loop(session, made, replace(task, objective=objective), rows)

    def scale(self, loop: Loop) -> Scale:
        """The loss of knowing nothing, where it has a name."""
        uniform, name = loop.task.kind.guess()
        return Scale(uniform, loop.task.kind.unit, name)

    def about(self, loop: Loop) -> dict[str, Any]:
        """Nothing more: the figures stand in the result."""
        return {}

    def ended(self, loop: Any) -> dict[str, Any]:
        """Return the figures with intervals, baselines and the confusion table."""
        return {"outcome": loop.outcome.to_json()}

    def summary(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return task, columns and figures."""
        return {"task": record["config"]["task"], "config": record["config"], "outcome": record["outcome"]}


def _check_whole(config: FinetuneConfig, objective: Any) -> None:
    """Refuse to accumulate a loss that is not additive: the parts of a batch have fewer negatives than the whole."""
    parts, size = settled(config.gradient_accumulation_steps), settled(config.per_device_train_batch_size)
    if not objective.additive and parts > 1:
        raise InputError(
            f"--gradient-accumulation-steps {parts} would train another loss: {objective.loss.name} compares the rows "
            f"of a batch with each other. Leave it out and give --per-device-train-batch-size {size * parts}"
        )


def _inputs(objective: Any) -> tuple[str, ...]:
    return ("input_ids", "token_type_ids", "attention_mask") if objective.types else ("input_ids", "attention_mask")


def _loop(session: Session, made: Made, task: FineTask, rows: Rows) -> FinetuneLoop:
    model, world = made.model.to(session.world.device), session.world
    config: FinetuneConfig = session.config
    bf16 = fast_bf16(world.device) if config.bf16 is None else config.bf16
    rate = suited_rate(model, config) if config.learning_rate is None else config.learning_rate
    config = session.config = replace(config, bf16=bf16, learning_rate=rate)
    if config.torch_compile:
        model.base_model.compile()
    trainer = FinetuneTrainer(
        model, task.objective, build_optimizers(model, config, None, made.heads), task.blocks, task.blocks, config,
        world, total_steps=total_steps(config, task.blocks, world.size), bf16=bf16,
    )  # fmt: skip
    trained, whole = parameters_of(model)
    session.update(
        config=session.record["config"] | {"bf16": bf16, "learning_rate": rate},
        data=rows.facts,
        model={"name": config.model, "class": type(model).__name__, "parameters": whole, "trained_parameters": trained},
        hardware=hardware(world.device, world.size),
        precision="bf16 autocast" if bf16 else "float32",
        steps=trainer.total_steps,
        classes=list(task.kind.classes),
    )
    _tell_model(session, made, trained, whole)
    return FinetuneLoop(trainer, session.folder, session.reporters, session.elapsed, task)


def _tell_model(session: Session, made: Made, trained: int, whole: int) -> None:
    config, record = session.config, session.record
    part = "all" if trained == whole else f"{trained:,} ({trained / whole:.1%})"
    new = f"; new: {', '.join(sorted({name.split('.')[0] for name in made.new}))}" if made.new else ""
    session.tell(
        f"{type(made.model).__name__}, {whole:,} parameters, {part} of them trained{new}; {record['steps']:,} steps of "
        f"{config.per_device_train_batch_size * config.gradient_accumulation_steps * session.world.size} rows, "
        f"{config.optim} at {config.learning_rate:.2g}, {record['precision']}; model/ is the best by {config.metric}"
    )


def _model_folder(config: FinetuneConfig) -> Path | None:
    """Return the folder of a pre-trained model; None for a preset."""
    from lossmith.train.handle import load_run

    if config.from_scratch:
        return None
    return load_run(settled(config.model)).model_folder


def _tokenizer_once(config: FinetuneConfig, model: Path | None, rows: Rows, folder: Path) -> None:
    """A resumed run has its tokenizer already."""
    if not (folder / "tokenizer.json").exists():
        write_tokenizer(config, model, rows, folder)


def _new(config: FinetuneConfig) -> Opening:
    settled_config = resolve_finetune(config)
    _model_folder(settled_config)
    folder = RunFolder(Path(config.output_dir or _default_folder(settled(config.train_data))))
    settled_config = replace(settled_config, output_dir=str(folder.path))
    read_rows(settled_config)
    folder.create()
    record = {
        "format": 1,
        "status": "running",
        "error": None,
        "created": now(),
        "command": ["lossmith", *sys.argv[1:]] if Path(sys.argv[0]).stem in ("lossmith", "__main__") else sys.argv,
        "kind": "finetune",
        "config": asdict(settled_config),
        "defaults": asdict(
            resolve_finetune(FinetuneConfig(model=config.model, train_data=config.train_data, task=config.task))
        ),
        "versions": versions(),
        "result": None,
    }
    folder.write_run(record)
    return Opening(folder.path, settled_config, record)


def _resumed(config: FinetuneConfig) -> Opening:
    """Take the options of the run that is continued; what was given anew must not change what the run computes."""
    path = _run_of(config)
    record = RunFolder(path).read_run()
    if record.get("kind") != "finetune":
        raise InputError(f"{path} is no fine-tuning run: continue it with lossmith train")
    checkpoint = find_checkpoint(config.resume_from_checkpoint or LATEST, path)
    known = {field.name for field in fields(FinetuneConfig)}
    held: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in record["config"].items() if k in known
    }
    before = FinetuneConfig(**held)
    given = {k: v for k, v in asdict(config).items() if v is not None and v is not False and v != ()}
    clashes = {k: v for k, v in given.items() if k not in FREE_ON_RESUME and v != getattr(before, k)}
    if clashes:
        said = ", ".join(f"{option(k)} {v!r} (the run has {getattr(before, k)!r})" for k, v in clashes.items())
        raise InputError(f"a resumed run keeps its options; got {said}. Leave them out, or start a new run")
    if "num_train_epochs" in given and "max_steps" not in given:
        given["max_steps"] = None
    merged = replace(before, **given | {"resume_from_checkpoint": None, "output_dir": str(path)})
    merged = resolve_finetune(merged)
    if merged.max_steps is not None and merged.max_steps < step_of(checkpoint):
        raise InputError(f"--max-steps {merged.max_steps} is before step {step_of(checkpoint)} of {checkpoint}")
    news = {"config": asdict(merged), "status": "running", "error": None, "result": None}
    return Opening(path, merged, record | news, checkpoint)


def _run_of(config: FinetuneConfig) -> Path:
    if config.output_dir:
        return Path(config.output_dir)
    if config.resume_from_checkpoint != LATEST:
        return Path(str(config.resume_from_checkpoint)).resolve().parent.parent
    raise InputError(
        "--resume-from-checkpoint needs to know the run: add --output-dir RUN, or give the checkpoint's folder"
    )


def _default_folder(data: str) -> str:
    stem = re.sub(r"[^\w-]+", "", Path(data).name.split(".")[0]) or "rows"
    name = f"{stem}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    same = len(list(Path("runs").glob(f"{name}*"))) if Path("runs").is_dir() else 0
    return str(Path("runs") / (f"{name}-{same + 1}" if same else name))
