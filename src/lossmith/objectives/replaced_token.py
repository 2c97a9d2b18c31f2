"""Replaced token detection (ELECTRA): a small generator fills in what is hidden, the model finds what it got wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.losses import binary_cross_entropy
from lossmith.models.generator import build_generator
from lossmith.models.head import additive_mask
from lossmith.models.rows import RowsOut, head_on_rows
from lossmith.objectives.masked import MaskedObjective, masked_term
from lossmith.objectives.preview import Decoder, describe, marked
from lossmith.objectives.shared import inputs_of, rng_of
from lossmith.total import Total

ROWS_AT_ONCE = 4096  # whose logits are stored while sampling


@dataclass(frozen=True)
class ReplacedTokenObjective:
    """Train a generator to guess hidden tokens, and the model to tell its wrong guesses from the original tokens.

    Formula: ``Σ_{t hidden} −ln p_G(x_t | what is seen)`` (generator), and with ``x̂_t ~ p_G`` at hidden places and
    ``x̂_t = x_t`` elsewhere ``Σ_t −ln p_D([x̂_t ≠ x_t] | x̂)`` over all tokens that are text (discriminator), in nats; the
    loss is ``generator/N_G + weight·discriminator/N_D``. A guess that is right is original. No gradient passes through
    the sampling; special tokens are never sampled. 85 % of the hidden are seen as [MASK], 15 % as they are.
    Examples: those of MaskedObjective. The noise of the sampling is drawn in `batch`, one number a place, by (seed,
    index): the same for any number of ranks and micro-batches.
    `adopt(model)` makes the generator; the model gives one logit a token: ElectraForPreTraining, or another encoder's
    token classifier with one label.
    Source: https://arxiv.org/abs/2003.10555; 85 %: https://github.com/google-research/electra (pretrain_helpers.py).
    """

    masked: MaskedObjective
    generator_size: float = 0.25
    weight: float = 50.0
    own: Any = None
    """The generator, a masked language model; None before `adopt`."""

    measures = ("accuracy", "original_share", "replaced_recall", "replaced_precision", "generator_accuracy")
    """What `scored` counts beside the terms."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the terms."""
        return ("generator", "discriminator")

    @property
    def coefficients(self) -> dict[str, float]:
        """What the discriminator's mean is multiplied with."""
        return {"discriminator": self.weight}

    @property
    def announces(self) -> str:
        """A sentence about the generator, for whoever starts a training."""
        config, own = self._generator.config, {id(p): p.numel() for p in self._generator.parameters()}
        tied = sum(module.weight.numel() for module in self._generator.modules() if hasattr(module, "num_embeddings"))
        return (
            f"generator: {config.num_hidden_layers} layers of width {config.hidden_size}, made anew, with "
            f"{(sum(own.values()) - tied) / 1e6:.2f}M parameters beside the embeddings that it shares; it is kept in "
            "checkpoints, and model/ holds the discriminator"
        )

    def adopt(self, model: Any) -> ReplacedTokenObjective:
        """Return the objective with a new generator that shares the model's embedding tables."""
        return replace(self, own=build_generator(model, self.generator_size, self.masked.seed))

    def batch(self, examples: Sequence[dict[str, np.ndarray]], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return what MaskedObjective returns, `real` bool[B, T] (text) and `uniform` float64[B, T] in [0, 1)."""
        batch = self.masked.batch(examples, rng)
        shape = batch["input_ids"].shape
        noise = [self._noise(example, rng, shape[1]) for example in examples]
        real = torch.from_numpy(self.masked.masking.may)[_original(batch)]
        return batch | {"real": real, "uniform": torch.from_numpy(np.stack(noise))}

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the number of hidden tokens, and of tokens that are text."""
        hidden = torch.tensor(float(len(batch["rows"])), device=batch["rows"].device)
        return {"generator": hidden, "discriminator": batch["real"].sum().to(torch.float32)}

    def terms(self, model: Any, batch: dict[str, Tensor]) -> dict[str, Total]:
        """Return {"generator": Total over the hidden tokens, "discriminator": Total over the text} in nats."""
        out, guess = self._guess(model, batch)
        logits, targets = self._judge(model, batch, guess)
        return {"generator": masked_term(out, batch), "discriminator": binary_cross_entropy(logits, targets)}

    def scored(self, model: Any, batch: dict[str, Tensor]) -> tuple[dict[str, Total], dict[str, Total]]:
        """Return the terms, and as Totals (Σ, count) what a person asks of a discriminator (logit > 0: "replaced").

        accuracy: of all text tokens those judged rightly; original_share: of all text tokens the original ones, which
        is the accuracy of saying "original" always; replaced_recall: of the replaced those that were found;
        replaced_precision: of those it suspects the replaced; generator_accuracy: of the hidden those sampled rightly.
        """
        out, guess = self._guess(model, batch)
        logits, targets = self._judge(model, batch, guess)
        terms = {"generator": masked_term(out, batch), "discriminator": binary_cross_entropy(logits, targets)}
        real, suspected, replaced = targets != -100, logits > 0, targets == 1
        found = (suspected & replaced).sum()
        right = (guess == batch["labels"].flatten()[batch["rows"]]).sum()
        pairs = {
            "accuracy": ((suspected == replaced)[real].sum(), real.sum()),
            "original_share": ((targets == 0).sum(), real.sum()),
            "replaced_recall": (found, replaced.sum()),
            "replaced_precision": (found, (suspected & real).sum()),
            "generator_accuracy": (right, torch.tensor(len(batch["rows"]), device=right.device)),
        }
        return terms, {name: Total(hits.float(), count.float()) for name, (hits, count) in pairs.items()}

    def shown(self, model: Any, batch: dict[str, Tensor], tokenizer: Decoder, length: int) -> tuple[str, str]:
        """Return the first row after sampling, with «» around what was replaced, and around what the model suspects."""
        _, guess = self._guess(model, batch)
        logits, targets = self._judge(model, batch, guess)
        ids = _corrupted(batch, guess)[0, :length].tolist()
        truth, suspected = ((targets[0] == 1).tolist(), ((logits > 0) & (targets != -100))[0].tolist())
        return marked(ids, truth[:length], tokenizer), marked(ids, suspected[:length], tokenizer)

    def described(self, batch: dict[str, Tensor], tokenizer: Decoder) -> list[dict[str, Any]]:
        """Return each row as lossmith preview shows it: as the generator sees it, then as the discriminator does.

        A preview has no generator that has learnt anything: in its place tokens are drawn by their frequency.
        """
        seen, original = _corrupted(batch, _by_frequency(batch)), _original(batch)
        rows = zip(seen.tolist(), (seen != original).tolist(), batch["real"].tolist(), strict=True)
        return [
            *({"part": "generator"} | row for row in describe(batch, tokenizer, self.masked)),
            *({"part": "discriminator"} | _judgement(*row, tokenizer) for row in rows),
        ]

    @property
    def _generator(self) -> Any:
        if self.own is None:
            raise InputError("replaced_token needs its generator: take objective.adopt(model), and train its `own` too")
        return self.own

    def _noise(self, example: dict[str, np.ndarray], rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
        # a stream of its own: what is sampled says nothing about what is hidden
        return rng_of(example, self.masked.seed, rng, 1).random(n)

    def _guess(self, model: Any, batch: dict[str, Tensor]) -> tuple[RowsOut, Tensor]:
        """Return the generator's output at the hidden places, and the tokens int64[M] that it puts there."""
        generator = self._generator
        if generator.training != model.training:
            generator.train(model.training)
        out = head_on_rows(generator, inputs_of(batch), batch["rows"])
        uniform = batch["uniform"].flatten()[batch["rows"]]
        return out, sampled(out, uniform, torch.from_numpy(self.masked.masking.may).to(uniform.device))

    def _judge(self, model: Any, batch: dict[str, Tensor], guess: Tensor) -> tuple[Tensor, Tensor]:
        """Return the discriminator's logits [B, T] and targets int64[B, T]: 1 replaced, 0 original, −100 no text."""
        seen = _corrupted(batch, guess)
        logits = model(**additive_mask(model, inputs_of(batch) | {"input_ids": seen})).logits.reshape(seen.shape)
        return logits, (seen != _original(batch)).long().masked_fill(~batch["real"], -100)


@torch.no_grad()
def sampled(out: RowsOut, uniform: Tensor, may: Tensor) -> Tensor:
    """Return a token int64[M] for each row: the first whose cumulated probability exceeds the row's uniform number.

    That is one draw from softmax(logits), as the Gumbel trick's, from one number instead of V. Tokens that `may` (bool,
    at most V) does not name are left out; a part of the rows at a time.

    >>> rows = RowsOut(torch.tensor([[0.0, 0.0, 9.0], [0.0, 0.0, 9.0]]), None, None, torch.zeros(2, 3))
    >>> sampled(rows, torch.tensor([0.25, 0.75]), torch.tensor([True, True, False]))
    tensor([0, 1])
    """
    parts = zip(out.states.split(ROWS_AT_ONCE), uniform.split(ROWS_AT_ONCE), strict=True)
    drawn = [_draw(states if out.head is None else out.head(states), u, may) for states, u in parts]
    return torch.cat(drawn) if drawn else uniform.long()


def _draw(logits: Tensor, uniform: Tensor, may: Tensor) -> Tensor:
    allowed = torch.nn.functional.pad(may, (0, logits.shape[-1] - len(may)))
    sums = logits.float().masked_fill(~allowed, -torch.inf).softmax(-1).cumsum(-1, dtype=torch.float64)
    below = (uniform * sums[:, -1])[:, None]
    return torch.searchsorted(sums, below, right=True)[:, 0].clamp(max=int(may.nonzero()[-1]))


def _original(batch: dict[str, Tensor]) -> Tensor:
    """Return the text before anything was hidden."""
    return torch.where(batch["labels"] != -100, batch["labels"], batch["input_ids"])


def _corrupted(batch: dict[str, Tensor], guess: Tensor) -> Tensor:
    """Return the input with the generator's tokens at the hidden places."""
    return batch["input_ids"].flatten().scatter(0, batch["rows"], guess).view_as(batch["input_ids"])


def _by_frequency(batch: dict[str, Tensor]) -> Tensor:
    """Return a token int64[M] for each hidden place, drawn from the text of the batch as often as it stands there."""
    text = _original(batch)[batch["real"]]
    return text[(batch["uniform"].flatten()[batch["rows"]] * len(text)).long()]


def _judgement(ids: list[int], replaced: list[bool], real: list[bool], tokenizer: Decoder) -> dict[str, Any]:
    """Return what a discriminator sees of a row, and what it must say of each token that is text."""
    guesses = [
        {"place": place, "sees": tokenizer.token_text(ids[place]), "answer": "replaced" if new else "original"}
        for place, (new, text) in enumerate(zip(replaced, real, strict=True))
        if text
    ]
    says = (
        f"must say which {sum(replaced)} of {sum(real)} tokens of text were replaced, here between «» and drawn by "
        "their frequency in these examples (in training by the generator, as it learns): "
        f"{marked(ids, replaced, tokenizer)}"
    )
    return {"sees": tokenizer.decode(ids, special=True), "tokens": len(ids), "guesses": guesses, "says": says}
