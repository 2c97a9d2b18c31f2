"""The code length of a training run: what sending the data would have cost a model that learns as it sends."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.data.blocks import blocks_in
from lossmith.errors import DataError
from lossmith.runs import read

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CodeLength:
    """Hold the prequential code length of a run: Σ of the loss of each token before it was learned from.

    nats over `tokens` tokens, in bits per byte of the text they come from (`bytes`: estimated from the run's own
    tokens and bytes); `uncovered` tokens before the first log are charged its loss. `passes`: above 1 the text was
    seen again, and only the first pass is counted: a text need not be sent twice. `began_from`: the weights that the
    run continued from, which are not counted; None where it began from nothing.
    """

    nats: float
    tokens: int
    bytes: int
    uncovered: int
    passes: float
    steps: int
    began_from: str | None = None

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
            "began_from": self.began_from,
        }


@dataclass(frozen=True)
class Race:
    """Hold the code lengths of two runs up to the same amount of text: the first pass of the run that has sent less.

    same_text: both were trained on as many bytes, out of files of the same names and sizes.
    """

    ours: CodeLength
    other: CodeLength
    same_text: bool

    @property
    def difference(self) -> float:
        """Ours − other in bytes of code; below 0: ours would have sent the text shorter."""
        return (self.ours.bits - self.other.bits) / 8

    def to_json(self) -> dict[str, Any]:
        """Return both, and the difference in bytes of code and in bits per byte of text."""
        return {
            "ours": self.ours.to_json(),
            "other": self.other.to_json(),
            "same_text": self.same_text,
            "difference_bytes": self.difference,
            "difference_bits_per_byte": self.ours.bits_per_byte - self.other.bits_per_byte,
        }


def code_length(run: str | Path, *, at_most: int | None = None) -> CodeLength:
    """Return the online (prequential) code length of a lossmith run, from its own run.json and metrics.jsonl.

    Formula: Σₜ n(t)·L(t), L the training loss of a step before its update, n its tokens; a logged loss is the mean of
    the steps since the log before. The model's weights need not be sent: both sides can train them from the seed, so
    that models of any size compare fairly. Blocks are drawn at random from the text, of which a run that ends early
    has sent so many bytes in proportion. `at_most`: only the first so many bytes of what it has sent.
    Errors: DataError where the folder is no causal run of lossmith train, or has logged a loss that is not finite.

    Source: Dawid 1984, https://doi.org/10.2307/2981683; Blier & Ollivier 2018, https://arxiv.org/abs/1802.07044.
    """
    folder = Path(run)
    told = _told(folder)
    steps, loss, tokens = _losses(folder)
    data, block = told["data"], told["config"].get("block_size")
    whole, text = int(data["n_train_tokens"]), int(data["train_bytes"])
    first_pass = blocks_in(whole, int(block)) * int(block) if block else whole
    limit = first_pass if at_most is None else min(first_pass, at_most * whole / text)
    before = np.append(0.0, tokens)[:-1]
    counted = np.clip(limit - before, 0.0, tokens - before)
    total = float(counted.sum())
    return CodeLength(
        math.fsum((counted * loss).tolist()),
        round(total),
        round(text * total / whole),
        round(float(counted[0])) if steps[0] > 1 else 0,
        float(tokens[-1]) / first_pass,
        int(steps[-1]),
        _weights(told),
    )


def race(run: str | Path, other: str | Path) -> Race:
    """Return the code lengths of two runs over as many bytes of text: those of the run that has sent less.

    Errors: as `code_length`.
    """
    both = [code_length(folder) for folder in (run, other)]
    least = min(found.bytes for found in both)
    ours, theirs = (code_length(folder, at_most=least) for folder in (run, other))
    return Race(ours, theirs, _text(_told(Path(run))) == _text(_told(Path(other))))


def _text(told: dict[str, Any]) -> Any:
    data = told["data"]
    sources = data.get("sources") or []
    return data["train_bytes"], sorted((Path(str(row["name"])).name, row["bytes"]) for row in sources)


def _weights(told: dict[str, Any]) -> str | None:
    """The folder that a run took its first weights from, where it still holds some."""
    from lossmith.models.build import has_weights

    name = told["config"].get("model")
    return name if isinstance(name, str) and Path(name).is_dir() and has_weights(Path(name)) else None


def _told(folder: Path) -> dict[str, Any]:
    """run.json of a causal run with text."""
    try:
        told: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        data, told["config"] = told["data"], told.get("config") or {}
        if (objective := told["config"].get("objective") or "causal") != "causal":
            raise DataError(f"{str(folder)!r} was trained with --objective {objective}, whose loss is no code length")
        if data["n_train_tokens"] > 0 and data["train_bytes"] > 0:
            return told
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
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
