"""From options to a finished run folder: open the run, the data and the model; train; evaluate; report."""

from __future__ import annotations

import math
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from lossmith.data import Blocks, TokenStore, open_store
from lossmith.errors import DataError, LossmithError
from lossmith.evaluate import Evaluation, baselines, write_report
from lossmith.models import build_model, loss_path
from lossmith.objectives import CausalObjective
from lossmith.train.checkpoint import load_checkpoint, newest_complete, prune, published, save_weights
from lossmith.train.config import TrainConfig
from lossmith.train.distributed import World, world
from lossmith.train.folder import RunFolder
from lossmith.train.hardware import fast_bf16, hardware, keep_freed_memory
from lossmith.train.loop import Counters, Trainer, Window, evaluation_row
from lossmith.train.opening import new_or_resumed, now
from lossmith.train.optim import build_optimizers
from lossmith.train.reporter import Reporter, TensorBoardReporter
from lossmith.train.signals import StopRequest


class Interrupted(LossmithError):
    """The run was asked to stop and saved itself; the message holds the command that resumes it."""


@dataclass
class Session:
    """A run being made: where it is written, what was asked, who hears of it, and on which rank."""

    folder: RunFolder
    config: TrainConfig
    reporters: list[Reporter]
    world: World
    record: dict[str, Any]
    began: float

    def tell(self, text: str) -> None:
        """Say a sentence to whoever listens."""
        for reporter in self.reporters:
            reporter.message(text)

    def update(self, **fields: Any) -> None:
        """Change fields of run.json (first rank only)."""
        self.record |= fields
        if self.world.leads:
            self.folder.write_run(self.record)


def run_training(config: TrainConfig, reporters: list[Reporter]) -> Path:
    """Train as the options say and return the run folder.

    Errors: InputError and DataError for what was asked, NonFiniteError and RunError when the run fails, Interrupted
    after Ctrl-C or SIGTERM (everything is saved). In each case run.json tells the status and the report is written.
    """
    began = time.perf_counter()
    keep_freed_memory()
    with world() as this, StopRequest() as stop:
        if not this.leads:
            reporters = []
        session = _open_session(config, reporters, this, began)
        try:
            _train(session, stop)
        except LossmithError as error:
            _fail(session, error)
            raise
        except (KeyboardInterrupt, Exception) as error:
            session.update(status="failed", error=f"{type(error).__name__}: {error}")
            raise
        finally:
            session.folder.close()
            for reporter in reporters:
                reporter.close()
    return session.folder.path


def _open_session(config: TrainConfig, reporters: list[Reporter], this: World, began: float) -> Session:
    """Agree on folder and options on all ranks; the first one makes the folder."""
    agreed: list[Any] = [None]
    if this.leads:
        agreed = [_shared(lambda: new_or_resumed(config))]
    if this.size > 1:
        dist.broadcast_object_list(agreed)
    if isinstance(agreed[0], LossmithError):
        raise agreed[0]
    path, settled, record = agreed[0]
    if this.leads and settled.report_to == "tensorboard":
        reporters.append(TensorBoardReporter(path / "tensorboard"))
    return Session(RunFolder(path), settled, reporters, this, record, began)


def _shared(work: Any) -> Any:
    """Return the result or the user's mistake, so that every rank can hear of either."""
    try:
        return work()
    except LossmithError as error:
        return error


def _train(session: Session, stop: StopRequest) -> None:
    store = _open_data(session)
    trainer, first_step = _make_trainer(session, store)
    uniform = math.log(store.tokenizer.vocab_size)
    for reporter in session.reporters:
        reporter.start(trainer.total_steps, uniform)
    last = trainer.run(first_step, stop)
    _save_model(session, trainer)
    if stop.requested:
        _stopped(session, trainer, last, stop.requested)
    _finish(session, trainer, last, trainer.evaluate(last, None))


def _open_data(session: Session) -> TokenStore:
    """Open the token store; the first rank builds it while the others wait for its place, or for its error."""
    agreed: list[Any] = [None]
    if session.world.leads:
        agreed = [_shared(lambda: _build_or_find(session).path)]
    if session.world.size > 1:
        dist.broadcast_object_list(agreed)
    if isinstance(agreed[0], LossmithError):
        raise agreed[0]
    # Another machine may not see the first one's cache, and then makes its own.
    store = TokenStore(agreed[0]) if agreed[0].exists() else open_store(session.config.data())
    session.update(data=store.meta, fingerprint=store.fingerprint)
    return store


def _build_or_find(session: Session) -> TokenStore:
    """Return the store of the options; a resumed run takes its own, which standard input could not give twice."""
    data, recorded = session.config.data(), session.record.get("fingerprint")
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


def _make_trainer(session: Session, store: TokenStore) -> tuple[Trainer, int]:
    config = session.config
    context = config.block_size or 512
    model = build_model(
        config.model,
        vocab_size=store.tokenizer.vocab_size,
        context=context,
        seed=config.seed,
        end_id=store.tokenizer.eos_id,
    ).to(session.world.device)
    if config.torch_compile:
        model.base_model.compile()
    optimizers = build_optimizers(model, config)
    blocks = Blocks(store.train, context, seed=config.seed, document_mask=config.document_mask)
    parameters = sum(p.numel() for p in model.parameters())
    bf16 = config.bf16 if config.bf16 is not None else fast_bf16(session.world.device)
    trainer = Trainer(
        model,
        CausalObjective(),
        optimizers,
        store,
        blocks,
        config,
        session.world,
        session.folder,
        session.reporters,
        total_steps=_total_steps(config, blocks, session.world.size),
        bf16=bf16,
    )
    _record_model(session, trainer, parameters)
    return trainer, _restore(session, trainer)


def _total_steps(config: TrainConfig, blocks: Blocks, ranks: int) -> int:
    if config.max_steps is not None:
        return config.max_steps
    per_step = (config.per_device_train_batch_size or 1) * config.gradient_accumulation_steps * ranks
    return max(1, math.ceil((config.num_train_epochs or 1.0) * len(blocks) / per_step))


def _record_model(session: Session, trainer: Trainer, parameters: int) -> None:
    model, path = trainer.model, loss_path(trainer.model)
    described = {
        "name": session.config.model,
        "class": type(model).__name__,
        "parameters": parameters,
        "loss_path": path,
    }
    session.update(
        model=described,
        hardware=hardware(session.world.device, session.world.size),
        precision="bf16 autocast" if trainer.bf16 else "float32",
        steps=trainer.total_steps,
    )
    meta = trainer.store.meta
    session.tell(
        f"{parameters / 1e6:.2f}M parameters ({type(model).__name__}), {meta['n_train_tokens']:,} training and "
        f"{meta['n_validation_tokens']:,} validation tokens, vocabulary {trainer.store.tokenizer.vocab_size:,}, "
        f"{trainer.total_steps:,} steps, {session.record['precision']}"
    )
    if path == "logits":
        session.tell(
            f"{type(model).__name__} hides its output head: the loss is computed from stored logits (more memory)"
        )


def _restore(session: Session, trainer: Trainer) -> int:
    """Load the checkpoint to resume from, cut the logs back to it, and return the first step to do."""
    prune(session.folder.checkpoints, None)
    if not session.config.resume_from_checkpoint:
        return 1
    checkpoint = Path(session.config.resume_from_checkpoint)
    state = load_checkpoint(checkpoint, trainer.model, trainer.optimizers)
    trainer.counters, trainer.window = Counters(**state["counters"]), Window(**state["window"])
    if session.world.leads:
        session.folder.rewind(state["logs"])
    session.tell(f"resuming after step {state['step']} from {checkpoint}")
    return int(state["step"]) + 1


def _save_model(session: Session, trainer: Trainer) -> None:
    if session.world.leads:
        with published(session.folder.path / "model", session.folder.checkpoints) as beside:
            save_weights(trainer.model, beside)
            trainer.store.tokenizer.save(beside)


def _finish(session: Session, trainer: Trainer, step: int, result: Evaluation) -> None:
    if not session.world.leads:
        return
    row = {**evaluation_row(result), "train_loss": trainer.last_loss, "steps": step, "tokens": trainer.counters.tokens}
    ended = {"status": "finished", "finished": now(), "seconds": time.perf_counter() - session.began}
    session.update(**ended, baselines=baselines(trainer.store), result=row)
    files = {name: str(path) for name, path in write_report(session.folder.path).items()}
    summary = {
        **row,
        **ended,
        "baselines": session.record["baselines"],
        "run": str(session.folder.path),
        "files": files,
    }
    for reporter in session.reporters:
        reporter.finish(summary)


def _stopped(session: Session, trainer: Trainer, step: int, by: str) -> None:
    session.update(
        status="stopped",
        finished=now(),
        seconds=time.perf_counter() - session.began,
        baselines=baselines(trainer.store),
    )
    if session.world.leads:
        write_report(session.folder.path)
    raise Interrupted(
        f"stopped by {by} after step {step} of {trainer.total_steps}; everything is saved. Resume with:\n"
        f"  {resume_command(session.folder.path)}"
    )


def resume_command(run: Path) -> str:
    """Return the command that continues a run."""
    return shlex.join(["lossmith", "train", "--output-dir", os.fspath(run), "--resume-from-checkpoint"])


def _fail(session: Session, error: LossmithError) -> None:
    if isinstance(error, Interrupted):
        return
    last = newest_complete(session.folder.checkpoints)
    session.update(status="failed", error=str(error), finished=now(), seconds=time.perf_counter() - session.began)
    if session.world.leads and (session.folder.path / "metrics.jsonl").exists():
        write_report(session.folder.path)
    if last is not None:
        session.tell(f"the last good checkpoint is {last}")
