"""The loop: steps, and between them logs, evaluations, samples, checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lossmith.errors import DataError, NonFiniteError
from lossmith.evaluate import Evaluation, evaluate, sample
from lossmith.evaluate.sampling import complete
from lossmith.objectives import CausalObjective, names_of
from lossmith.objectives.preview import shown
from lossmith.objectives.scoring import Scores, score
from lossmith.train.checkpoint import load_checkpoint, prune, save_checkpoint, save_weights
from lossmith.train.config import settled
from lossmith.train.folder import RunFolder
from lossmith.train.reporter import Reporter
from lossmith.train.setup import make_task
from lossmith.train.signals import StopRequest
from lossmith.train.step import Sums, Trainer
from lossmith.train.story import Smoothed

EVAL_TOKENS = 16384  # in one forward pass of an evaluation: long enough for full speed, small beside the training pass


def untimed() -> float:
    """Return 0 seconds: of a loop that is no part of a session."""
    return 0.0


@dataclass
class Loop:
    """A run on one rank: the trainer, and where it writes (the first rank only)."""

    trainer: Trainer
    folder: RunFolder
    reporters: Sequence[Reporter]
    elapsed: Callable[[], float] = untimed
    """Seconds spent on the run, those of earlier parts included."""
    made: Any = None
    """What the objective is trained with; made from the options where nobody has it yet."""
    last_loss: float | None = None
    smoothed: Smoothed = field(default_factory=Smoothed)

    def __post_init__(self) -> None:
        config: Any = self.trainer.config  # TrainConfig, or in a subclass FinetuneConfig
        self.config = config
        self.world = self.trainer.world
        self.ended = False  # before the last step
        self.total_steps = self.trainer.total_steps
        self.task: Any = self.made or make_task(self.config, self.trainer.store)

    def run(self, first_step: int, stop: StopRequest) -> tuple[int, bool]:
        """Train to the end, or to the end of the step in which any rank is asked to stop.

        Return the last step, and whether it was a stop.
        """
        if first_step == 1:
            self.sample(0)  # noise, to compare with
        step, stopping = first_step - 1, False
        with stop.deferred():
            while step < self.total_steps and not stopping and not self.ended:
                step += 1
                self.trainer.train()
                stopping = self.trainer.train_step(step, stop)
                self.between_steps(step, stopping)
        return step, stopping

    def between_steps(self, step: int, stopping: bool) -> None:
        """Tell of the step; log, evaluate and save when it is time."""
        last = step == self.total_steps
        self.tell(step)
        if step % settled(self.config.logging_steps) == 0 or step == 1 or last:
            self.log(step)
        self.end_epochs(step)
        if self.due(step, last):
            self.judge(step)
        if step % self.every("save_steps", 5) == 0 or last or stopping or self.ended:
            self.save(step)

    def due(self, step: int, last: bool) -> bool:
        """Tell whether to evaluate after a step; after the last one `conclude` does."""
        return step % self.every("eval_steps", 10) == 0 and not last

    def judge(self, step: int) -> None:
        """Evaluate in the middle of the run."""
        self.evaluate(step, settled(self.config.eval_max_tokens))

    def tell(self, step: int) -> None:
        """Show the loss of this step and the smoothed one."""
        loss = self.trainer.loss(self.trainer.last)
        smoothed = self.smoothed.add(loss)
        for reporter in self.reporters:
            reporter.step(step, loss, smoothed)

    def end_epochs(self, step: int) -> None:
        """Show the mean loss of all tokens of an epoch that this step ends; a step counts where it begins."""
        trainer = self.trainer
        before, after = (trainer.blocks_done(n) // len(trainer.blocks) for n in (step - 1, step))
        if after > before:
            for reporter in self.reporters:
                reporter.epoch(before + 1, after, trainer.loss(trainer.epoch))
            trainer.epoch = Sums()

    def every(self, name: str, parts: int) -> int:
        """Return the option `name`, by default such that it happens `parts` times in the run."""
        return getattr(self.config, name) or max(1, self.total_steps // parts)

    def log(self, step: int) -> None:
        """Write the mean loss since the last line: Σ nats / Σ weights of each term, and their sum by coefficients."""
        trainer, window = self.trainer, self.trainer.window
        losses = window.losses()
        self.last_loss = trainer.loss(window)
        row = {
            "step": step,
            "epoch": self.epoch(step),
            "loss": self.last_loss,
            "learning_rate": trainer.optimizers.peaks[0][0] * trainer.rate_factor(step),
            "grad_norm": window.grad_norm,
            "tokens": trainer.tokens,
            "tokens_per_second": window.tokens / max(window.seconds, 1e-9),
            "seconds": trainer.seconds,
        }
        row |= (
            {f"loss/{name}": loss for name, loss in losses.items()}
            if len(names_of(trainer.objective, losses)) > 1
            else {}
        )
        trainer.window = Sums()
        self.write("metrics", row)

    def epoch(self, step: int) -> float:
        """Return how often the training text has been read after a step."""
        return round(self.trainer.blocks.epoch(self.trainer.blocks_done(step)), 4)

    def evaluate(self, step: int, limit: int | None) -> Evaluation | Scores:
        """Evaluate on `limit` validation tokens and log it; None: on all, in the precision of the saved weights."""
        trainer = self.trainer
        with nullcontext() if limit is None else trainer.autocast(), eager(self.config.torch_compile):
            judge = self.task.judged_by
            result = self.next_tokens(limit) if self.task.spec.causal else self.loss_of(judge, limit)
            terms = self.own_terms(limit)
        self.write("metrics", {"step": step, "epoch": self.epoch(step), **terms, **evaluation_row(result)})
        self.sample(step)
        return result

    def conclude(self, step: int) -> dict[str, Any]:
        """Evaluate what has been saved as model/ on all that is held out, and return the figures."""
        return evaluation_row(self.evaluate(step, None))

    def choose(self) -> None:
        """Take, after the last step, the weights that are to become model/: the last ones."""

    def export(self, folder: Path) -> None:
        """Write model/ (first rank only)."""
        save_weights(self.trainer.model, folder)
        self.task.tokenizer.save(folder)

    def next_tokens(self, limit: int | None) -> Evaluation:
        """Evaluate by the surprise at every next token of the validation text."""
        trainer, context = self.trainer, settled(self.config.block_size)
        return evaluate(
            trainer.model,
            self.task.judged_by,
            trainer.store.validation,
            trainer.store.tokenizer,
            block_size=context,
            batch_size=max(1, EVAL_TOKENS // context),
            limit=limit,
            document_mask=self.config.document_mask,
            device=self.world.device,
        )

    def loss_of(self, objective: Any, limit: int | None) -> Scores:
        """Evaluate by an objective's own loss; what it draws depends on the seed and the place in the text alone."""
        trainer, world = self.trainer, self.world
        first = next(self.held_out(limit), None)
        names = tuple(objective.counts(first)) if first else ()
        share = (batch for i, batch in enumerate(self.held_out(limit)) if i % world.size == world.rank)
        scores = score(trainer.model, objective, share, names, world.sum)
        if not names or not scores.tokens:
            raise DataError(
                "nothing to evaluate: the validation text is too short to hold anything to be guessed; give a longer "
                "text, a larger --validation-fraction or an --eval-file"
            )
        return scores

    def own_terms(self, limit: int | None) -> dict[str, float]:
        """Return the loss of each term of an objective that has others than the one it is judged by."""
        objective = self.trainer.objective
        if type(objective) is CausalObjective or self.task.judged_by is objective:
            return {}
        return {f"eval_loss/{name}": loss for name, loss in self.loss_of(objective, limit).losses.items()}

    def held_out(self, limit: int | None) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the validation text in batches, in order, the same ones every time."""
        trainer, rng = self.trainer, np.random.default_rng(0)
        size = max(1, EVAL_TOKENS // settled(self.config.block_size))
        for group in self.task.held_out_groups(trainer.store, limit, size):
            batch = trainer.objective.batch(group, rng)
            yield {key: value.to(self.world.device) for key, value in batch.items()}

    def sample(self, step: int) -> None:
        """Let the model write, or fill in what is hidden, so that a person sees what the number means."""
        if settled(self.config.sample_tokens) and self.world.leads:
            # Of a model that is broken the next step says more than its sample could.
            with eager(self.config.torch_compile), contextlib.suppress(NonFiniteError):
                samples = [self.written(), self.infilled()] if self.task.spec.causal else [self.filled()]
                for made in samples:
                    if made is not None:
                        self.write("samples", {"step": step, "prompt": made[0], "text": made[1]})

    def written(self) -> tuple[str, str]:
        """Return the prompt and what the model makes of it."""
        trainer, prompt = self.trainer, settled(self.config.sample_prompt)
        length = settled(self.config.sample_tokens)
        text = sample(trainer.model, self.task.tokenizer, prompt, max_new_tokens=length, seed=trainer.seed)
        return prompt, text

    def infilled(self) -> tuple[str, str] | None:
        """Return a text with a gap and what the model puts there, where the objective teaches that; else None."""
        if not hasattr(self.trainer.objective, "infill_prompt"):
            return None
        tokenizer, tokens = self.task.tokenizer, next(iter(self.task.held_out(self.trainer.store, None)))["tokens"]
        length = min(settled(self.config.sample_tokens), len(tokens) // 3)
        prompt = self.trainer.objective.infill_prompt(tokens[: 3 * length])
        text = complete(self.trainer.model, tokenizer, prompt, max_new_tokens=length)
        return tokenizer.decode(prompt, special=True), text

    def filled(self) -> tuple[str, str] | None:
        """Return the beginning of the validation text with tokens hidden, and with the model's guesses in their place.

        What is hidden is what an evaluation hides. None where an objective has nothing to show.
        """
        trainer, length = self.trainer, settled(self.config.sample_tokens)
        examples = islice(self.task.held_out(trainer.store, None), getattr(trainer.objective, "shows", 1))
        batch = trainer.objective.batch(list(examples), np.random.default_rng(0))
        return shown(trainer.model, trainer.objective, batch, self.task.tokenizer, length)

    def write(self, name: str, row: dict[str, Any]) -> None:
        """Append a row to the run folder and show it (first rank only)."""
        if self.world.leads:
            self.folder.append(name, row)
            for reporter in self.reporters:
                reporter.row(name, row)

    def save(self, step: int) -> None:
        """Write a checkpoint (first rank) while the others wait."""
        if self.world.leads:
            trainer = self.trainer
            done: dict[str, Any] = {"tokens": trainer.tokens, "seconds": trainer.seconds, "last_loss": self.last_loss}
            done |= {
                "window": asdict(trainer.window),
                "epoch": asdict(trainer.epoch),
                "smoothed": asdict(self.smoothed),
            }
            state = {**done, **self.kept(), "elapsed": self.elapsed(), "logs": self.folder.sync()}
            tokenizer = self.task.tokenizer
            parts = (trainer.model, trainer.own)
            path = save_checkpoint(self.folder.checkpoints, step, parts, tokenizer, trainer.optimizers, state)
            prune(self.folder.checkpoints, settled(self.config.save_total_limit))
            for reporter in self.reporters:
                reporter.saved(path)
        self.world.wait()

    def kept(self) -> dict[str, Any]:
        """Return what else a checkpoint must hold."""
        return {}

    def take(self, state: dict[str, Any]) -> None:
        """Take what `kept` gave from the state of a checkpoint."""

    def restore(self, checkpoint: Any) -> tuple[int, float]:
        """Load a checkpoint, cut the logs back to it, and return its step and the seconds it took to get there."""
        state = load_checkpoint(checkpoint, (self.trainer.model, self.trainer.own), self.trainer.optimizers)
        self.take(state)
        self.trainer.tokens, self.trainer.seconds = state["tokens"], state["seconds"]
        self.trainer.window, self.last_loss = Sums(**state["window"]), state["last_loss"]
        self.trainer.epoch = Sums(**state.get("epoch", {}))
        self.smoothed = Smoothed(**state.get("smoothed", {}))
        if self.world.leads:
            self.folder.rewind(state["logs"], state["step"])
        return int(state["step"]), float(state.get("elapsed", state["seconds"]))


def eager(compiled: bool) -> Any:
    """Leave compiled code alone outside training: its shapes change with every token, and each would be compiled."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def evaluation_row(result: Evaluation | Scores) -> dict[str, Any]:
    """Return the keys under which an evaluation stands in metrics.jsonl (nats per token; bits per UTF-8 byte)."""
    terms = result.losses if isinstance(result, Scores) and len(result.nats) > 1 else {}
    measures = result.measures if isinstance(result, Scores) else {}
    beside = {f"eval_loss/{name}": loss for name, loss in terms.items()}
    beside |= {f"eval_{name}": value for name, value in measures.items()}
    return beside | {
        "eval_loss": result.loss,
        "eval_perplexity": result.perplexity,
        "eval_bpb": result.bits_per_byte,
        "eval_tokens": result.tokens,
        "eval_bytes": result.bytes,
    }
