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


def figures(row: dict[str, Any]) -> str:
    """Perplexity and bits per byte of text; of a task its figures."""
    if "eval_perplexity" in row:
        bits = "" if row.get("eval_bpb") is None else f"  {row['eval_bpb']:.4f} bits/byte"
        return f"  perplexity {row['eval_perplexity']:.2f}{bits}"
    hidden = ("eval_loss", "eval_rows", "eval_seconds")
    found = {key[5:]: value for key, value in row.items() if key.startswith("eval_") and key not in hidden}
    shown = [f"  {name} {value:.4f}" for name, value in found.items() if isinstance(value, float)]
    return "".join(shown[:3])  # the one that counts comes first; metrics.jsonl has all


def counted(row: dict[str, Any]) -> str:
    """Say on how much an evaluation was made.

    >>> counted({"eval_tokens": 1200}), counted({"eval_rows": 30})
    ('1,200 tokens', '30 rows')
    """
    return f"{row['eval_tokens']:,} tokens" if "eval_tokens" in row else f"{row.get('eval_rows', 0):,} rows"


def epoch_bar(epoch: str, loss: float, scale: Scale, width: int = 40) -> str:
    """Return one line per epoch whose bar is as long as its mean loss is of the loss of knowing nothing.

    >>> epoch_bar("1", 2.0, Scale(4.0), width=8)
    'epoch 1  ████      2.0000 nats/token (ln V = 4.0000)'
    """
    filled = round(width * max(0.0, min(1.0, loss / (scale.uniform or 1.0))))
    told = f" ({scale.name} = {scale.uniform:.4f})" if math.isfinite(scale.uniform) else ""
    return f"epoch {epoch}  {'█' * filled}{' ' * (width - filled)}  {loss:.4f} {scale.unit}{told}"
