"""Whether a model is causal is tried, not believed: one that sees the tokens it predicts has a loss without meaning."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossmith.errors import InputError
from lossmith.models.head import hidden_and_head
from lossmith.models.mode import probing

TOKENS = 8
ROUNDING = (
    1e-5  # of the largest state: what another later token may move by rounding; causal models move exactly 0 here
)


def check_causal(model: Any, name: str, option: str = "--model") -> None:
    """Raise InputError when what the model says at a token depends on the tokens after it.

    Formula: with x and x′ that differ only from token k on, max over t < k of |h(x)ₜ − h(x′)ₜ| must be 0 (or rounding).
    Parameters that are all zero are random meanwhile: behind a zero projection nothing would be seen to move.
    """
    size, positions = _sizes(model)
    if min(size, positions) < 2:
        return
    base = torch.arange(min(TOKENS, positions), device=model.device) % size
    later = len(base) // 2
    other = torch.where(torch.arange(len(base), device=model.device) < later, base, (base + 1) % size)
    with probing(model, _zeros(model), std=0.1):
        before, after = (hidden_and_head(model, {"input_ids": ids[None]})[0][0, :later] for ids in (base, other))
    moved, largest = (before - after).abs().max(), before.abs().max()
    if moved > ROUNDING * largest:  # NaN (broken weights) moves nothing: the first step will say so
        raise InputError(
            f"{option} {name} ({type(model).__name__}) is not causal: what it says at a token changes with the tokens "
            "after it, which it is to predict, so that its loss would mean nothing. Take a causal architecture (llama, "
            f'gpt2, …), or, where the architecture knows it, set "is_decoder": true in {name}/config.json'
        )


def check_prefix(model: Any, name: str) -> None:
    """Raise InputError when a model's attention does not see a prefix from both sides, and what follows from one.

    Formula: with a prefix of 4 of 8 tokens, another token 3 must move the state of token 0, and another token 6 no
    state before it. Tried, as some models ignore a mask [B, 1, T, T], and others cannot take one.
    """
    size, positions = _sizes(model)
    if min(size, positions) < 2 or positions < TOKENS:
        return
    base = torch.arange(TOKENS, device=model.device) % size
    places = torch.arange(TOKENS, device=model.device)
    mask = (places[:, None] >= places) | (places < TOKENS // 2)

    def states(changed: int | None) -> Tensor:
        ids = torch.where(places == changed, (base + 1) % size, base) if changed is not None else base
        return hidden_and_head(model, {"input_ids": ids[None], "attention_mask": mask[None, None]})[0][0]

    try:
        with probing(model, _zeros(model), std=0.1):
            plain, earlier, later = states(None), states(TOKENS // 2 - 1), states(TOKENS - 2)
    except (AttributeError, RuntimeError, TypeError, ValueError, IndexError) as error:
        raise _no_prefix(model, name, f"it cannot take a mask of its own ({error})") from error
    small = ROUNDING * plain.abs().max()
    if (plain - earlier)[0].abs().max() <= small:
        raise _no_prefix(model, name, "a prefix token is not seen by those before it")
    if (plain - later)[: TOKENS - 2].abs().max() > small:
        raise _no_prefix(model, name, "tokens that are to be predicted are seen before")


def _no_prefix(model: Any, name: str, why: str) -> InputError:
    return InputError(
        f"--objective prefix needs attention that obeys a mask: --model {name} ({type(model).__name__}): {why}. Take a "
        "preset or a Llama-style or GPT-2 configuration, or --objective causal"
    )


def _sizes(model: Any) -> tuple[int, int]:
    text = model.config.get_text_config()
    return int(text.vocab_size), int(getattr(text, "max_position_embeddings", None) or TOKENS)


def _zeros(model: Any) -> list[Tensor]:
    """Return the parameters that are all zero: behind a zero projection nothing would be seen to move."""
    return [p for p in model.parameters() if not p.any()]
