"""Span corruption: which tokens of a window are taken out, and the two sequences that it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

DENOISERS = ("t5", "ul2")


@dataclass(frozen=True)
class Denoiser:
    """Take `rate` of a window's tokens out, in spans of `mean_span` tokens on average, or all of them from its end.

    `mode`: the role of the token that opens the input (UL2's "mode_r", "mode_s", "mode_x"); "" for none.
    `prefix`: one span, the last tokens of the window. Source: https://arxiv.org/abs/1910.10683 (T5, 3.1.4).

    >>> Denoiser(0.15, 3.0).sizes(100), Denoiser(0.15, 3.0).lengths(100)
    ((15, 5), (91, 21))
    """

    rate: float
    mean_span: float = 3.0
    mode: str = ""
    prefix: bool = False

    def sizes(self, length: int) -> tuple[int, int]:
        """Return the noise tokens and the spans of a window: round(rate·n), round(noise / mean_span), 1 at least.

        One token is always kept (but of a window of one), and as many as keep the spans apart.
        """
        noise = max(1, min(round(self.rate * length), length - 1))
        spans = 1 if self.prefix else max(1, min(round(noise / self.mean_span), noise, length - noise))
        return noise, spans

    def lengths(self, length: int) -> tuple[int, int]:
        """Return how long input and target of a window become: with sentinels, the end token, the mode token."""
        noise, spans = self.sizes(length)
        return length - noise + spans + 1 + bool(self.mode), noise + spans + 1

    def mask(self, length: int, rng: np.random.Generator) -> Bools:
        """Return which tokens are noise, bool[length]."""
        noise, spans = self.sizes(length)
        return np.arange(length) >= length - noise if self.prefix else noise_mask(length, noise, spans, rng)


UL2 = (
    Denoiser(0.15, 3.0, "mode_r"),
    Denoiser(0.15, 8.0, "mode_r"),
    Denoiser(0.25, mode="mode_s", prefix=True),
    Denoiser(0.5, 3.0, "mode_x"),
    Denoiser(0.5, 8.0, "mode_x"),
    Denoiser(0.15, 64.0, "mode_x"),
    Denoiser(0.5, 64.0, "mode_x"),
)
"""UL2's seven denoisers, each as likely: https://arxiv.org/abs/2205.05131, table 1 (the S one takes a quarter out)."""


def noise_mask(length: int, noise: int, spans: int, rng: np.random.Generator) -> Bools:
    """Draw exactly `noise` tokens in exactly `spans` runs, kept tokens between them: bool[length].

    The runs and the gaps are uniform among all ways to divide noise and kept tokens into so many parts. Whether a
    window begins and ends inside a run is drawn as if it had been cut anywhere out of a circle, so that its ends are
    hidden as often as its middle: noise / length. (T5's own mask begins with a gap and ends with a run, always; see
    https://github.com/google-research/text-to-text-transfer-transformer, random_spans_noise_mask.) A single run lies
    anywhere. Expects 1 <= spans <= noise and spans <= kept tokens, or a window that is noise as a whole.

    >>> noise_mask(12, 4, 2, np.random.default_rng(0)).astype(int)
    array([0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0])
    """
    kept = length - noise
    if spans == 1:
        return _laid([int(rng.integers(kept + 1))], [noise], length)
    # Of the circle's cuts noise − spans fall into a run, spans on the start of one, spans on its end, kept − spans into
    # a gap: is there a gap before the first run, and one after the last?
    place = int(rng.integers(length))
    before = place >= noise
    after = place >= noise + spans or noise - spans <= place < noise
    gaps = _divided(kept, spans - 1 + before + after, rng)
    return _laid(gaps[:spans] if before else [0, *gaps[: spans - 1]], _divided(noise, spans, rng), length)


def _divided(total: int, parts: int, rng: np.random.Generator) -> list[int]:
    """Divide a total into positive parts, each way as likely."""
    cuts = np.sort(rng.permutation(total - 1)[: parts - 1]) + 1
    sizes: list[int] = np.diff(np.concatenate([[0], cuts, [total]])).tolist()
    return sizes


def _laid(gaps: Sequence[int], runs: Sequence[int], length: int) -> Bools:
    """Lay gap, run, gap, run, … out; what is left is kept."""
    mask = np.zeros(length, bool)
    at = 0
    for gap, run in zip(gaps, runs, strict=True):
        mask[at + gap : at + gap + run] = True
        at += gap + run
    return mask


def corrupt(tokens: Ints, mask: Bools, sentinels: Ints) -> tuple[Ints, Ints]:
    """Return what is left, each run of noise replaced by a sentinel, and the runs, each after its sentinel.

    >>> tokens, mask = np.array([1, 2, 3, 4, 5]), np.array([False, True, True, False, True])
    >>> corrupt(tokens, mask, np.array([90, 91]))
    (array([ 1, 90,  4, 91]), array([90,  2,  3, 91,  5]))
    """
    starts = mask & ~np.concatenate([[False], mask[:-1]])
    n = int(starts.sum())
    marked = np.where(starts, sentinels[np.cumsum(starts) - 1], tokens)
    places = np.flatnonzero(starts[mask])
    return marked[~mask | starts], np.insert(tokens[mask], places, sentinels[:n])


def restore(seen: Ints, said: Ints, sentinels: Ints) -> Ints:
    """Put what is said after each sentinel in the sentinel's place: of what `corrupt` gives, the window itself.

    A sentinel that is not said stays; of one that is said twice the first counts.

    >>> restore(np.array([1, 90, 4, 91]), np.array([90, 2, 3, 91, 5]), np.array([90, 91]))
    array([1, 2, 3, 4, 5])
    """
    known = set(sentinels.tolist())
    runs: dict[int, list[int]] = {}
    here: list[int] = []
    for token in said.tolist():
        if token in known:
            here = []
            runs.setdefault(token, here)
        else:
            here.append(token)
    return np.array([x for token in seen.tolist() for x in runs.get(token, [token])], np.int64)


def text_in_window(denoisers: Sequence[Denoiser], context: int) -> int:
    """Return the longest window whose inputs and targets all fit the context; 0 where none does.

    >>> text_in_window([Denoiser(0.15, 3.0)], 512)  # T5's own figure
    568
    """
    length = 0
    while all(max(denoiser.lengths(length + 1)) <= context for denoiser in denoisers):
        length += 1
    return length


def sentinels_needed(denoisers: Sequence[Denoiser], length: int) -> int:
    """Return how many sentinels the windows of up to `length` tokens need."""
    return max(denoiser.sizes(length)[1] for denoiser in denoisers)
