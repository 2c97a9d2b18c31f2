"""Why not MSE? Squared error against cross-entropy for classification and for next-token prediction.

    python benchmarks/demo_mse.py [--steps 200] [--seeds 3] [--parts digits recovery …]       (needs scikit-learn)

Three losses on the same logits z [B, C] with softmax p and one-hot y: cross-entropy −ln p_y; Brier Σ(p − y)²; squared
error of the logits Σ(z − y)². Each gets the best of several learning rates (chosen on the first seed by held-out
accuracy), the same model, batches and steps. Rows: "gradient" (of one item, by how wrong the model is), "digits" (1,797
images of ten digits, an MLP, SGD and AdamW), "recovery" (the same, begun from an MLP trained on wrong labels),
"recovery_sure" (and from one whose logits are four times as large), "next_token" (bytes of Shakespeare's plays, a Llama
of two layers). The picture is docs/why-not-mse.png.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import keep
from torch import Tensor, nn

from lossmith.data import Blocks, DataConfig, open_store
from lossmith.losses import cross_entropy, mse

CONTEXT, BATCH = 64, 8
PARTS = ("gradient", "digits", "recovery", "recovery_sure", "next_token")
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "why-not-mse.png"
LOSSES = ("cross_entropy", "brier", "mse_logits")
SHOWN = {"cross_entropy": "cross-entropy", "brier": "MSE of probabilities (Brier)", "mse_logits": "MSE of logits"}


def loss_of(name: str, z: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over items [N] of a loss of logits [N, C]; squares are summed over the classes, not averaged."""
    if name == "cross_entropy":
        return cross_entropy(z, labels).mean()
    target = nn.functional.one_hot(labels, z.shape[-1]).to(z.dtype)
    return mse(z.softmax(-1) if name == "brier" else z, target).mean() * z.shape[-1]


def gradient_norm(name: str, z: Tensor, label: int) -> tuple[float, float]:
    """Return the loss of one item and the L2 norm of its gradient in the logits."""
    z = z.double()[None].requires_grad_()
    loss = loss_of(name, z, torch.tensor([label]))
    loss.backward()
    assert z.grad is not None
    return float(loss.detach()), float(z.grad.norm())


def wrong_by(margin: float, classes: int) -> Tensor:
    """Return logits that favour class 1 by `margin` over all others, where class 0 is right."""
    return torch.nn.functional.one_hot(torch.tensor(1), classes) * margin


def gradients(classes: int) -> Iterator[dict[str, Any]]:
    """Yield the loss and the gradient of an undecided item and of ever more confidently wrong ones."""
    for margin in (0, 2, 5, 10, 20):
        z = wrong_by(float(margin), classes)
        for name in LOSSES:
            loss, norm = gradient_norm(name, z, 0)
            yield {"part": "gradient", "classes": classes, "loss_function": name, "margin": margin,
                   "p_correct": float(z.double().softmax(-1)[0]), "loss": loss, "gradient_norm": norm}  # fmt: skip


@dataclass
class Problem:
    """What is trained: a model by seed, batches by (seed, step), and held-out inputs with labels."""

    make: Callable[[int], nn.Module]
    batch: Callable[[int, int], tuple[Tensor, Tensor]]
    held_out: tuple[Tensor, Tensor]
    steps: int
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def train(self, name: str, optimizer: str, rate: float, seed: int, steps: int) -> dict[str, Any]:
        """Train one model and return its held-out figures, the gradient of its first step and its curve."""
        torch.manual_seed(seed)
        model = self.make(seed)
        kind: Any = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
        updates = kind(model.parameters(), lr=rate)
        curve, first = [(0, self.accuracy(model))], math.nan
        for step in range(1, steps + 1):
            x, y = self.batch(seed, step)
            loss = loss_of(name, model(x), y)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
            first = float(norm) if step == 1 else first
            if not torch.isfinite(norm):
                return {"accuracy": 0.0, "nats": math.inf, "tempered": math.inf, "first": first, "curve": curve}
            updates.step()
            updates.zero_grad()
            if step % max(1, steps // 20) == 0 or step == 10:
                curve.append((step, self.accuracy(model)))
        return self.judge(model) | {"first": first, "curve": curve}

    @torch.no_grad()
    def accuracy(self, model: nn.Module) -> float:
        """Return the part of held-out items whose likeliest class is right."""
        x, y = self.held_out
        return float((model(x).argmax(-1) == y).float().mean())

    @torch.no_grad()
    def judge(self, model: nn.Module) -> dict[str, Any]:
        """Return accuracy, nats a prediction, and nats with the temperature that suits the held-out items best."""
        x, y = self.held_out
        z = model(x)
        scales = [2.0**k for k in range(-4, 8)]
        nats = [float(nn.functional.cross_entropy(z * scale, y)) for scale in scales]
        return {"accuracy": float((z.argmax(-1) == y).float().mean()), "nats": nats[4], "tempered": min(nats)}


def compare(
    problem: Problem, part: str, optimizer: str, rates: tuple[float, ...], seeds: int, tries: int
) -> Iterator[dict[str, Any]]:
    """Yield a row for each loss: the best rate by the first seed after `tries` steps, then all seeds to the end."""
    for name in LOSSES:
        tried = {rate: problem.train(name, optimizer, rate, 0, tries)["accuracy"] for rate in rates}
        rate = max(tried, key=lambda each: tried[each])
        runs = [problem.train(name, optimizer, rate, seed, problem.steps) for seed in range(seeds)]
        problem.curves[name] = runs[0]["curve"]
        row: dict[str, Any] = {"part": part, "optimizer": optimizer, "loss_function": name, "steps": problem.steps,
                               "learning_rate": rate, "rates_tried": list(rates), "seeds": seeds}  # fmt: skip
        for key, told in (("accuracy", "accuracy"), ("nats", "nats"), ("tempered", "nats_best_temperature"),
                          ("first", "first_gradient_norm")):  # fmt: skip
            values = [run[key] for run in runs]
            row |= {told: round(statistics.fmean(values), 4), f"{told}_range": [round(v, 4) for v in
                    (min(values), max(values))]}  # fmt: skip
        yield row


def mlp(seed: int) -> nn.Module:
    """Return 64 → 64 → 10, by seed."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def digits(steps: int, *, wrong: float = 0.0) -> Problem:
    """Return the digits of scikit-learn, 500 held out; `wrong`: begun from what learnt label + 1, logits times that."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x, y = torch.tensor(data.data[order] / 16, dtype=torch.float32), torch.tensor(data.target[order])

    def batch(seed: int, step: int) -> tuple[Tensor, Tensor]:
        chosen = np.random.default_rng((seed, step)).integers(500, len(y), 64)
        return x[chosen], y[chosen]

    def misled(seed: int) -> nn.Module:
        model = mlp(seed)
        updates = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for step in range(300):
            images, labels = batch(seed + 1000, step)
            cross_entropy(model(images), (labels + 1) % 10).mean().backward()
            updates.step()
            updates.zero_grad()
        with torch.no_grad():
            for p in list(model.children())[-1].parameters():
                p.mul_(wrong)
        return model

    return Problem(misled if wrong else mlp, batch, (x[:500], y[:500]), steps)


class NextByte(nn.Module):
    """A Llama of two layers whose logits come as rows [B·T, V]."""

    def __init__(self, seed: int) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        super().__init__()
        torch.manual_seed(seed)
        shape = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 192}
        config = LlamaConfig(vocab_size=257, max_position_embeddings=CONTEXT, **shape)
        self.model = LlamaForCausalLM._from_config(config, attn_implementation="eager")

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits of the byte after each."""
        logits: Tensor = self.model(input_ids=ids, use_cache=False).logits.flatten(0, 1)
        return logits


def next_bytes(steps: int) -> Problem:
    """Return the bytes of Shakespeare's plays in blocks."""
    store = open_store(DataConfig(inputs=("shakespeare",), tokenizer="byte"))

    def batch(seed: int, step: int) -> tuple[Tensor, Tensor]:
        blocks = Blocks(store.train, CONTEXT, seed=seed)
        rows = torch.from_numpy(np.stack([blocks.example(step * BATCH + i)["tokens"] for i in range(BATCH)]))
        return rows[:, :-1], rows[:, 1:].flatten()

    text = torch.from_numpy(np.asarray(store.validation.tokens[: 48 * CONTEXT + 1]).astype(np.int64))
    return Problem(NextByte, batch, (text[:-1].view(48, CONTEXT), text[1:]), steps)


def draw(recovery: Problem, text: Problem) -> None:
    """Write the picture: gradient by how wrong, recovery from a wrong model, next-token accuracy."""
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    margins = np.linspace(-8, 16, 97)
    for name, colour in zip(LOSSES, ("#1d4ed8", "#b45309", "#6b7280"), strict=True):
        norms = [gradient_norm(name, wrong_by(float(margin), 10), 0)[1] for margin in margins]
        left.plot(margins, norms, color=colour, label=SHOWN[name])
        for axes, problem in ((middle, recovery), (right, text)):
            axes.plot(*zip(*problem.curves[name], strict=True), color=colour, label=SHOWN[name])
    left.set(title="gradient of one item (10 classes)", xlabel="logit of a wrong class above the others",
             ylabel="L2 norm in the logits", yscale="log", ylim=(1e-6, 100))  # fmt: skip
    middle.set(title="digits, begun from a wrong model (SGD)", xlabel="step", ylabel="held-out accuracy", ylim=(0, 1))
    right.set(title="next byte of Shakespeare (AdamW)", xlabel="step", ylabel="held-out accuracy", ylim=(0, None))
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=8)
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    """Measure, keep the rows, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    options = parser.parse_args()
    for row in gradients(10) if "gradient" in options.parts else ():
        keep("demo_mse", row)
    sgd, adamw = (1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0), (1e-3, 3e-3, 1e-2, 3e-2)
    recovery, text = digits(200, wrong=1.0), next_bytes(options.steps)
    for problem, part, optimizer, rates, tries in (
        (digits(200), "digits", "sgd", sgd, 200), (digits(200), "digits", "adamw", adamw, 200),
        (recovery, "recovery", "sgd", sgd, 200), (digits(200, wrong=4.0), "recovery_sure", "sgd", sgd, 200),
        (text, "next_token", "adamw", adamw, options.steps // 4),
    ):  # fmt: skip
        if part in options.parts:
            for row in compare(problem, part, optimizer, rates, options.seeds, tries):
                keep("demo_mse", row)
    if recovery.curves and text.curves:
        draw(recovery, text)


if __name__ == "__main__":
    main()
