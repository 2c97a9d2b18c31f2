"""Two small real tasks to train badly on: the next character of Shakespeare, and which play a passage is from.

torch is imported inside functions, so that collecting the tests stays light.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

PLAYS = 8


@cache
def plays() -> tuple[str, ...]:
    """Return the plays of Shakespeare."""
    from lossmith.data import CORPORA

    return tuple(CORPORA["shakespeare"].documents())


@dataclass
class Log:
    """What a run logged, in the keys of curve JSON."""

    train: list[tuple[int, float]] = field(default_factory=list)
    eval: list[tuple[int, float]] = field(default_factory=list)
    lr: list[tuple[int, float]] = field(default_factory=list)
    grad_norm: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class Task:
    """A model, its batches (an endless iterator of (input, target)), and the held-out pair."""

    model: Any
    batches: Iterator[Any]
    held: Any
    loss: Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Plan:
    """How a run is trained; the defaults are good practice for both tasks."""

    steps: int = 1500
    lr: float = 3e-3
    schedule: str = "cosine"
    warmup: int = 50
    clip: float = 1.0
    sgd: bool = False
    weight_decay: float = 0.1
    logging_steps: int = 5
    eval_steps: int = 75
    accumulation: int = 1
    normalised: bool = True
    first_step: int = 0
    beta2: float = 0.95

    def but(self, **changes: Any) -> Plan:
        """Return the plan with some options changed."""
        return replace(self, **changes)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step (0, 1, …)."""
        from lossmith.train.schedule import learning_rate_factor

        if self.schedule == "step":
            return self.lr * (1.0 if step < 0.6 * self.steps else 0.1) * min(1.0, (step + 1) / max(1, self.warmup))
        options = {"kind": self.schedule, "warmup": float(self.warmup), "decay_fraction": 0.25}
        return self.lr * learning_rate_factor(step, self.steps, **options)  # type: ignore[arg-type]


def train(task: Task, plan: Plan, log: Log | None = None, before: Callable[[int], None] | None = None) -> Log:
    """Train and log; a run that is not finite any more goes on, as it would with most trainers."""
    import torch

    log = Log() if log is None else log
    parameters = list(task.model.parameters())
    options: dict[str, Any] = {"lr": plan.lr, "weight_decay": 0.0 if plan.sgd else plan.weight_decay}
    optimizer: Any = torch.optim.SGD if plan.sgd else torch.optim.AdamW
    optimizer = optimizer(parameters, **options, **({} if plan.sgd else {"betas": (0.9, plan.beta2)}))
    for step in range(plan.first_step, plan.steps):
        if before:
            before(step)
        rate = optimizer.param_groups[0]["lr"] = plan.rate(step)
        logged = 0.0
        for _ in range(plan.accumulation):
            loss = task.loss(task.model, next(task.batches)) / (plan.accumulation if plan.normalised else 1)
            loss.backward()
            logged += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(parameters, plan.clip or float("inf"))
        optimizer.step()
        optimizer.zero_grad()
        if step % plan.logging_steps == 0:
            for name, value in (("train", logged), ("lr", rate), ("grad_norm", float(norm))):
                getattr(log, name).append((step + 1, value))
        if (step + 1) % plan.eval_steps == 0:
            log.eval.append((step + 1, evaluate(task)))
    return log


def evaluate(task: Task) -> float:
    """Return the loss on the held-out pair."""
    import torch

    task.model.eval()
    with torch.no_grad():
        value = float(task.loss(task.model, task.held))
    task.model.train()
    return value


def order(count: int, batch: int, seed: int, *, shuffle: bool = True, start: int = 0) -> Iterator[Any]:
    """Yield row numbers, epoch after epoch; the first epoch may start further on."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    while True:
        rows = torch.randperm(count, generator=generator) if shuffle else torch.arange(count)
        for i in range(start, count - batch + 1, batch):
            yield rows[i : i + batch]
        start = 0


def characters(text: str) -> Any:
    """Return ids below 128."""
    import torch

    return torch.tensor([min(ord(c), 127) for c in text])


def language_model(
    seed: int, *, text: str | None = None, held: str | None = None, batch: int = 16, block: int = 32, width: int = 48,
    dropout: float = 0.0, **order_options: Any,
) -> Task:  # fmt: skip
    """Return a decoder of one layer over characters; text defaults to 37 plays, held-out text to the last one."""
    import torch

    torch.manual_seed(seed)
    ids = characters("\n".join(plays()[:-1]) if text is None else text)
    held_ids = characters(plays()[-1][:40_000] if held is None else held)
    rows = ids[: len(ids) // (block + 1) * (block + 1)].view(-1, block + 1)
    held_rows = held_ids[: len(held_ids) // (block + 1) * (block + 1)].view(-1, block + 1)[:256]
    batches = (rows[i] for i in order(len(rows), batch, seed, **order_options))
    return Task(_decoder(width, block, dropout), batches, held_rows, _next_character)


def _decoder(width: int, block: int, dropout: float) -> Any:
    import torch

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token, self.place = torch.nn.Embedding(128, width), torch.nn.Embedding(block, width)
            torch.nn.init.normal_(self.token.weight, std=0.02)
            torch.nn.init.normal_(self.place.weight, std=0.02)
            self.layer = torch.nn.TransformerEncoderLayer(
                width, 4, 4 * width, dropout, "gelu", batch_first=True, norm_first=True
            )
            self.norm, self.head = torch.nn.LayerNorm(width), torch.nn.Linear(width, 128, bias=False)
            torch.nn.init.normal_(self.head.weight, std=0.02)
            self.register_buffer("mask", torch.nn.Transformer.generate_square_subsequent_mask(block))

        def forward(self, ids: Any) -> Any:
            x = self.token(ids) + self.place.weight[: ids.shape[1]]
            mask = self.mask[: ids.shape[1], : ids.shape[1]].to(x.dtype)
            return self.head(self.norm(self.layer(x, src_mask=mask)))

    return Decoder()


def _next_character(model: Any, rows: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


def classifier(
    seed: int, *, passages: int = 4400, labels: str = "true", batch: int = 32, width: int = 64, dropout: float = 0.0,
    leak: int = 0, by_label: bool = False,
) -> Task:  # fmt: skip
    """Return a bag of character trigrams that guesses which of 8 plays a passage of four lines is from.

    labels: "true" or "shuffled"; leak: how often the play's number stands in the passage; by_label: sorted by play.
    """
    import torch

    torch.manual_seed(seed)
    rows = [(passage, i) for i, play in enumerate(plays()[:PLAYS]) for passage in _passages(play)]
    pick = torch.randperm(len(rows))[: passages + 600].tolist()
    assert len(pick) == passages + 600, f"only {len(rows)} passages"
    inputs = torch.stack([_trigrams(rows[i][0] + f" #{rows[i][1]}{rows[i][1]}#" * leak) for i in pick])
    targets = torch.tensor([rows[i][1] for i in pick])
    if labels == "shuffled":
        targets = targets[torch.randperm(len(targets))]
    held = inputs[passages:], targets[passages:]
    inputs, targets = inputs[:passages], targets[:passages]
    if by_label:
        by = targets.argsort(stable=True)
        inputs, targets = inputs[by], targets[by]
    model = torch.nn.Sequential(
        torch.nn.EmbeddingBag(8192, width, padding_idx=0),
        torch.nn.Dropout(dropout),
        torch.nn.Linear(width, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, PLAYS),
    )
    batches = ((inputs[i], targets[i]) for i in order(len(inputs), batch, seed, shuffle=not by_label))
    return Task(model, batches, held, _which_play)


def _passages(play: str) -> list[str]:
    lines = [line for line in play.splitlines() if line.strip()]
    return [" ".join(lines[i : i + 4]) for i in range(0, len(lines) - 3, 4)]


def _trigrams(passage: str, length: int = 160) -> Any:
    import torch

    triples = zip(passage, passage[1:], passage[2:], strict=False)
    codes = [1 + (ord(a) * 961 + ord(b) * 31 + ord(c)) % 8191 for a, b, c in triples][-length:]
    return torch.tensor(codes + [0] * (length - len(codes)))


def _which_play(model: Any, pair: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(model(pair[0]), pair[1])
