"""Span corruption: an encoder–decoder writes what was taken out of a text (T5), or UL2's mixture of such tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossmith.models.seq2seq import encode_decode
from lossmith.objectives.shared import number_of, padded, rng_of, text_inputs, token_loss
from lossmith.objectives.spans import Denoiser, Ints, corrupt, restore
from lossmith.total import Total


@dataclass(frozen=True)
class SpanObjective:
    """Write the spans that a `Denoiser` takes out of a window; each stands behind the sentinel that replaces it.

    The encoder sees ``[mode] text <extra_id_0> text <extra_id_1> … end``, the decoder must write ``<extra_id_0> tokens
    <extra_id_1> tokens … end``. Of several denoisers one is drawn for each example, each as likely.
    Formula: ``Σ_u −ln p(y_u | y_<u, encoder input)`` in nats over all target tokens, sentinels and end included.
    Examples: {"tokens": int64[L]}; with "index" what is drawn depends on (seed, index) alone, as in MaskedObjective.
    Source: https://arxiv.org/abs/1910.10683 (T5, 3.1.4), https://arxiv.org/abs/2205.05131 (UL2, 3.1).

    >>> objective = SpanObjective((Denoiser(0.4, 2.0),), sentinels=np.array([90, 91]), end_id=1, pad_id=0)
    >>> batch = objective.batch([{"tokens": np.array([5, 6, 7, 8, 9])}], np.random.default_rng(0))
    >>> batch["input_ids"], batch["labels"]
    (tensor([[ 5,  6,  7, 90,  1]]), tensor([[90,  8,  9,  1]]))
    """

    denoisers: tuple[Denoiser, ...]
    sentinels: Ints
    end_id: int
    pad_id: int
    modes: Mapping[str, int] = field(default_factory=dict)
    """The token of each denoiser's mode, by its role."""
    seed: int = 0

    def batch(self, examples: Sequence[dict[str, np.ndarray]], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return input_ids int64[B, T], labels int64[B, U] (−100 behind their end), attention_mask where rows differ.

        T and U are the lengths of the longest rows.
        """
        seen, asked = zip(*(self._divided(example, rng) for example in examples), strict=True)
        inputs = text_inputs(seen, self.pad_id)
        if bool(inputs["attention_mask"].all()):
            del inputs["attention_mask"]
        return inputs | {"labels": padded(asked, -100)}

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the number of target tokens."""
        return {"span": number_of(batch["labels"])}

    def terms(self, model: Any, batch: dict[str, Tensor]) -> dict[str, Total]:
        """Return {"span": Total} in nats over the target tokens."""
        out = encode_decode(model, batch, batch["labels"])
        return {"span": token_loss(out.decoder, out.head, batch["labels"])}

    def text_share(self, length: int) -> float:
        """Return which part of the target tokens is text (the rest are sentinels and the end), over the denoisers."""
        noise = sum(denoiser.sizes(length)[0] for denoiser in self.denoisers)
        return noise / sum(denoiser.lengths(length)[1] for denoiser in self.denoisers)

    def described(self, batch: dict[str, Tensor], tokenizer: Any) -> list[dict[str, Any]]:
        """Return each row as lossmith preview shows it: what the encoder sees, what must be written, each span."""
        rows = []
        for seen, asked in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
            seen, asked = self._unpadded(seen), [token for token in asked if token != -100]
            target = tokenizer.decode(asked, special=True)
            row = {"sees": tokenizer.decode(seen, special=True), "tokens": len(seen), "target": target}
            row |= {"says": f"must write: {target}", "guesses": self._spans(seen, asked, tokenizer)}
            rows.append(row | {"asked": self._size(asked)})
        return rows

    def shown(self, model: Any, batch: dict[str, Tensor], tokenizer: Any, length: int) -> tuple[str, str]:
        """Return the beginning of the first row as the encoder sees it, and with what the model writes for sentinels.

        `length`: tokens of the row shown. The model writes greedily, at most as much as was taken out.
        """
        row, most = batch["input_ids"][:1], int((batch["labels"][0] != -100).sum())
        mask = batch["attention_mask"][:1] if "attention_mask" in batch else torch.ones_like(row)
        said = model.generate(
            input_ids=row, attention_mask=mask, max_new_tokens=most, do_sample=False, num_beams=1,
            eos_token_id=self.end_id, pad_token_id=self.pad_id,
            decoder_start_token_id=model.config.decoder_start_token_id,
        )[0, 1:]  # fmt: skip
        seen = np.array(self._unpadded(row[0].tolist())[:length], np.int64)
        written = np.array([token for token in said.tolist() if token not in (self.end_id, self.pad_id)], np.int64)
        filled = restore(seen, written, self.sentinels)
        return tokenizer.decode(seen.tolist(), special=True), tokenizer.decode(filled.tolist(), special=True)

    def _divided(self, example: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Return the encoder's input and the decoder's target of one example."""
        own = rng_of(example, self.seed, rng)
        which = int(own.integers(len(self.denoisers))) if len(self.denoisers) > 1 else 0
        denoiser, tokens = self.denoisers[which], example["tokens"]
        seen, asked = corrupt(tokens, denoiser.mask(len(tokens), own), self.sentinels)
        mode = [self.modes[denoiser.mode]] if denoiser.mode else []
        return np.concatenate([mode, seen, [self.end_id]]).astype(np.int64), np.append(asked, self.end_id)

    def _unpadded(self, row: list[int]) -> list[int]:
        return [token for token in row if token != self.pad_id]

    def _size(self, asked: list[int]) -> str:
        """Return how many spans a target has, and how many tokens they are without sentinels and end."""
        spans = sum(token in self.sentinels for token in asked)
        tokens = len(asked) - spans - 1
        return f"{spans} span{'' if spans == 1 else 's'} of {tokens} token{'' if tokens == 1 else 's'} in all"

    def _spans(self, seen: list[int], asked: list[int], tokenizer: Any) -> list[dict[str, Any]]:
        """Return the spans as places of the input, with the sentinel there and the text that it stands for."""
        known = set(self.sentinels.tolist())
        starts = [*(at for at, token in enumerate(asked) if token in known), len(asked) - 1]
        texts = [tokenizer.decode(asked[a + 1 : b], special=True) for a, b in pairwise(starts)]
        places = [at for at, token in enumerate(seen) if token in known]
        return [
            {"place": at, "sees": tokenizer.token_text(seen[at]), "answer": text}
            for at, text in zip(places, texts, strict=True)
        ]
