"""The one step that compressing and decompressing share: float64, one thread, the next logits of several streams."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from lossmith.errors import InputError
from lossmith.evaluate._coder import Coder

Tokens = list[int]


class _StayWide(TorchFunctionMode):
    """Keep float64 where a model asks for float32, as norms and rotary embeddings do: their rounding would show."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if args and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
            if func is torch.Tensor.float:
                return args[0]
            args = tuple(torch.float64 if value is torch.float32 else value for value in args)
            if kwargs.get("dtype") is torch.float32:
                kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


@contextmanager
def exact() -> Iterator[None]:
    """Compute in float64 throughout, on one thread, without gradients; the number of threads is put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(), _StayWide():
            yield
    finally:
        torch.set_num_threads(threads)


def wide(model: Any) -> Any:
    """Return a float64 copy of a model on the CPU, in evaluation mode."""
    return copy.deepcopy(model).cpu().double().eval()


class Streams:
    """Give the logits after each of several streams of tokens that grow side by side, each by a token a step.

    The context is that of `surprisal`: windows of `context` tokens that begin `stride` after each other.
    """

    def __init__(self, model: Any, context: int, stride: int) -> None:
        self.model, self.context, self.keep = model, context, context - stride + 1
        self.history: list[Sequence[int]] = []
        self.cache: Any = None
        self.seen = 0

    def step(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """Append a token to each stream and return the logits of what follows, float64[streams, V]."""
        self.history.append(tuple(tokens))
        if self.seen == self.context:  # full: the window moves on, and what stays in it is read again
            self.cache, self.seen = None, self.keep - 1
        new = self.history[-1:] if self.cache is not None else self.history[-(self.seen + 1) :]
        self.seen += 1
        out = self.model(input_ids=torch.tensor(np.array(new).T.copy()), past_key_values=self.cache, use_cache=True)
        self.cache = getattr(out, "past_key_values", None)
        logits: NDArray[np.float64] = out.logits[:, -1].double().numpy()
        return logits


def code_streams(
    streams: Streams,
    coders: Sequence[Coder],
    start: int | None,
    lengths: Sequence[int],
    given: Sequence[Tokens] | None,
    progress: Callable[[int], None],
) -> list[Tokens]:
    """Code all streams side by side and return their tokens; `given` are the tokens to encode, None to decode."""
    found: list[Tokens] = [[] for _ in coders]
    last = [start or 0] * len(coders)
    with exact():
        for place in range(max(lengths, default=0)):
            # Where no token stands before the first, it is coded as if any token were as likely.
            logits = streams.step(last) if place or start is not None else None
            for i, coder in enumerate(coders):
                if place < lengths[i]:
                    token = given[i][place] if given is not None else None
                    last[i] = coder.code(_row(logits, i, streams.model), token)
                    found[i].append(last[i])
            progress(sum(place < length for length in lengths))
    return found


def _row(logits: NDArray[np.float64] | None, i: int, model: Any) -> NDArray[np.float64]:
    return logits[i] if logits is not None else np.zeros(model.get_output_embeddings().weight.shape[0])


def check_causal(masked: bool, name: str) -> None:
    """Raise InputError for a masked model: the probabilities it gives are of no order, and no code."""
    if masked:
        raise InputError(
            f"{name} is a masked model: it fills blanks and cannot code a text from its start; take a causal model"
        )
