"""Fill in the middle: documents cut in three and put in another order, so that a causal model learns to infill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lossmith.objectives.causal import CausalObjective, masked_by
from lossmith.objectives.shared import rng_of

Ints = npt.NDArray[np.int64]
ROLES = ("pad", "fim_prefix", "fim_middle", "fim_suffix")
TOKENS_PER_CUT = 128


def cuts_in(block_size: int) -> int:
    """Return how many documents of a block may be cut: one, and one more for every further 128 tokens.

    >>> cuts_in(64), cuts_in(512)
    (1, 4)
    """
    return max(1, block_size // TOKENS_PER_CUT)


def room_for(block_size: int) -> int:
    """Return the tokens that a block keeps free of text: three sentinels for every cut, and one end."""
    return 3 * cuts_in(block_size) + 1


@dataclass(frozen=True)
class FimObjective(CausalObjective):
    """Next-token prediction over windows some of whose documents are cut into prefix, middle and suffix.

    A document (its part in the window, without the mark that begins it) is cut with probability `rate`, at two distinct
    places drawn uniformly between its tokens; with probability `spm_rate` the suffix comes first:
        PSM  ``<|fim_prefix|> prefix <|fim_suffix|> suffix <|fim_middle|> middle``
        SPM  ``<|fim_prefix|> <|fim_suffix|> suffix <|fim_middle|> prefix middle``
    A cut document that ends the window is followed by the end mark (else the next document's mark ends it). At most
    `cuts` documents of a window are cut, for which it keeps 3·cuts + 1 tokens free of text: no token is lost, and what
    stays free at the end is padding that nobody sees. Formula: as causal. Sentinels are given, never asked.
    Examples: as causal; with "index" what is drawn depends on (seed, index) alone.
    Source: https://arxiv.org/abs/2207.14255 (sections 3, 3.1: SPM variant 2; 4.3: context-level).

    >>> fim = FimObjective(sentinels=(7, 8, 9), pad_id=6, end_id=0, rate=1.0, spm_rate=0.0, cuts=1)
    >>> batch = fim.batch([{"tokens": np.array([0, 1, 2, 3, 4])}], np.random.default_rng(4))
    >>> batch["input_ids"].tolist(), batch["labels"].tolist()
    ([[0, 7, 1, 2, 9, 4, 8, 3]], [[-100, 1, 2, -100, 4, -100, 3, 0]])
    """

    sentinels: tuple[int, int, int]
    """Prefix, middle, suffix."""
    pad_id: int
    end_id: int | None
    rate: float
    spm_rate: float
    cuts: int
    seed: int = 0
    term: ClassVar[str] = "fim"

    def batch(self, examples: Sequence[dict[str, np.ndarray]], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return input_ids and labels int64[B, T + 3·cuts + 1] (−100: a sentinel or padding) and the document mask."""
        rows = [self._row(example, rng_of(example, self.seed, rng)) for example in examples]
        tokens, given, documents = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
        labels = tokens[:, 1:].masked_fill(given[:, 1:], -100)
        batch = {"input_ids": tokens[:, :-1], "labels": labels}
        if "documents" in examples[0]:
            batch |= masked_by(documents[:, :-1]) | {"documents": documents[:, :-1]}
        return batch

    def says(self, batch: dict[str, Tensor], row: int) -> str:
        """Say how many documents of a row are cut."""
        cut = int((batch["input_ids"][row] == self.sentinels[1]).sum())
        return f"{cut} of its documents {'is' if cut == 1 else 'are'} cut in three (at most {self.cuts})"

    def infill_prompt(self, tokens: Ints) -> list[int]:
        """Return the beginning and the end of a text, after which the model writes the middle third (PSM)."""
        text = tokens[tokens != self.end_id] if self.end_id is not None else tokens
        a, b = len(text) // 3, 2 * len(text) // 3
        prefix, middle, suffix = self.sentinels
        mark = tokens[: self._mark(tokens)].tolist()
        return [*mark, prefix, *text[:a].tolist(), suffix, *text[b:].tolist(), middle]

    def _row(self, example: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[Ints, np.ndarray, Ints]:
        """Return the tokens of a row, which of them are given (never asked), and their documents."""
        tokens = example["tokens"]
        pieces, documents = self._pieces(example)
        chosen = self._chosen(pieces, rng)
        parts = [self._cut(p, rng) if i in chosen else [(p, False)] for i, p in enumerate(pieces)]
        if len(pieces) - 1 in chosen and self.end_id is not None:
            parts[-1].append((np.array([self.end_id]), False))
        numbers = [np.full(sum(len(x) for x, _ in part), n) for part, n in zip(parts, documents, strict=True)]
        flat = [pair for part in parts for pair in part]
        ids, given = np.concatenate([x for x, _ in flat]), np.concatenate([np.full(len(x), g) for x, g in flat])
        free = len(tokens) + 3 * self.cuts + 1 - len(ids)
        padded = [np.pad(x, (0, free), constant_values=fill) for x, fill in ((ids, self.pad_id), (given, True))]
        return padded[0], padded[1], np.pad(np.concatenate(numbers), (0, free), constant_values=-1)

    def _pieces(self, example: dict[str, np.ndarray]) -> tuple[list[Ints], list[int]]:
        """Cut a window where documents begin: by "documents" where the example has them, else by their marks."""
        tokens = example["tokens"]
        begins = tokens == self.end_id
        if "documents" in example:
            begins = np.append(True, np.diff(example["documents"]) != 0)
        edges = np.flatnonzero(begins[1:]) + 1
        starts = [0, *edges.tolist()]
        numbers = example["documents"][starts].tolist() if "documents" in example else list(range(len(starts)))
        return np.split(tokens, edges), numbers

    def _chosen(self, pieces: list[Ints], rng: np.random.Generator) -> set[int]:
        """Return the pieces that are cut: each with probability `rate`; of too many, some at random."""
        able = [i for i, (piece, u) in enumerate(zip(pieces, rng.random(len(pieces)), strict=True))
                if u < self.rate and len(piece) - self._mark(piece) >= 2]  # fmt: skip
        return set(rng.permutation(able)[: self.cuts].tolist())

    def _mark(self, piece: Ints) -> int:
        return int(bool(len(piece)) and piece[0] == self.end_id)

    def _cut(self, piece: Ints, rng: np.random.Generator) -> list[tuple[Ints, bool]]:
        """Return the parts of a piece in their new order, and of each whether it is given."""
        mark = self._mark(piece)
        text = piece[mark:]
        a, b = sorted(rng.choice(len(text) + 1, 2, replace=False).tolist())
        prefix, middle, suffix = ((np.array([number]), True) for number in self.sentinels)
        before, between, after = ((part, False) for part in (text[:a], text[a:b], text[b:]))
        start = [(piece[:mark], False), prefix]
        if rng.random() < self.spm_rate:
            return [*start, suffix, after, middle, before, between]
        return [*start, before, suffix, after, middle, between]
