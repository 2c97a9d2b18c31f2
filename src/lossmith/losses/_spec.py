"""LossSpec: a row of the table LOSSES, which drives tests, documentation and command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from lossmith.total import Total

Loss = Callable[..., Total]
SECTIONS = ("Formula", "Shapes", "Use", "Avoid", "Errors", "Memory", "Source")


@dataclass(frozen=True)
class LossSpec:
    """Say everything that the rest of the house needs to know about one loss.

    name: as users type it. family: the file. fn: what users call, tensors → Total (or the nn.Module that owns tensors).
    reference: the plain formula, same arguments, same Total, in the dtype it is given; None for modules and for what
    combines other losses (they have tests of their own).
    example(generator, dtype): keyword arguments of a small call; a tensor that requires_grad is checked for its
    gradient; "weights", where the loss takes them, are positive and have one entry an item.
    items: the arguments whose first dimension runs over the items (what a split cuts, what weight 0 removes).
    variants: options that change the formula; every law holds for each.
    implementations: name → a function with fn's arguments ("reference" is always one, and not listed).
    additive: False where splitting the batch changes the loss (in-batch negatives).
    picture: over what `lossmith losses NAME` draws it: "probability" of the right answer, "residual" or "similarity".
    curve(x): loss (float64[n], nats) at the points x of that picture.
    """

    name: str
    family: str
    fn: Callable[..., Any]
    reference: Loss | None = None
    example: Callable[[torch.Generator, torch.dtype], dict[str, Any]] | None = None
    items: tuple[str, ...] = ()
    variants: tuple[Mapping[str, Any], ...] = ({},)
    implementations: Mapping[str, Loss] = field(default_factory=dict)
    additive: bool = True
    picture: Literal["probability", "residual", "similarity"] | None = None
    curve: Callable[[torch.Tensor], torch.Tensor] | None = None

    def section(self, title: str) -> str:
        """Return the text under "Title:" in the docstring of the loss; one text serves reader, docs and command line.

        >>> from lossmith.losses import LOSSES
        >>> LOSSES["mse"].section("Formula")
        '``lossᵢ = (inputᵢ − targetᵢ)²``.'
        """
        lines: list[str] = []
        inside = False
        for line in (inspect.getdoc(self.fn) or "").splitlines():
            head, colon, _ = line.partition(":")
            if colon and head in SECTIONS:
                inside = head == title
                line = line[len(head) + 1 :]
            elif not line.strip() or line.startswith(">>>"):
                inside = False
            if inside:
                lines.append(line.strip())
        return " ".join(lines).strip()

    @property
    def summary(self) -> str:
        """Return the first sentence of the docstring."""
        return (inspect.getdoc(self.fn) or "").split("\n\n")[0].replace("\n", " ")

    @property
    def source(self) -> str:
        """Return the paper or page that the loss comes from."""
        return self.section("Source")
