"""The code length of a training run: what sending the data would have cost a model that learns as it sends."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.errors import DataError
from lossmith.runs import read

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CodeLength:
    """Hold the prequential code length of a run: Σ of the loss of each token before it was learned from.

    nats over `tokens` tokens, in bits per byte of the text they come from (`bytes`: estimated from the run's own
    tokens and bytes); `uncovered` tokens before the first log are charged its loss. `passes`: above 1 the text was
    seen again, and only the first pass is counted: a text need not be sent twice.
    """

    nats: float
    tokens: int
    bytes: int
    uncovered: int
    passes: float
    steps: int

    @property
    def bits(self) -> float:
        """Code length in bits."""
        return self.nats / math.log(2)

    @property
    def bits_per_byte(self) -> float:
        """Code length in bits per byte of text."""
        return self.bits / self.bytes

    @property
    def nats_per_token(self) -> float:
        """Mean loss over the pass, nats: the area under the curve of the training loss."""
        return self.nats / self.tokens

    def to_json(self) -> dict[str, Any]:
        """Return all figures as JSON carries them."""
        return {
            "nats": self.nats,
            "bits": self.bits,
            "bytes_coded": self.bits / 8,
            "nats_per_token": self.nats_per_token,
            "bits_per_byte": self.bits_per_byte,
            "tokens": self.tokens,
            "text_bytes": self.bytes,
            "uncovered_tokens": self.uncovered,
            "passes": self.passes,
            "steps": self.steps,
        }


def code_length(run: str | Path) -> CodeLength:
    """Return the online (prequential) code length of a lossmith run, from its own run.json and metrics.jsonl.

    Formula: Σₜ n(t)·L(t), L the training loss of a step before its update, n its tokens; a logged loss is the mean of
    the steps since the log before. The model's weights need not be sent: both sides can train them from the seed, so
    that models of any size compare fairly. Blocks are drawn at random from the text, of which a run that ends early
    has sent so many bytes in proportion.
    Errors: DataError where the folder is no causal run of lossmith train, or has logged a loss that is not finite.

    Source: Dawid 1984, https://doi.org/10.2307/2981683; Blier & Ollivier 2018, https://arxiv.org/abs/1802.07044.
    """
    folder = Path(run)
    data = _data(folder)
    steps, loss, tokens = _losses(folder)
    whole, text = int(data["n_train_tokens"]), int(data["train_bytes"])
    counted = np.minimum(np.diff(np.append(0.0, tokens)), np.maximum(whole - np.append(0.0, tokens)[:-1], 0.0))
    total = float(counted.sum())
    nats = math.fsum((counted * loss).tolist())
    return CodeLength(
        nats,
        round(total),
        round(text * total / whole),
        round(float(tokens[0])) if steps[0] > 1 else 0,
        float(tokens[-1]) / whole,
        int(steps[-1]),
    )


def _data(folder: Path) -> dict[str, Any]:
    try:
        told = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        data: dict[str, Any] = told["data"]
        if (objective := told.get("config", {}).get("objective") or "causal") != "causal":
            raise DataError(f"{str(folder)!r} was trained with --objective {objective}, whose loss is no code length")
        if data["n_train_tokens"] > 0 and data["train_bytes"] > 0:
            return data
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"expected the folder of a run of lossmith train (run.json with its data); got {str(folder)!r}"
        ) from error
    raise DataError(f"{str(folder)!r} was trained on no text: there is nothing to send")


def _losses(folder: Path) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Steps, mean loss since the log before, and tokens up to there."""
    curves = read(folder).runs[0].curves
    if "loss" not in curves or "tokens" not in curves:
        raise DataError(f"{str(folder)!r} has logged no loss with its tokens: let it train for some steps")
    loss, seen = curves["loss"].latest(), curves["tokens"].latest()
    tokens = np.interp(loss.step, seen.step, seen.value)
    if not len(loss) or not np.isfinite(loss.value).all():
        raise DataError(f"{str(folder)!r} has losses that are no finite numbers: its code would have no end")
    return loss.step, loss.value, tokens
