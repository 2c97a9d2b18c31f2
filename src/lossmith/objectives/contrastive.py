"""Contrastive learning of sentence embeddings: a text is found among others by a second view of it, or by its pair."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lossmith.errors import InputError
from lossmith.losses import Temperature, info_nce
from lossmith.models.dropout import drops, set_dropout
from lossmith.objectives.embedding import key_groups, key_ids, name_of_text, nearest
from lossmith.objectives.preview import Decoder
from lossmith.objectives.ranks import everyones
from lossmith.objectives.shared import pool, text_inputs
from lossmith.total import Total

COLUMNS = ("tokens", "positive", "negative")


@dataclass(frozen=True)
class ContrastiveObjective:
    """Find for each text its partner among the partners of the whole batch, all ranks included, by cosine.

    Formula: ``Σ_i −ln( exp(cos(h_i, h_i⁺)/τ) / Σ_j exp(cos(h_i, h_j⁺)/τ) )`` in nats, over the N pairs; with hard
        negatives these stand in the sum, too. Equal texts are never each other's negatives.
    One column (unsupervised): the partner is the same text under other dropout, in evaluation too (from a fixed seed).
    Two or three: anchor, positive, hard negative. Not additive: a smaller batch has fewer negatives.
    Examples: {"tokens": int64[n]}, with "positive" and "negative" for pairs, as lossmith.data.Sentences gives them.
    mini_batch_size: texts in one forward pass. More are encoded part by part and, in the backward pass, once more with
        the same random state: memory is that of a part, the gradients are those of the whole batch (cached gradients).
    Source: https://arxiv.org/abs/2104.08821 (SimCSE), https://arxiv.org/abs/2101.06983 (GradCache).

    >>> objective = ContrastiveObjective(cls_id=8, sep_id=9, pad_id=0)
    >>> batch = objective.batch([{"tokens": np.array([1, 2])}, {"tokens": np.array([3])}], np.random.default_rng(0))
    >>> batch["input_ids"].tolist()  # both texts, and both again
    [[8, 1, 2, 9], [8, 3, 9, 0], [8, 1, 2, 9], [8, 3, 9, 0]]
    """

    cls_id: int
    sep_id: int
    pad_id: int
    columns: int = 1
    pooling: str = "mean"
    temperature: float = 0.05
    learn_temperature: bool = False
    dropout: float | None = None
    mini_batch_size: int | None = None
    mlp_head: bool = False
    seed: int = 0
    own: nn.ModuleDict | None = None
    additive = False
    measures = ("alignment", "uniformity")
    shows = 64
    """How many held-out examples `shown` compares."""

    def adopt(self, model: Any) -> ContrastiveObjective:
        """Set the model's dropout, and make the tensors of the objective: the temperature's and the head's.

        Errors: InputError for single texts and a model that has no dropout: both views would be the same.
        """
        if self.dropout is not None:
            set_dropout(model, self.dropout)
        if self.columns == 1 and not drops(model):
            raise InputError(
                "--objective contrastive without --pair-columns tells two views of a text by their dropout, and "
                f"{'--dropout 0 leaves none' if self.dropout == 0 else f'{type(model).__name__} has none to set'}: "
                "give --dropout 0.1 and a model with dropout (BERT and its kin), or pairs"
            )
        if getattr(model, "pooler", None) is not None:
            model.pooler.requires_grad_(False)  # another reading of the states, which nobody asks for here
        return replace(self, own=self._own(model))

    def _own(self, model: Any) -> nn.ModuleDict | None:
        made: dict[str, nn.Module] = {}
        if self.learn_temperature:
            lowest, highest = min(0.01, self.temperature), max(1.0, self.temperature)
            made["temperature"] = Temperature(self.temperature, lowest=lowest, highest=highest)
        if self.mlp_head:
            width = model.config.get_text_config().hidden_size
            with torch.random.fork_rng([]):
                torch.manual_seed(self.seed)
                made["head"] = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        return nn.ModuleDict(made) if made else None

    def batch(self, examples: Sequence[dict[str, np.ndarray]], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return input_ids and attention_mask int64[R, T], padded to the longest, and text_ids int64[R].

        Rows: the N texts, their N partners, and with hard negatives N of these. Equal texts have equal text_ids.
        """
        names = ("tokens", "tokens") if self.columns == 1 else COLUMNS[: self.columns]
        texts = [example[name] for name in names for example in examples]
        framed = [np.concatenate([[self.cls_id], text, [self.sep_id]]) for text in texts]
        return text_inputs(framed, self.pad_id) | {"text_ids": torch.tensor([name_of_text(text) for text in texts])}

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the number of pairs."""
        return {"contrastive": torch.tensor(float(self._pairs(batch)), device=batch["text_ids"].device)}

    def terms(self, model: Any, batch: dict[str, Tensor]) -> dict[str, Total]:
        """Return {"contrastive": Total} in nats over the pairs; in training against those of all ranks."""
        with self._views(model):
            vectors = self.vectors(model, batch)
        return {"contrastive": self._loss(vectors, batch["text_ids"], everyone=model.training)}

    def scored(self, model: Any, batch: dict[str, Tensor]) -> tuple[dict[str, Total], dict[str, Total]]:
        """Return the terms, and of the same vectors alignment and uniformity (a mean over batches).

        Formula: alignment ``mean ‖h_i − h_i⁺‖²``, uniformity ``ln mean_{i≠j} exp(−2‖h_i − h_j‖²)``, of unit vectors.
        Source: https://arxiv.org/abs/2005.10242.
        """
        with self._views(model):
            vectors = self.vectors(model, batch)
        terms = {"contrastive": self._loss(vectors, batch["text_ids"], everyone=False)}
        n, unit = self._pairs(batch), nn.functional.normalize(vectors, dim=-1)
        apart = torch.pdist(unit[:n]).square().mul(-2)
        uniformity = torch.logsumexp(apart, 0) - math.log(max(len(apart), 1))
        aligned = (unit[:n] - unit[n : 2 * n]).square().sum()
        weight = terms["contrastive"].weight
        figures = {"alignment": Total(aligned, weight), "uniformity": Total(uniformity * (n if n > 1 else 0), weight)}
        return terms, figures

    def vectors(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        """Return the embeddings [R, D] of a batch's rows, at most mini_batch_size of them in one forward pass."""
        size = self.mini_batch_size or len(batch["input_ids"])
        parts = zip(batch["input_ids"].split(size), batch["attention_mask"].split(size), strict=True)
        if size >= len(batch["input_ids"]) or not torch.is_grad_enabled():
            return torch.cat([self._embed(model, *part) for part in parts])
        # Nothing of a part is kept but its rows; its backward pass encodes it again, with its random state.
        return torch.cat([checkpoint(self._embed, model, *part, use_reentrant=False) for part in parts])

    def _embed(self, model: Any, ids: Tensor, mask: Tensor) -> Tensor:
        states = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = pool(states, mask, self.pooling)
        if self.own is not None and "head" in self.own:
            pooled = self.own["head"](pooled)
        return pooled if pooled.dtype == torch.float64 else pooled.float()

    def shown(self, model: Any, batch: dict[str, Tensor], tokenizer: Decoder, length: int) -> tuple[str, str]:
        """Return the first text, and the five of the batch that stand nearest to it, with their cosines."""
        n = self._pairs(batch)
        firsts = {key: value[:n] for key, value in batch.items()}
        texts = [tokenizer.decode(text[:length]) for text in self._texts(firsts)]
        near = nearest(self.vectors(model, firsts), 0, 5)
        return texts[0], "\n".join(f"{cosine:.2f}  {texts[row]}" for row, cosine in near)

    def described(self, batch: dict[str, Tensor], tokenizer: Decoder) -> list[dict[str, Any]]:
        """Return for each pair what it is, and which examples of the batch it is not compared with."""
        n, texts = self._pairs(batch), [tokenizer.decode(text) for text in self._texts(batch)]
        names = batch["text_ids"].tolist()
        groups = key_groups([names], n)
        rows = []
        for i in range(n):
            masked = [j for j, group in enumerate(groups) if group == groups[i] and j != i]
            row: dict[str, Any] = {"sees": texts[i], "tokens": int(batch["attention_mask"][i].sum()), "guesses": []}
            row |= {name: texts[part * n + i] for part, name in enumerate(COLUMNS[: self.columns]) if part}
            rows.append(row | {"masked": masked, "says": self._says(row, len(groups) - 1 - len(masked), masked, n)})
        return rows

    def _says(self, row: dict[str, Any], others: int, masked: list[int], n: int) -> str:
        found = f"its pair {row['positive']!r}" if self.columns > 1 else "itself under other dropout"
        said = f"must find {found} beside {others} other{'' if others == 1 else 's'} of its batch"
        said += f", one of them made to mislead: {row['negative']!r}" if "negative" in row else ""
        equal = ", ".join(f"{j % n + 1}" + (" (its hard negative)" if j >= n else "") for j in masked)
        return said + (f"; not compared with example {equal} of it: the same text" if masked else "")

    def _texts(self, batch: dict[str, Tensor]) -> list[list[int]]:
        """The tokens of each row without its frame."""
        lengths = batch["attention_mask"].sum(1).tolist()
        rows = batch["input_ids"].tolist()
        return [row[1 : length - 1] for row, length in zip(rows, lengths, strict=True)]

    def _loss(self, vectors: Tensor, text_ids: Tensor, *, everyone: bool) -> Total:
        """Own queries against the keys of all ranks, the own ones first, so that key i belongs to query i."""
        n = len(vectors) // max(2, self.columns)
        keys, names = [vectors[n:]], [text_ids]
        if everyone:
            keys, names = everyones(vectors[n:]), everyones(text_ids)
        return info_nce(vectors[:n], torch.cat(keys), temperature=self._temperature(), ids=key_ids(names, n))

    def _temperature(self) -> float | Tensor:
        learned = self.own is not None and "temperature" in self.own
        return self.own["temperature"]() if learned and self.own is not None else self.temperature

    def _pairs(self, batch: dict[str, Tensor]) -> int:
        return len(batch["text_ids"]) // max(2, self.columns)

    @contextmanager
    def _views(self, model: Any) -> Iterator[None]:
        """Let dropout make two views of a text in evaluation, too: the same ones every time."""
        if model.training or self.columns > 1:
            yield
            return
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.seed)
            model.train()
            try:
                yield
            finally:
                model.eval()
