"""Code tokens with a model's float64 logits, so that another machine's last bits do not matter (constriction)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.errors import NAN_LOGITS, MissingPackageError, NonFiniteError, RunError

Floats = NDArray[np.float64]

_PRECISION = 24  # bits of constriction's integer cumulative distributions; every symbol gets at least 2⁻²⁴
_ONE_DIGIT = 2048  # token types up to which a token is one symbol: 1.44·2048/2²⁴ = 0.0002 bits lost per token …
_WIDTH = 512  # … and above which it is two, its group and its place in the group, whatever the vocabulary
# A bound of the integer distribution nearer than this to where rounding turns could differ on another machine, or with
# another batch. Measured between batches: 3e-14 in the logits, about 1e-7 here, where the unit is 2⁻²⁴.
_NEAR = 2.0**-18


class Coder:
    """Code one stream of tokens; `exceptions` are the places at which a token is coded as 1 of V instead."""

    def __init__(self) -> None:
        self.exceptions: list[int] = []
        self.place = 0
        self.nats = 0.0

    def code(self, logits: Floats | None, token: int | None) -> int:
        """Code the next token, given the model's logits[V] (None: nothing is known) or V by `uniform`."""
        raise NotImplementedError


class Encoder(Coder):
    """Turn tokens into bytes; `nats` is their loss so far."""

    def __init__(self) -> None:
        super().__init__()
        self._queue = _constriction().stream.queue.RangeEncoder()

    def code(self, logits: Floats | None, token: int | None) -> int:
        """Append a token and return it."""
        assert logits is not None
        assert token is not None
        steps = list(_digits(logits, token))
        if any(_fragile(p, digit) for p, digit in steps):
            self.exceptions.append(self.place)
            self._queue.encode(token, _uniform(len(logits)))
        else:
            for p, digit in steps:
                self._queue.encode(digit + 1, _categorical(p))
        self.nats += _surprisal(logits, token)
        self.place += 1
        return token

    def finish(self) -> bytes:
        """Return the bytes; zeros at their end are implied."""
        words: bytes = self._queue.get_compressed().astype("<u4").tobytes()
        return words.rstrip(b"\0")


class Decoder(Coder):
    """Turn the bytes of an `Encoder` back into tokens, given the same logits but for their last bits."""

    def __init__(self, code: bytes, exceptions: list[int]) -> None:
        super().__init__()
        padded = code + b"\0" * (-len(code) % 4)
        self._queue = _constriction().stream.queue.RangeDecoder(np.frombuffer(padded, "<u4").astype(np.uint32))
        self._exceptions = set(exceptions)

    def code(self, logits: Floats | None, token: int | None = None) -> int:
        """Return the next token; RunError where the bytes cannot be of these logits."""
        assert logits is not None
        try:
            if self.place in self._exceptions:
                found = int(self._queue.decode(_uniform(len(logits))))
            else:
                found = self._decode(logits)
        except (AssertionError, ValueError) as error:  # constriction's way to say that no symbol fits
            raise RunError("the code does not fit the model's predictions") from error
        if not 0 <= found < len(logits):
            raise RunError("the code does not fit the model's predictions")
        self.place += 1
        return found

    def _decode(self, logits: Floats) -> int:
        token = 0
        width = _width(len(logits))
        if len(logits) > width:
            token = width * (int(self._queue.decode(_categorical(_groups(logits, width)))) - 1)
            token = max(token, 0)
        part = logits[token : token + width]
        return token if len(part) == 1 else token + int(self._queue.decode(_categorical(softmax(part)))) - 1


def softmax(logits: Floats) -> Floats:
    """Return e^z / Σ e^z of logits[n] in float64; NonFiniteError where they are NaN or +inf.

    >>> softmax(np.array([0.0, 0.0, -np.inf])).tolist()
    [0.5, 0.5, 0.0]
    """
    largest = logits.max()
    if not largest > -math.inf:
        if np.isnan(largest):
            raise NonFiniteError(NAN_LOGITS)
        return np.full(len(logits), 1 / len(logits))
    if largest == math.inf:
        raise NonFiniteError("the model's logits are infinite: its weights are broken; take an earlier checkpoint")
    p: Floats = np.exp(logits - largest)
    p /= p.sum()
    return p


def _digits(logits: Floats, token: int) -> Iterator[tuple[Floats, int]]:
    """A token as one or two digits, each with the distribution it is coded with."""
    width = _width(len(logits))
    if len(logits) > width:
        yield _groups(logits, width), token // width
    part = logits[token // width * width :][:width]
    if len(part) > 1:
        yield softmax(part), token % width


def _width(vocabulary: int) -> int:
    return vocabulary if vocabulary <= _ONE_DIGIT else _WIDTH


def _groups(logits: Floats, width: int) -> Floats:
    p: Floats = np.add.reduceat(softmax(logits), np.arange(0, len(logits), width))
    return p


def _surprisal(logits: Floats, token: int) -> float:
    largest = float(logits.max())
    return largest - float(logits[token]) + math.log(float(np.exp(logits - largest).sum()))


def _padded(p: Floats) -> Floats:
    """Put half a unit before the first symbol: bounds then round to nearest, and a sure symbol's bound is far from it.

    The symbol this makes (number 0) is never coded.
    """
    return np.concatenate([[0.5 / (2**_PRECISION - len(p))], p])


def _categorical(p: Floats) -> Any:
    return _constriction().stream.model.Categorical(_padded(p), lazy=True)


def _uniform(size: int) -> Any:
    return _constriction().stream.model.Uniform(size)


def _fragile(p: Floats, digit: int) -> bool:
    """Whether a bound of a symbol lies so near to where rounding turns that the last bits of p decide.

    constriction's lazy model: bound = floor(Σ p before · (2²⁴ − n) / Σ p) + symbols before.
    """
    padded = _padded(p)
    scale = (2**_PRECISION - len(padded)) / padded.sum()
    left = float(padded[: digit + 1].sum())
    bounds = [left * scale] if digit == len(p) - 1 else [left * scale, (left + float(p[digit])) * scale]
    return any(abs(bound - round(bound)) < _NEAR for bound in bounds)


def _constriction() -> Any:
    try:
        import constriction  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise MissingPackageError("compression needs the package constriction: pip install constriction") from error
    return constriction
