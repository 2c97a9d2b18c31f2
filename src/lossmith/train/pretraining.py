"""What `lossmith train` does: open the text, make the objective and its model, and drive the loss down."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lossmith.data import TokenStore, open_store
from lossmith.errors import DataError
from lossmith.evaluate import baselines
from lossmith.evaluate.sampling import encode_context
from lossmith.models.seq2seq import bodies
from lossmith.objectives import adopted, own_tensors
from lossmith.precision import fast_bf16, slower
from lossmith.train.config import TrainConfig, settled
from lossmith.train.distributed import agreed
from lossmith.train.ending import example_of
from lossmith.train.hardware import hardware
from lossmith.train.job import Job
from lossmith.train.loop import Loop
from lossmith.train.opening import Opening, open_run
from lossmith.train.optim import build_optimizers
from lossmith.train.reporter import Reporter
from lossmith.train.scale import Scale
from lossmith.train.session import Session, run_job, total_steps
from lossmith.train.setup import Task, make_model, make_task, path_of_loss
from lossmith.train.step import Trainer


def run_training(config: TrainConfig, reporters: list[Reporter]) -> Path:
    """Train as the options say and return the run folder; errors: see run_job."""
    return run_job(Pretraining(config), reporters)


@dataclass(frozen=True)
class Pretraining(Job):
    """What `lossmith train` does."""

    config: TrainConfig

    def open(self) -> Opening:
        """Make the folder of a new run, or read that of the run to continue."""
        return open_run(self.config)

    def loop(self, session: Session) -> Loop:
        """Open the token store, build the model, and return the loop."""
        return _make_loop(session, _open_data(session))

    def scale(self, loop: Loop) -> Scale:
        """Nats per token beside ln V, or what the objective counts; a sum of terms is nats of no one thing."""
        uniform, name = loop.task.chance
        unit = loop.task.loss_unit.split(":")[0].replace(" per ", "/")
        judged = loop.task.judged_by is not loop.task.objective
        return Scale(uniform, unit, name, "nats/token" if judged else "")

    def about(self, loop: Loop) -> dict[str, Any]:
        """The baselines, and words to try the model with."""
        store, task = loop.trainer.store, loop.task
        rows = task.comparable(baselines(store, task.tokenizer.vocab_size))
        return {"baselines": rows, "example": example_of(store)}


def _open_data(session: Session) -> TokenStore:
    """Open the token store; the first rank builds it while the others wait for its place, or for its error."""
    path = agreed(session.world, lambda: _build_or_find(session).path)
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
        for body in bodies(model):
            body.compile()
    task = replace(task, objective=adopted(task.objective, model))
    own = own_tensors(task.objective)
    if own is not None:
        own.to(session.world.device)
    trainer = Trainer(
        model, task.objective, build_optimizers(model, config, own), store, task.blocks, config, session.world,
        total_steps=total_steps(config, task.blocks, session.world.size), bf16=bool(config.bf16),
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
    settled_config: TrainConfig = session.config
    return settled_config


def _record_model(session: Session, trainer: Trainer, task: Task, path: str) -> None:
    name, parameters = type(trainer.model).__name__, sum(p.numel() for p in trainer.model.parameters())
    session.update(
        model={"name": session.config.model, "class": name, "parameters": parameters, "loss_path": path},
        hardware=hardware(session.world.device, session.world.size),
        precision="bf16 autocast" if trainer.bf16 else "float32",
        steps=trainer.total_steps,
        unit=task.spec.unit,
        loss_unit=task.loss_unit,
    )
    meta = trainer.store.meta
    session.tell(
        f"{parameters / 1e6:.2f}M parameters ({name}), {meta['n_train_tokens']:,} training and "
        f"{meta['n_validation_tokens']:,} validation tokens, vocabulary {task.tokenizer.vocab_size:,}, "
        f"{trainer.total_steps:,} steps, {session.record['precision']}"
        f"{slower(trainer.bf16, session.world.device)}"
    )
    for note in task.notes():
        session.tell(note)
    if "logits" in path:
        session.tell(f"{name} hides its output head: the loss is computed from stored logits (more memory)")
