"""Mixtures: several objectives of one architecture, weighted in every step or taking turns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from lossmith.errors import InputError
from lossmith.total import Total

MODES = ("sum", "alternate")


@dataclass(frozen=True)
class MixtureObjective:
    """Train `parts` together on the same examples.

    Formula: mode "sum": ``Σᵢ weightᵢ·Lᵢ`` in every step, each term over its own count. Mode "alternate": in a step only
    one part's loss, drawn with probability weightᵢ/Σ weight from (seed, "step" of the examples); examples without
    "step" (an evaluation, a preview) go through all. Terms keep their names; keys of a batch are "part/key".
    Errors: InputError where two parts have a term of the same name, or a part does not name its terms.
    """

    parts: Mapping[str, Any]
    weights: Mapping[str, float]
    mode: str = "sum"
    seed: int = 0

    def __post_init__(self) -> None:
        check_terms({name: _names(part, name) for name, part in self.parts.items()}, "+".join(self.parts))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all terms."""
        return tuple(term for name, part in self.parts.items() for term in _names(part, name))

    @property
    def coefficients(self) -> dict[str, float]:
        """What the mean of each term is multiplied with where all are there."""
        return self.coefficients_for(self.names)

    def coefficients_for(self, terms: Iterable[str]) -> dict[str, float]:
        """Return what the means of these terms are multiplied with: of parts that take turns, only those there count.

        >>> class Part:
        ...     def __init__(self, *names): self.names = names
        >>> MixtureObjective({"a": Part("a"), "b": Part("b")}, {"a": 3, "b": 1}, "alternate").coefficients_for(["b"])
        {'b': 1.0}
        """
        terms = set(terms)
        there = {name: set(_names(part, name)) & terms for name, part in self.parts.items()}
        whole = 1.0 if self.mode == "sum" else sum(self.weights[name] for name, own in there.items() if own)
        return {
            term: self.weights[name] / whole * getattr(self.parts[name], "coefficients", {}).get(term, 1.0)
            for name, own in there.items()
            for term in own
        }

    @property
    def own(self) -> nn.ModuleDict | None:
        """The tensors of the parts."""
        own = {name: part.own for name, part in self.parts.items() if getattr(part, "own", None) is not None}
        return nn.ModuleDict(own) if own else None

    def adopt(self, model: Any) -> MixtureObjective:
        """Return the mixture with what its parts take from the model."""
        parts = {name: part.adopt(model) if hasattr(part, "adopt") else part for name, part in self.parts.items()}
        return replace(self, parts=parts)

    def check(self, model: Any, name: str) -> None:
        """Let every part check the model."""
        for part in self.parts.values():
            if hasattr(part, "check"):
                part.check(model, name)

    def batch(self, examples: Sequence[dict[str, np.ndarray]], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the batches of the parts whose turn it is, their keys behind the part's name."""
        made = {name: self.parts[name].batch(examples, rng) for name in self._turn(examples[0])}
        return {f"{name}/{key}": value for name, batch in made.items() for key, value in batch.items()}

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return Σ weights of the terms that are in this batch."""
        each = (part.counts(own) for _, part, own in self.split(batch))
        return {term: count for counts in each for term, count in counts.items()}

    def terms(self, model: Any, batch: dict[str, Tensor]) -> dict[str, Total]:
        """Return the totals of the terms that are in this batch, nats."""
        each = (part.terms(model, own) for _, part, own in self.split(batch))
        return {term: total for terms in each for term, total in terms.items()}

    def split(self, batch: dict[str, Tensor]) -> list[tuple[str, Any, dict[str, Tensor]]]:
        """Return name, objective and batch of the parts that are in a batch."""
        there = [name for name in self.parts if any(key.startswith(f"{name}/") for key in batch)]
        return [
            (name, self.parts[name], {k.split("/", 1)[1]: v for k, v in batch.items() if k.startswith(f"{name}/")})
            for name in there
        ]

    def _turn(self, example: Mapping[str, Any]) -> list[str]:
        names = list(self.parts)
        if self.mode == "sum" or "step" not in example:
            return names
        odds = np.array([self.weights[name] for name in names], float)
        drawn = np.random.default_rng((self.seed, int(example["step"]), 1)).random()
        return [names[int(np.searchsorted(np.cumsum(odds / odds.sum())[:-1], drawn, side="right"))]]


def check_terms(terms: Mapping[str, Sequence[str]], given: str) -> None:
    """Raise InputError where two parts, by name, have a term of one name; `given`: what --objective said.

    >>> check_terms({"causal": ["causal"], "distill": ["distill"]}, "causal+distill")
    """
    owner: dict[str, str] = {}
    for name, own in terms.items():
        for term in own:
            if term in owner:
                raise InputError(
                    f"--objective {given}: {owner[term]} and {name} both have the term {term!r}, so that their curves "
                    "could not be told apart: take one of them, or --distill-weight 1 where one is distill"
                )
            owner[term] = name


def parse(text: str) -> dict[str, float]:
    """Read "causal:0.7+prefix:0.3"; without a number a part weighs 1.

    >>> parse("causal:0.7+prefix")
    {'causal': 0.7, 'prefix': 1.0}
    """
    weights: dict[str, float] = {}
    for piece in text.split("+"):
        name, _, number = piece.strip().partition(":")
        try:
            weight = float(number or 1)
        except ValueError:
            weight = -1.0
        if not 0 < weight < float("inf"):
            raise InputError(f"--objective {text}: a weight must be a number above 0 (causal:0.7); got {number!r}")
        if name in weights:
            raise InputError(f"--objective {text} names {name} twice: name each part once")
        weights[name] = weight
    return weights


def _names(part: Any, name: str) -> tuple[str, ...]:
    if not hasattr(part, "names"):
        raise InputError(f"--objective {name} does not tell its terms beforehand: it cannot be mixed")
    return tuple(part.names)
