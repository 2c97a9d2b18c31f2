"""`lossmith finetune` from options to a run folder: a job like training, with rows for text and figures for a loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lossmith.errors import InputError, did_you_mean
from lossmith.models.presets import ENCODERS, PRESETS
from lossmith.objectives import adopted
from lossmith.precision import fast_bf16, slower
from lossmith.train.config import settled
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
from lossmith.train.hardware import hardware
from lossmith.train.job import Job
from lossmith.train.loop import Loop
from lossmith.train.opening import FREE_ON_RESUME, Opening, continued, default_folder, record_of, run_of, started
from lossmith.train.optim import build_optimizers
from lossmith.train.reporter import Reporter
from lossmith.train.scale import Scale
from lossmith.train.session import Session, run_job, total_steps
from lossmith.train.setup import check_accumulation

FEW_TO_CHOOSE_BY = 50
"""Validation rows below which the best of many evaluations is mostly luck: at 50, ± 0.14 for an accuracy of 0.5."""


def run_finetuning(config: FinetuneConfig, reporters: list[Reporter]) -> Path:
    """Fine-tune as the options say and return the run folder; errors: see run_job."""
    return run_job(Finetuning(config), reporters)


@dataclass
class Finetuning(Job):
    """What `lossmith finetune` does."""

    config: FinetuneConfig
    rows: Rows | None = None
    """The rows, once they have been read: on the first rank before there is a run folder."""
    command = "finetune"

    def open(self) -> Opening:
        """Make the folder of a new run, or read that of the run to continue."""
        return _resumed(self.config) if self.config.resume_from_checkpoint else self.begun()

    def begun(self) -> Opening:
        """Make the folder of a new run; what cannot be learnt from leaves none behind."""
        config, given = resolve_finetune(self.config), self.config
        _model_folder(config)
        make_kind(config, self.read(config)).objective(0)
        folder = RunFolder(Path(config.output_dir or default_folder(settled(config.train_data), "rows")))
        defaults = resolve_finetune(FinetuneConfig(model=given.model, train_data=given.train_data, task=given.task))
        return started(folder, config, defaults, kind="finetune")

    def read(self, config: FinetuneConfig) -> Rows:
        """Return the rows of resolved options, which are read once."""
        self.rows = self.rows or read_rows(config)
        return self.rows

    def loop(self, session: Session) -> FinetuneLoop:
        """Read the rows, say what they hold, make tokenizer, model and order, and return the loop."""
        config: FinetuneConfig = session.config
        rows = agreed(session.world, lambda: self.read(config))
        kind = make_kind(config, rows)
        model, folder = _model_folder(config), session.folder.path / "tokenizer"
        agreed(session.world, lambda: _tokenizer_once(config, model, rows, folder))
        tokenizer = SavedTokenizer(folder)
        made = make_model(config, kind, model, tokenizer)
        if kind.task == "regression" and made.heads:
            start_at_mean(made, sum(row.label for row in rows.training) / len(rows.training))
        task = make_task(config, kind, rows, tokenizer, made.model, session.world.size)
        compared = f"{task.objective.loss.name} compares the rows of a batch with each other"
        check_accumulation(config, task.objective.additive, compared)
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
        loss_unit=task.kind.unit.replace("/", " per "),
    )
    _tell_model(session, made, trained, whole, len(task.validation.rows))
    return FinetuneLoop(trainer, session.folder, session.reporters, session.elapsed, task)


def _tell_model(session: Session, made: Made, trained: int, whole: int, rows: int) -> None:
    """Say what is trained and which weights are kept; `rows`: how many judge them."""
    config, record = session.config, session.record
    part = "all" if trained == whole else f"{trained:,} ({trained / whole:.1%})"
    new = f"; new: {', '.join(sorted({name.split('.')[0] for name in made.new}))}" if made.new else ""
    session.tell(
        f"{type(made.model).__name__}, {whole:,} parameters, {part} of them trained{new}; {record['steps']:,} steps of "
        f"{config.per_device_train_batch_size * config.gradient_accumulation_steps * session.world.size} rows, "
        f"{config.optim} at {config.learning_rate:.2g}, {record['precision']}"
        f"{slower(config.bf16, session.world.device)}; model/ is {config.chosen}"
    )
    if config.load_best_model_at_end and rows < FEW_TO_CHOOSE_BY:
        session.tell(
            f"{rows:,} validation rows choose the weights, which is little more than chance: give more "
            "(--eval-data, --validation-fraction), or keep the last weights with --no-load-best-model-at-end"
        )


def _model_folder(config: FinetuneConfig) -> Path | None:
    """Return the folder of a pre-trained model; None for a preset."""
    from lossmith.train.handle import load_run

    if config.from_scratch:
        return None
    if not Path(settled(config.model)).exists():
        presets = [*ENCODERS, *PRESETS]
        raise InputError(
            f"{config.model} does not exist: expected the folder of a run or of a model, or a preset "
            f"({', '.join(dict.fromkeys(presets))}).{did_you_mean(settled(config.model), presets)}"
        )
    if config.tokenizer and not Path(config.tokenizer).is_dir():
        raise InputError(
            f"--tokenizer {config.tokenizer} would be a new one, and the model in {config.model} knows its own: leave "
            "it out, or give the folder of the one it was trained with"
        )
    return load_run(settled(config.model)).model_folder


def _tokenizer_once(config: FinetuneConfig, model: Path | None, rows: Rows, folder: Path) -> None:
    """A resumed run has its tokenizer already."""
    if not (folder / "tokenizer.json").exists():
        write_tokenizer(config, model, rows, folder)


def _resumed(config: FinetuneConfig) -> Opening:
    path = run_of(config)
    return continued(
        config, path, record_of(path, "finetune"), resolve_finetune, FREE_ON_RESUME | {"early_stopping_patience"}
    )
