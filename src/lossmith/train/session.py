"""From options to a finished run folder: open the run, the data and the model; train; evaluate; report."""

from __future__ import annotations

import math
import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from lossmith.data import Blocks, TokenStore, open_store
from lossmith.diagnosis.report import findings_of
from lossmith.errors import DataError, LossmithError, NonFiniteError
from lossmith.evaluate import Evaluation, baselines, write_report
from lossmith.evaluate.sampling import encode_context
from lossmith.models.folder import newest_complete, step_of
from lossmith.models.precision import fast_bf16
from lossmith.objectives.scoring import Scores
from lossmith.pictures.text import program
from lossmith.runs import read_run
from lossmith.train.checkpoint import forget_after, prune, published, save_weights
from lossmith.train.config import TrainConfig, settled
from lossmith.train.distributed import World, world
from lossmith.train.findings import FindingsReporter
from lossmith.train.folder import RunFolder
from lossmith.train.hardware import hardware, keep_freed_memory
from lossmith.train.loop import Loop, evaluation_row
from lossmith.train.opening import Opening, now, open_run
from lossmith.train.optim import build_optimizers
from lossmith.train.reporter import Reporter, TensorBoardReporter
from lossmith.train.setup import Task, make_model, make_task, path_of_loss
from lossmith.train.signals import StopRequest
from lossmith.train.step import Trainer

T = TypeVar("T")


class Interrupted(LossmithError):
    """The run was asked to stop; the message says what is saved and holds the command that resumes it."""


@dataclass
class Session:
    """A run being made: where it is written, what was asked, who hears of it, and on which rank."""

    folder: RunFolder
    config: TrainConfig
    reporters: list[Reporter]
    world: World
    record: dict[str, Any]
    checkpoint: Path | None
    began: float
    before: float = 0.0

    def elapsed(self) -> float:
        """Seconds spent on the run: in this part, and in those before it."""
        return self.before + time.perf_counter() - self.began

    def tell(self, text: str) -> None:
        """Say a sentence to whoever listens."""
        for reporter in self.reporters:
            reporter.message(text)

    def update(self, **fields: Any) -> None:
        """Change fields of run.json (first rank only)."""
        self.record |= fields
        if self.world.leads:
            self.folder.write_run(self.record)

    def end(self, status: str, error: str | None = None) -> None:
        """Write how the run ended, and a report of what there is (first rank only)."""
        self.update(status=status, error=error, finished=now(), seconds=self.elapsed())
        if self.world.leads and (self.folder.path / "metrics.jsonl").exists():
            write_report(self.folder.path)


def run_training(config: TrainConfig, reporters: list[Reporter]) -> Path:
    """Train as the options say and return the run folder.

    Errors: InputError and DataError for what was asked, NonFiniteError and RunError when the run fails, Interrupted
    after Ctrl-C or SIGTERM (everything is saved). run.json tells the status in each case.
    """
    began = time.perf_counter()
    keep_freed_memory()
    stop = StopRequest()
    with world() as this, stop.heard():
        opening: Opening = _agreed(this, lambda: open_run(config))
        session = _session(opening, reporters if this.leads else [], this, began)
        try:
            _train(session, stop)
        except KeyboardInterrupt as error:
            message = _interruption(session, str(error) or "SIGINT")
            session.end("stopped")
            raise Interrupted(message) from None
        except Interrupted:
            session.end("stopped")
            this.wait()
            raise
        except Exception as error:
            _failed(session, error)
            if isinstance(error, NonFiniteError):  # which all ranks raise together; of other errors nobody knows
                this.wait()
            raise
        finally:
            session.folder.close()
            for reporter in session.reporters:
                reporter.close()
    return session.folder.path


def _session(opening: Opening, reporters: list[Reporter], this: World, began: float) -> Session:
    if this.leads and opening.config.report_to == "tensorboard":
        reporters = [*reporters, TensorBoardReporter(opening.path / "tensorboard")]
    reporters = [*reporters, FindingsReporter(reporters)] if this.leads else reporters
    folder = RunFolder(opening.path)
    before = float(opening.record.get("seconds") or 0.0)  # of a run that is continued, and was not killed
    return Session(folder, opening.config, reporters, this, opening.record, opening.checkpoint, began, before)


def _agreed(this: World, work: Callable[[], T]) -> T:
    """Do the work on the first rank and return its result on all; an error of it is raised on all."""
    outcome: list[Any] = [None]
    if this.leads:
        try:
            outcome = [work()]
        except Exception as error:
            outcome = [error]
    if this.size > 1:
        dist.broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    result: T = outcome[0]
    return result


def _train(session: Session, stop: StopRequest) -> None:
    store = _open_data(session)
    loop = _make_loop(session, store)
    first_step = _restore(session, loop)
    for reporter in session.reporters:
        reporter.start(loop.total_steps, math.log(loop.task.tokenizer.vocab_size))
    step, stopped = loop.run(first_step, stop)
    _save_model(session, loop)
    if session.world.leads:
        session.update(baselines=loop.task.comparable(baselines(store)), example=example_of(store))
    if stopped:
        raise Interrupted(_interruption(session, stop.requested or "a signal to another rank", step, loop.total_steps))
    _finish(session, loop, step, loop.evaluate(step, None))


def _open_data(session: Session) -> TokenStore:
    """Open the token store; the first rank builds it while the others wait for its place, or for its error."""
    path = _agreed(session.world, lambda: _build_or_find(session).path)
    # Another machine may not see the first one's cache, and then makes its own.
    store = TokenStore(path) if path.exists() else open_store(session.config.data())
    session.update(data=store.meta, fingerprint=store.fingerprint)
    return store


def _build_or_find(session: Session) -> TokenStore:
    """Return the store of the options; a resumed run takes its own, which standard input could not give twice."""
    data, recorded = session.config.data(), session.record.get("fingerprint") if session.checkpoint else None
    if recorded and (data.cache / "stores" / recorded).exists():
        return TokenStore(data.cache / "stores" / recorded)

    def progress(what: str, done: int, total: int | None) -> None:
        for reporter in session.reporters:
            reporter.building(what, done, total)

    store = open_store(data, progress)
    if recorded not in (None, store.fingerprint):
        raise DataError(
            f"the text is not the one of this run (the tokens of {recorded} are no longer in {data.cache}): "
            "give the same files back, or start a new run"
        )
    return store


def _make_loop(session: Session, store: TokenStore) -> Loop:
    task = make_task(session.config, store)
    config = _settle(session, store, task)
    model = make_model(config, task).to(session.world.device)
    path = path_of_loss(task, model)
    if config.torch_compile:
        model.base_model.compile()
    trainer = Trainer(
        model, task.objective, build_optimizers(model, config), store, task.blocks, config, session.world,
        total_steps=_total_steps(config, task.blocks, session.world.size), bf16=bool(config.bf16),
    )  # fmt: skip
    _record_model(session, trainer, task, path)
    return Loop(trainer, session.folder, session.reporters, session.elapsed, task)


def _settle(session: Session, store: TokenStore, task: Task) -> TrainConfig:
    """Settle what depends on the machine and on the tokenizer, so that a resumed run takes the same."""
    config = session.config
    prompt = settled(config.sample_prompt)
    # without a start of documents a sample starts with some text
    if not prompt and store.tokenizer.eos_id is None and task.spec.causal:
        prompt = store.tokenizer.decode(store.validation.tokens[:8])
    if config.sample_tokens and task.spec.causal:
        encode_context(store.tokenizer, prompt)
    bf16 = fast_bf16(session.world.device) if config.bf16 is None else config.bf16
    session.config = replace(config, bf16=bf16, sample_prompt=prompt)
    session.update(config=session.record["config"] | {"bf16": bf16, "sample_prompt": prompt})
    return session.config


def _total_steps(config: TrainConfig, blocks: Blocks, ranks: int) -> int:
    if config.max_steps is not None:
        return config.max_steps
    per_step = settled(config.per_device_train_batch_size) * settled(config.gradient_accumulation_steps) * ranks
    return max(1, math.ceil(settled(config.num_train_epochs) * len(blocks) / per_step))


def _record_model(session: Session, trainer: Trainer, task: Task, path: str) -> None:
    name, parameters = type(trainer.model).__name__, sum(p.numel() for p in trainer.model.parameters())
    session.update(
        model={"name": session.config.model, "class": name, "parameters": parameters, "loss_path": path},
        hardware=hardware(session.world.device, session.world.size),
        precision="bf16 autocast" if trainer.bf16 else "float32",
        steps=trainer.total_steps,
    )
    meta = trainer.store.meta
    session.tell(
        f"{parameters / 1e6:.2f}M parameters ({name}), {meta['n_train_tokens']:,} training and "
        f"{meta['n_validation_tokens']:,} validation tokens, vocabulary {task.tokenizer.vocab_size:,}, "
        f"{trainer.total_steps:,} steps, {session.record['precision']}"
    )
    if "logits" in path:
        session.tell(f"{name} hides its output head: the loss is computed from stored logits (more memory)")


def _restore(session: Session, loop: Loop) -> int:
    """Load the checkpoint to resume from, if any, and return the first step to do."""
    checkpoints, resumed = session.folder.checkpoints, session.checkpoint
    if session.world.leads:
        prune(checkpoints, keep=0)
    if resumed is None:
        return 1
    step, seconds = loop.restore(resumed)
    session.before = max(session.before, seconds)  # a killed process could not write how long it ran
    session.tell(f"resuming after step {step} from {resumed}")
    for later in forget_after(checkpoints, step) if session.world.leads else ():
        session.tell(f"removed {later}: the steps after {step} are done anew")
    return step + 1


def _save_model(session: Session, loop: Loop) -> None:
    if session.world.leads:
        with published(session.folder.path / "model", session.folder.checkpoints) as beside:
            save_weights(loop.trainer.model, beside)
            loop.task.tokenizer.save(beside)


def _finish(session: Session, loop: Loop, step: int, result: Evaluation | Scores) -> None:
    if not session.world.leads:
        return
    row = {**evaluation_row(result), "train_loss": loop.last_loss, "steps": step, "tokens": loop.trainer.tokens}
    ended = {"status": "finished", "finished": now(), "seconds": session.elapsed()}
    session.update(**ended, result=row)
    files = {name: str(path) for name, path in write_report(session.folder.path).items()}
    summary = {
        **row,
        **ended,
        "baselines": session.record["baselines"],
        "example": session.record["example"],
        "objective": str(session.config.objective),
        "findings": [finding.to_json() for finding in findings_of(read_run(session.folder.path))],
        "run": str(session.folder.path),
        "files": files,
    }
    for reporter in session.reporters:
        reporter.finish(summary)


def _interruption(session: Session, by: str, step: int | None = None, total: int | None = None) -> str:
    """Say what was saved and how to go on from it."""
    last = newest_complete(session.folder.checkpoints)
    if last is None:
        over = f"the run can be started over in {session.folder.path}"
        return f"stopped by {by} before the first checkpoint: there is nothing to resume, {over}"
    where = f"after step {step} of {total}; everything is" if step else f"; step {step_of(last)} is"
    return f"stopped by {by} {where} saved. Resume with:\n  {resume_command(session.folder.path)}".replace(" ;", ";")


def example_of(store: TokenStore) -> str:
    """Return a few words of the validation text to try the model with: its language, and only tokens that it knows."""
    text = store.tokenizer.decode(store.validation.tokens[:200])
    line = max((line.strip() for line in text.splitlines()[1:-1] or [text]), key=len)
    words = line.split()
    while len(words) > 1 and len(" ".join(words)) > 24:
        words.pop()
    return " ".join(words)[:24] or text[:8]


def resume_command(run: Path) -> str:
    """Return the command that continues a run."""
    return shlex.join([program(), "train", "--output-dir", os.fspath(run), "--resume-from-checkpoint"])


def _failed(session: Session, error: Exception) -> None:
    """Record the failure; a report that cannot be written (a full disk) must not hide it."""
    message = str(error) if isinstance(error, LossmithError) else f"{type(error).__name__}: {error}"
    try:
        session.end("failed", message)
    except OSError as second:
        session.tell(f"run.json and the report could not be written: {second}")
    if session.world.leads and (session.folder.path / "metrics.jsonl").exists():
        last = newest_complete(session.folder.checkpoints)
        over = f"there is no checkpoint yet: the run can be started over in {session.folder.path}"
        session.tell(f"the last good checkpoint is {last}" if last is not None else over)
