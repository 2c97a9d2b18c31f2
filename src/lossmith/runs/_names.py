"""What a column is, told from its name: every tool has names of its own, a Run speaks those Hugging Face logs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

EVAL = frozenset({"val", "valid", "validation", "eval", "evaluation", "dev", "test", "testing", "tel", "heldout"})
TRAIN = frozenset({"train", "training", "trn", "tr", "trl", "fit"})

# What may be left of a name beside "loss" and its side, the surest first.
_LOSS = (
    "loss", "lm loss", "cross entropy loss", "ce loss", "cross entropy", "crossentropy", "crossentropyloss", "xent",
    "loss step", "step loss", "reduced loss", "loss avg", "avg loss", "average loss", "loss mean", "mean loss",
    "global avg loss", "loss metrics global avg loss", "total loss", "loss total", "loss all", "batch loss",
    "loss batch", "loss iter", "iter loss", "loss local", "running loss", "loss running", "loss epoch", "epoch loss",
    "smoothed loss", "loss smoothed", "loss ema", "ema loss", "ppl loss", "nll loss", "nll", "mlm loss", "lm",
    "loss history", "history loss", "objective",
)  # fmt: skip
_STEP = (
    "step", "global step", "steps", "current steps", "train step", "optimizer step", "num updates", "update", "updates",
    "iteration", "iterations", "iter", "iters", "it", "n iter", "num iter", "batch", "train iter",
    "train iteration", "s",
)  # fmt: skip
_ITERATION = frozenset({"iteration", "iterations", "iter", "iters", "it", "n", "batch"})
_EPOCH = ("epoch", "epochs", "current epoch", "epoch num", "epoch number", "ep")
_RATE = frozenset({
    "learning", "rate", "lr", "train", "training", "group", "group0", "pg", "pg0", "pg1", "adam", "adamw",
    "sgd", "muon", "optim", "optimizer", "current", "lr0", "0", "1", "base", "params", "param", "epoch",
    "step",
})  # fmt: skip
_NORM = frozenset({
    "grad", "grads", "gradient", "norm", "norms", "total", "global", "train", "training", "before", "clip",
    "optim", "l2", "clipping", "unclipped", "preclip", "pre", "all", "2.0", "2", "0",
})  # fmt: skip
_TOKENS = frozenset({
    "tokens", "total", "num", "n", "consumed", "seen", "train", "training", "input", "processed",
    "cumulative", "so", "far", "throughput",
})  # fmt: skip
_SCALE = frozenset({"loss scale", "grad scale", "scaler scale", "loss scaler", "cur scale"})
_CLOCK = frozenset({
    "time", "seconds", "sec", "secs", "s", "ms", "runtime", "elapsed", "timestamp", "date", "eta", "mem",
    "memory", "wall", "tflops", "flops", "mfu", "tps", "throughput", "speed", "dt", "remaining", "duration",
    "hours", "gpu", "second", "tok",
})  # fmt: skip

CHINESE = {  # the longer before those they hold
    "交叉熵损失": " cross entropy loss ", "平均损失": " average loss ", "损失值": " loss ", "损失": " loss ",
    "交叉熵": " cross entropy ", "验证集": " val ", "验证": " val ", "测试集": " test ", "测试": " test ",
    "评估": " eval ", "训练集": " train ", "训练": " train ", "迭代次数": " iteration ", "迭代": " iteration ",
    "步数": " step ", "步骤": " step ", "步": " step ", "轮次": " epoch ", "轮数": " epoch ",
    "周期": " epoch ", "轮": " epoch ", "学习率": " learning rate ", "梯度范数": " grad norm ",
}  # fmt: skip
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+(?:\.\d+)?")


def english(text: str) -> str:
    """Return a text with the Chinese names of steps, losses and rates in English.

    >>> english("第 3 轮 训练损失:0.5").split()
    ['第', '3', 'epoch', 'train', 'loss', ':0.5']
    """
    if not text.isascii():
        for theirs, ours in CHINESE.items():
            text = text.replace(theirs, ours)
        text = re.sub(" +", " ", text)
    return text


@lru_cache(maxsize=4096)
def words(name: str) -> tuple[str, ...]:
    """Return the words of a column's name in lower case.

    >>> words("train/CrossEntropyLoss"), words("Validation Loss"), words("val_loss")
    (('train', 'cross', 'entropy', 'loss'), ('validation', 'loss'), ('val', 'loss'))
    >>> words("验证损失"), words("训练集学习率")
    (('val', 'loss'), ('train', 'learning', 'rate'))
    """
    name = english(name)
    return tuple("loss" if word == "losses" else word for word in _WORD.findall(_CAMEL.sub(" ", name).lower()))


def side(name: str) -> str:
    """Return "train", "eval" or nothing: the data a column was measured on.

    >>> side("val/loss"), side("training_loss"), side("loss")
    ('eval', 'train', '')
    """
    parts = set(words(name))
    return "eval" if parts & EVAL else "train" if parts & TRAIN else ""


def rest(name: str) -> str:
    """Return a name without its side.

    >>> rest("val_loss"), rest("train/lm loss")
    ('loss', 'lm loss')
    """
    return " ".join(word for word in words(name) if word not in EVAL and word not in TRAIN)


def is_clock(name: str) -> bool:
    """Return whether a column tells time, speed or memory, which differ between ranks that log the same row."""
    return bool(_CLOCK & set(words(name)))


def loss_rank(name: str) -> int | None:
    """Return how surely a name means the loss, 0 the most surely; None where it means something else.

    >>> loss_rank("train/loss"), loss_rank("box_loss"), loss_rank("trl")
    (0, None, 0)
    """
    left = rest(name)
    if words(name) in (("trl",), ("tel",)):
        return 0
    return _LOSS.index(left) if left in _LOSS else None


def is_step(name: str) -> bool:
    """Return whether a column counts steps.

    >>> is_step("train/global_step"), is_step("_step"), is_step("loss_step")
    (True, True, False)
    """
    return _step_rank(name) is not None


def _step_rank(name: str) -> float | None:
    left = " ".join(word for word in words(name) if word not in ("train", "training", "trainer"))
    if left not in _STEP or set(words(name)) & EVAL:
        return None
    # W&B's own _step counts log calls: any counter the user logged is better, but for one that starts anew every epoch.
    return _STEP.index("batch") - 0.5 if name.startswith("_") else _STEP.index(left)


def is_epoch(name: str) -> bool:
    """Return whether a column counts epochs."""
    return not set(words(name)) & EVAL and rest(name) in _EPOCH


def unit(name: str) -> str:
    """Return what a step column counts: "iteration" where the tool says so, else "step".

    >>> unit("iter"), unit("global_step")
    ('iteration', 'step')
    """
    return "iteration" if set(words(name)) & _ITERATION else "step"


def steps(counts: Mapping[str, int]) -> list[str]:
    """Return the columns that count steps, the best first."""
    ranked = [(rank, name) for name in counts if (rank := _step_rank(name)) is not None]
    return [name for _, name in sorted(ranked)]


def epochs(counts: Mapping[str, int]) -> list[str]:
    """Return the columns that count epochs, the fullest first."""
    return sorted((name for name in counts if is_epoch(name)), key=lambda name: (-counts[name], len(name)))


def recognise(counts: Mapping[str, int]) -> dict[str, str]:
    """Return each column's name in a Run, given how many numbers every column holds.

    The loss is the fullest column whose name means the loss (per-step values win over means of an epoch), then the
    plainest name. What is not recognised keeps its name, metrics of validation data get the prefix `eval_`.

    >>> recognise({"train_loss_step": 90, "train_loss_epoch": 2, "val_loss": 2, "lr-AdamW": 9})
    ... # doctest: +NORMALIZE_WHITESPACE
    {'train_loss_step': 'loss', 'val_loss': 'eval_loss', 'lr-AdamW': 'learning_rate',
     'train_loss_epoch': 'train_loss_epoch'}
    """
    names: dict[str, str] = {}
    for canonical, found in _candidates(counts):
        free = [name for name in found if name not in names]
        if free:
            names[free[0]] = canonical
    for name in counts:
        if name not in names:
            names[name] = _own_name(name, set(names.values()))
    return names


def _candidates(counts: Mapping[str, int]) -> list[tuple[str, list[str]]]:
    losses = [name for name in counts if loss_rank(name) is not None]
    summary = any("runtime" in words(name) and "train" in words(name) for name in counts)
    train = [n for n in losses if side(n) != "eval" and not (summary and counts[n] == 1 and _is_mean(n))]
    plain = sorted(train, key=lambda name: (-counts[name], loss_rank(name) or 0, side(name) == "train", len(name)))
    evals = [name for name in losses if side(name) == "eval"]
    # Several evaluation sets, eval_A_loss and eval_B_loss: the first stands for all.
    evals = evals or [name for name in counts if side(name) == "eval" and words(name)[-1] == "loss"][:1]
    tested = sorted(evals, key=lambda n: ("test" in words(n), -counts[n], loss_rank(n) or 0, len(n)))
    rates = [name for name in counts if _is_rate(name)]
    norms = [name for name in counts if {"norm", "grad"} <= _grad(name) <= _NORM or words(name) == ("gnorm",)]
    tokens = [name for name in counts if "tokens" in words(name) and set(words(name)) <= _TOKENS]
    return [
        ("loss", plain),
        ("eval_loss", tested),
        ("learning_rate", _fullest(rates, counts)),
        ("grad_norm", _fullest(norms, counts)),
        ("tokens", sorted(tokens, key=lambda n: ("seen" not in words(n) and "total" not in words(n), len(n)))),
        ("loss_scale", [name for name in counts if rest(name) in _SCALE]),
        ("epoch", epochs(counts)),
    ]


def _is_mean(name: str) -> bool:
    """Whether a name is that of the mean over the run that Hugging Face's Trainer logs at the end."""
    return name.rpartition("/")[2] == "train_loss"


def _grad(name: str) -> set[str]:
    """Words of a name, with the spellings of gradient made one."""
    parts = set(words(name))
    if parts & {"gradnorm"}:
        parts = parts - {"gradnorm"} | {"grad", "norm"}
    return parts - {"gradient", "grads"} | {"grad"} if parts & {"gradient", "grads"} else parts


def _is_rate(name: str) -> bool:
    parts = set(words(name))
    return parts <= _RATE and ({"learning", "rate"} <= parts or bool(parts & {"lr", "lr0"}))


def _fullest(names: list[str], counts: Mapping[str, int]) -> list[str]:
    return sorted(names, key=lambda name: (-counts[name], len(name)))


def _own_name(name: str, taken: set[str]) -> str:
    parts = set(words(name))
    if parts & {"val", "valid", "validation", "eval", "evaluation", "dev"} and not name.startswith("eval_"):
        own = "eval_" + "_".join(word for word in words(name) if word not in EVAL)
        return name if own in taken or own == "eval_" else own
    return name if name not in taken else f"{name} (2)"
