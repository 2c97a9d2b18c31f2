"""Remake the curves of runs that were really trained badly: python tests/runs/make_pathological.py [NAME…].

Each function below trains one run (under a minute on one core) and says what was done. What is to be seen in each
curve was judged by looking at it: labels.tsv.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pathological_tasks import Log, Plan, Task, characters, classifier, language_model, plays, train

HERE = Path(__file__).parent / "pathological"
GOOD = Plan()
EPOCHS = Plan(steps=1550, lr=2e-3, logging_steps=5, eval_steps=31)  # 50 epochs of 1,000 passages at 32 a batch
CLASSES = Plan(steps=548, lr=2e-3, logging_steps=4, eval_steps=30)  # 4 epochs of 4,400 passages
RUNS: dict[str, Callable[[], Log]] = {}


def run(function: Callable[[], Log]) -> Callable[[], Log]:
    """Register a run under the function's name."""
    RUNS[function.__name__] = function
    return function


def _good(schedule: str, seed: int) -> Log:
    return train(language_model(seed), GOOD.but(schedule=schedule))


for kind, number in itertools.product(("cosine", "wsd", "constant"), range(3)):
    RUNS[f"good_{kind}_{number}"] = lambda kind=kind, number=number: _good(kind, number)  # type: ignore[misc]


@run
def good_classifier() -> Log:
    """Four epochs over 4,400 passages, as it should be."""
    return train(classifier(0, dropout=0.3), CLASSES)


@run
def lr_x100() -> Log:
    """AdamW at 0.3 instead of 0.003."""
    return train(language_model(0), GOOD.but(lr=0.3))


@run
def lr_x100_unclipped_constant() -> Log:
    """AdamW at 0.3, constant, without warm-up, without clipping."""
    return train(language_model(1), GOOD.but(lr=0.3, schedule="constant", warmup=0, clip=0.0))


@run
def lr_x100_classifier() -> Log:
    """AdamW at 0.2 instead of 0.002, constant, no warm-up, on the classifier."""
    return train(classifier(0), CLASSES.but(lr=0.2, schedule="constant", warmup=0, clip=0.0))


@run
def sgd_lr_x1000() -> Log:
    """SGD at 200 without clipping: the weights overflow."""
    return train(language_model(2), GOOD.but(sgd=True, lr=200.0, schedule="constant", warmup=0, clip=0.0, steps=400))


@run
def lr_x0001() -> Log:
    """AdamW at 3e-6 instead of 3e-3."""
    return train(language_model(0), GOOD.but(lr=3e-6))


@run
def lr_x0001_classifier() -> Log:
    """AdamW at 2e-6 on the classifier."""
    return train(classifier(0), CLASSES.but(lr=2e-6))


@run
def not_shuffled_lm() -> Log:
    """Plays read from first to last, in order."""
    return train(language_model(0, shuffle=False), GOOD)


@run
def not_shuffled_classes() -> Log:
    """Passages sorted by the play they are from, four epochs of 137 steps."""
    return train(classifier(0, by_label=True), CLASSES.but(schedule="constant"))


@run
def labels_shuffled_one_pass() -> Log:
    """Labels dealt out at random, one epoch over 4,400 passages."""
    return train(classifier(0, labels="shuffled"), CLASSES.but(steps=137, lr=1e-3, logging_steps=1, eval_steps=13))


@run
def labels_shuffled_50_epochs() -> Log:
    """Labels dealt out at random, 50 epochs over 1,000 passages: nothing but memorising is left."""
    return train(classifier(0, passages=1000, labels="shuffled"), EPOCHS)


@run
def labels_leaked() -> Log:
    """The number of the play stands at the end of each passage."""
    return train(classifier(0, leak=1), CLASSES)


@run
def labels_leaked_ten_times() -> Log:
    """The number of the play stands ten times at the end of each passage."""
    return train(classifier(0, leak=10), CLASSES.but(lr=4e-3))


@run
def epochs_50_classifier() -> Log:
    """50 epochs over 1,000 passages, true labels."""
    return train(classifier(0, passages=1000), EPOCHS)


@run
def epochs_50_lm() -> Log:
    """50 epochs over 1,000 lines of text, blocks drawn without replacement."""
    text = "\n".join(plays()[0].splitlines()[:1000])
    return train(language_model(0, text=text, width=96), GOOD.but(steps=1500, lr=3e-3, eval_steps=30))


@run
def epochs_6_memorised() -> Log:
    """Six epochs over 3,000 passages with random labels, a wide table and a high rate: each is known once seen."""
    task = classifier(0, passages=3000, labels="shuffled", width=512)
    return train(task, GOOD.but(steps=558, lr=1e-2, schedule="constant", warmup=0, logging_steps=3, eval_steps=31))


@run
def accumulation_not_normalised() -> Log:
    """Four micro-batches summed, not averaged, in the loss that is logged and trained on."""
    return train(language_model(0), GOOD.but(steps=700, accumulation=4, normalised=False, eval_steps=35))


@run
def resume_from_the_start() -> Log:
    """A small text, killed after 0.9, 1.5 and 2.4 epochs' worth of steps; each resume reads from the first block."""
    log, rows = Log(), 3939 // 16
    model = None
    for start, stop in itertools.pairwise((0, int(0.9 * rows), int(1.5 * rows), int(2.4 * rows), 3 * rows)):
        task = language_model(0, text=plays()[1][:130_000], width=128, shuffle=False)
        model = task.model = model or task.model
        plan = GOOD.but(steps=stop, first_step=start, schedule="constant", warmup=0, logging_steps=2, eval_steps=40)
        train(task, plan, log)
    return log


@run
def resume_with_a_layer_lost() -> Log:
    """Killed at step 800 and resumed from a checkpoint without the decoder layer, which starts anew."""
    task, log = language_model(0), Log()
    train(task, GOOD.but(steps=800, schedule="constant"), log)
    task.model.layer = language_model(1).model.layer
    return train(task, GOOD.but(first_step=800, schedule="constant", warmup=0), log)


@run
def fp16_overflow() -> Log:
    """Weights and Adam in float16: its epsilon of 1e-8 is 0 there, so 0/0 comes out."""
    task = language_model(0)
    task.model.half()
    return train(task, GOOD.but(steps=300, lr=1e-3))


def _rescaled(factor: float, steps: int) -> Log:
    """Multiply the head by `factor` at step 700, through float16."""
    task = language_model(0)

    def rescale(step: int) -> None:
        if step == 700:
            weight = task.model.head.weight.data
            weight.copy_((weight * factor).half().float())

    return train(task, GOOD.but(steps=steps), before=rescale)


@run
def fp16_overflow_late() -> Log:
    """float32 for 700 steps, then the head scaled past what float16 holds, cast and cast back."""
    return _rescaled(1e8, 800)


@run
def head_x65504_at_700() -> Log:
    """The head multiplied by 65,504 at step 700 (a loss scale that was not taken off)."""
    return _rescaled(65504, 1000)


@run
def bf16_weights() -> Log:
    """Weights and Adam in bfloat16 at a tenth of the rate: updates smaller than half a rounding step are lost."""
    task = language_model(0)
    task.model.bfloat16()
    return train(task, GOOD.but(lr=3e-4))


def _noise(task: Task, at: int, count: int) -> None:
    """Put batches of random characters into the stream."""
    import torch

    random = (torch.randint(128, (16, 33)) for _ in range(count))
    clean = task.batches
    task.batches = itertools.chain(itertools.islice(clean, at), random, clean)


@run
def bad_batches_recovered() -> Log:
    """Twelve batches of random characters from step 900 on, at a constant rate."""
    task = language_model(0)
    _noise(task, 900, 12)
    return train(task, GOOD.but(schedule="constant"))


@run
def bad_batches_with_large_steps() -> Log:
    """Forty batches of random characters from step 700 on, no clipping, at three times the rate."""
    task = language_model(1)
    _noise(task, 700, 40)
    return train(task, GOOD.but(schedule="constant", lr=1e-2, clip=0.0))


@run
def lr_burst_not_recovered() -> Log:
    """The rate jumps to 1.0 for 30 steps at step 700, with no clipping."""
    task, log = language_model(2), Log()
    plan = GOOD.but(schedule="constant", clip=0.0)
    train(task, plan.but(steps=700), log)
    train(task, plan.but(steps=730, first_step=700, lr=1.0, warmup=0), log)
    return train(task, plan.but(first_step=730, warmup=0), log)


@run
def too_short() -> Log:
    """25 steps."""
    return train(language_model(0), GOOD.but(steps=25, warmup=3, logging_steps=1, eval_steps=5))


@run
def batch_of_one() -> Log:
    """One block of 32 characters a step."""
    return train(language_model(0, batch=1), GOOD.but(lr=1e-3, steps=3000, eval_steps=150))


@run
def step_schedule() -> Log:
    """The rate falls to a tenth at 60 % of the run."""
    return train(language_model(0, batch=4), GOOD.but(schedule="step", lr=6e-3))


@run
def head_x30() -> Log:
    """The output layer starts 30 times too large."""
    task = language_model(0)
    task.model.head.weight.data *= 30 * 5
    return train(task, GOOD)


@run
def sgd_tiny_initial_weights() -> Log:
    """SGD from embeddings and a head a hundred times too small: a saddle to leave first."""
    task = language_model(0)
    for weight in (task.model.token.weight, task.model.place.weight, task.model.head.weight, task.model.norm.weight):
        weight.data *= 0.01
    return train(task, GOOD.but(sgd=True, lr=0.1, steps=2500, schedule="constant", eval_steps=125))


@run
def eval_on_other_text() -> Log:
    """Trained on Shakespeare, evaluated on the documentation of Python."""
    from lossmith.data import CORPORA

    held = "\n".join(itertools.islice(CORPORA["python-docs"].documents(), 40))
    return train(language_model(0, held=held), GOOD)


@run
def high_dropout() -> Log:
    """Dropout of 0.5 while training: the loss there is above the loss on held-out text."""
    return train(language_model(0, dropout=0.5), GOOD)


@run
def weight_decay_x300() -> Log:
    """Weight decay of 30 instead of 0.1: what is learned is taken back."""
    return train(language_model(0), GOOD.but(weight_decay=30.0))


@run
def padding_counted() -> Log:
    """Each line is padded with blanks to 330 characters, and the blanks count as characters."""
    text = "".join(line.ljust(330) for line in plays()[2].splitlines())
    held = "".join(line.ljust(330) for line in plays()[3].splitlines()[:200])
    return train(language_model(0, text=text, held=held), GOOD)


def save(name: str, log: Log) -> None:
    """Write the curve JSON, five digits a number."""
    kind, seed = name.split("_")[-2:]
    made = (RUNS[name].__doc__ or f"good practice, schedule {kind}, seed {seed}").strip().splitlines()[0]
    out: dict[str, Any] = {"source": {"path": f"{name}.json", "tool": "torch", "made": made}}
    for key in ("train", "eval", "lr", "grad_norm"):
        out[key] = [[step, _short(value)] for step, value in getattr(log, key)]
    HERE.mkdir(exist_ok=True)
    (HERE / f"{name}.json").write_text(json.dumps(out, separators=(",", ":")) + "\n", encoding="utf-8")


def _short(value: float) -> float | str:
    return float(f"{value:.5g}") if math.isfinite(value) else str(value)


def main() -> None:
    """Make the runs that the command line names, or all."""
    import torch

    torch.set_num_threads(1)
    unknown = set(sys.argv[1:]) - set(RUNS)
    if unknown:
        sys.exit(f"unknown runs {sorted(unknown)}; there are {', '.join(RUNS)}")
    characters("")  # fail here when torch is missing
    for name in sys.argv[1:] or RUNS:
        save(name, RUNS[name]())
        print(name, flush=True)


if __name__ == "__main__":
    main()
