"""What a loss is measured in and beside, and the lines that say so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scale:
    """What a loss is measured in, and the loss of knowing nothing, by name: ln V, nats per token."""

    uniform: float = math.inf
    unit: str = "nats/token"
    name: str = "ln V"
    eval_unit: str = ""
    """What the validation loss is measured in, where it is another thing."""


USUAL = {"eval_loss", "eval_perplexity", "eval_bpb", "eval_tokens", "eval_bytes", "eval_rows", "eval_seconds"}


def figures(row: dict[str, Any]) -> str:
    """Return an evaluation's figures but for the loss: perplexity, bits per byte, then what was counted beside it.

    Of a task the one that counts comes first, and three are shown; metrics.jsonl has all.

    >>> figures({"eval_loss": 1.0, "eval_perplexity": 2.718, "eval_tokens": 5, "eval_replaced_recall": 0.5})
    '  perplexity 2.72  replaced recall 0.5000'
    """
    found = {key[5:].replace("_", " "): value for key, value in row.items() if key.startswith("eval_")}
    usual = {key[5:].replace("_", " ") for key in USUAL}
    own = {name: x for name, x in found.items() if name not in usual and "/" not in name and isinstance(x, float)}
    text = f"  perplexity {row['eval_perplexity']:.2f}" if "eval_perplexity" in row else ""
    text += "" if row.get("eval_bpb") is None else f"  {row['eval_bpb']:.4f} bits/byte"
    return text + "".join(f"  {name} {value:.4f}" for name, value in list(own.items())[:3])


def counted(row: dict[str, Any], unit: str) -> str:
    """Say on how much an evaluation was made, whose loss is measured in `unit`.

    >>> counted({"eval_tokens": 1200}, "nats"), counted({"eval_tokens": 80}, "nats/pair"), counted({"eval_rows": 3}, "")
    ('1,200 tokens', '80 pairs', '3 rows')
    """
    one = unit.partition("/")[2] or "token"
    return f"{row['eval_tokens']:,} {one}s" if "eval_tokens" in row else f"{row.get('eval_rows', 0):,} rows"


def epoch_bar(epoch: str, loss: float, scale: Scale, width: int = 40) -> str:
    """Return one line per epoch whose bar is as long as its mean loss is of the loss of knowing nothing.

    >>> epoch_bar("1", 2.0, Scale(4.0), width=8)
    'epoch 1  ████      2.0000 nats/token (ln V = 4.0000)'
    """
    filled = round(width * max(0.0, min(1.0, loss / (scale.uniform or 1.0))))
    told = f" ({scale.name} = {scale.uniform:.4f})" if math.isfinite(scale.uniform) else ""
    return f"epoch {epoch}  {'█' * filled}{' ' * (width - filled)}  {loss:.4f} {scale.unit}{told}"
