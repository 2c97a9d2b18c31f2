"""From options to a finished run folder: open the run, the data and the model; train; evaluate; report."""

from __future__ import annotations

import math
import time
from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossmith.diagnosis.report import findings_of
from lossmith.errors import LossmithError, NonFiniteError
from lossmith.evaluate import write_report
from lossmith.models.folder import newest_complete, step_of
from lossmith.runs import read_run
from lossmith.train.checkpoint import forget_after, prune, published
from lossmith.train.config import settled
from lossmith.train.distributed import World, agreed, world
from lossmith.train.ending import resume_command
from lossmith.train.findings import FindingsReporter
from lossmith.train.folder import RunFolder
from lossmith.train.hardware import keep_freed_memory
from lossmith.train.job import Job
from lossmith.train.loop import Loop
from lossmith.train.opening import Opening, now
from lossmith.train.options import RunOptions
from lossmith.train.reporter import Reporter, TensorBoardReporter
from lossmith.train.signals import StopRequest


class Interrupted(LossmithError):
    """The run was asked to stop; the message says what is saved and holds the command that resumes it."""


@dataclass
class Session:
    """A run being made: what it is about, where it is written, what was asked, who hears of it, and on which rank."""

    job: Job
    folder: RunFolder
    config: Any  # of the job: TrainConfig or FinetuneConfig
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


def run_job(job: Job, reporters: list[Reporter]) -> Path:
    """Do a job, record it in its run folder and return that.

    Errors: InputError and DataError for what was asked, NonFiniteError and RunError when the run fails, Interrupted
    after Ctrl-C or SIGTERM (everything is saved). run.json tells the status in each case.
    """
    began = time.perf_counter()
    keep_freed_memory()
    stop = StopRequest()
    with world() as this, stop.heard():
        opening: Opening = agreed(this, job.open)
        session = _session(job, opening, reporters if this.leads else [], this, began)
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


def _session(job: Job, opening: Opening, reporters: list[Reporter], this: World, began: float) -> Session:
    if this.leads and opening.config.report_to == "tensorboard":
        reporters = [*reporters, TensorBoardReporter(opening.path / "tensorboard")]
    reporters = [*reporters, FindingsReporter(reporters)] if this.leads else reporters
    folder = RunFolder(opening.path)
    before = float(opening.record.get("seconds") or 0.0)  # of a run that is continued, and was not killed
    return Session(job, folder, opening.config, reporters, this, opening.record, opening.checkpoint, began, before)


def _train(session: Session, stop: StopRequest) -> None:
    loop: Loop = session.job.loop(session)
    first_step = _restore(session, loop)
    for reporter in session.reporters:
        reporter.start(loop.total_steps, session.job.scale(loop))
    step, stopped = loop.run(first_step, stop)
    loop.choose()
    _save_model(session, loop)
    if session.world.leads:
        session.update(**session.job.about(loop))
    if stopped:
        raise Interrupted(_interruption(session, stop.requested or "a signal to another rank", step, loop.total_steps))
    _finish(session, loop, step, loop.conclude(step))


def total_steps(config: RunOptions, blocks: Sized, ranks: int) -> int:
    """Return how many steps a run has: --max-steps, or as many as --num-train-epochs take."""
    if config.max_steps is not None:
        return config.max_steps
    per_step = settled(config.per_device_train_batch_size) * settled(config.gradient_accumulation_steps) * ranks
    return max(1, math.ceil(settled(config.num_train_epochs) * len(blocks) / per_step))


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
            loop.export(beside)


def _finish(session: Session, loop: Loop, step: int, result: dict[str, Any]) -> None:
    if not session.world.leads:
        return
    row = {**result, "train_loss": loop.last_loss, "steps": step, "tokens": loop.trainer.tokens}
    ended = {"status": "finished", "finished": now(), "seconds": session.elapsed()}
    session.update(**ended, result=row, **session.job.ended(loop))
    files = {name: str(path) for name, path in write_report(session.folder.path).items()}
    summary = {
        **row,
        **ended,
        **session.job.summary(session.record),
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
    command = resume_command(session.folder.path, session.job.command)
    return f"stopped by {by} {where} saved. Resume with:\n  {command}".replace(" ;", ";")


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
