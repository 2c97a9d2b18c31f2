"""Perplexity per token, word and byte, and bits per byte of a causal model over documents, each token scored once."""

from __future__ import annotations

import math
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.data import DataConfig
from lossmith.data.encoding import chunks
from lossmith.data.sources import STDIN, expand
from lossmith.data.spool import Part, Spool, read_all
from lossmith.data.store import keep_input, with_input
from lossmith.errors import DataError, InputError
from lossmith.evaluate.bootstrap import Floats, Resampling, Statistic, sums_of_units
from lossmith.evaluate.opening import CausalModel, unknown_token
from lossmith.evaluate.outcome import Outcome, Yardstick, differences_of, figures_of
from lossmith.evaluate.rolling import Window, WordCounter, rolling_windows, score_windows
from lossmith.evaluate.worth import unigram_rate

FEW = 10  # documents below which the bootstrap draws windows instead
PIECE = 1 << 20  # bytes of text tokenized at a time
NATS, TOKENS, WORDS, BYTES = range(4)
STATISTICS: dict[str, Statistic] = {
    "bits_per_byte": lambda s: s[..., NATS] / s[..., BYTES] / math.log(2),
    "loss": lambda s: s[..., NATS] / s[..., TOKENS],
    "token_perplexity": lambda s: np.exp(s[..., NATS] / s[..., TOKENS]),
    "word_perplexity": lambda s: np.exp(s[..., NATS] / s[..., WORDS]),
    "byte_perplexity": lambda s: np.exp(s[..., NATS] / s[..., BYTES]),
}


@dataclass(frozen=True)
class Text:
    """Hold documents in a file on disk, and where each begins and ends."""

    path: Path
    part: Part
    ignored: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.part.starts)


@dataclass
class Scores:
    """Hold what a model paid, 8 bytes a number: per document nats, tokens, words, bytes; per window nats, tokens, and
    its document; and how often each token occurs.
    """

    cells: array[float]
    seen: array[float]
    counts: NDArray[np.int64]
    unknown: int = 0
    longer: int = 0  # documents longer than the context

    @property
    def documents(self) -> Floats:
        """Nats, tokens, words and bytes of each document, float64[n, 4]; all 0 where nothing could be scored."""
        rows = np.array(self.cells).reshape(-1, 4)
        return rows * (rows[:, TOKENS] > 0)[:, None]

    @property
    def windows(self) -> Floats:
        """Nats, tokens and document of each window, float64[n, 3], by document."""
        rows = np.array(self.seen).reshape(-1, 3)
        ordered: Floats = rows[np.argsort(rows[:, 2], kind="stable")]
        return ordered

    @property
    def sums(self) -> Floats:
        """Σ nats, tokens, words, bytes over all documents."""
        return np.array([math.fsum(column) for column in self.documents.T])

    @property
    def units(self) -> Floats:
        """What the bootstrap draws, float64[n, 4]: documents, or windows where there are few documents.

        A window has its share of its document's words and bytes, in proportion to its tokens.
        """
        documents = self.documents
        if len(documents) >= FEW:
            return documents
        nats, tokens, which = self.windows.T
        of = documents[which.astype(np.int64)]
        share = tokens / of[:, TOKENS]
        return np.stack([nats, tokens, share * of[:, WORDS], share * of[:, BYTES]], 1)


@contextmanager
def opened_text(
    inputs: tuple[str, ...], text_field: str | None = None, encoding: str = "utf-8", limit: int | None = None
) -> Iterator[Text]:
    """Read the documents of anything that `lossmith train` reads into a temporary file, at most the first `limit`.

    "-" is standard input, a document of text.

    Errors: DataError for missing or unreadable inputs, and where there is no text in them.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--max-examples must be 1 or more; got {limit}")
    config = DataConfig(inputs=inputs, text_field=text_field, encoding=encoding)
    with tempfile.TemporaryDirectory(prefix="lossmith-eval-") as folder:
        kept = Path(folder) / "stdin"
        found = with_input(expand(config.inputs), kept)
        if STDIN in inputs:
            keep_input(kept)
        with Spool(Path(folder) / "text.utf8") as spool:
            read_all(spool, found.sources, config, Path(folder), lambda *_: None)
        if not len(spool):
            raise DataError(f"nothing to evaluate: {', '.join(inputs)} hold no text. Give files with text")
        bounds = spool.byte_bounds[: None if limit is None else limit + 1]
        yield Text(spool.path, Part(bounds[:-1], bounds[1:]), tuple(found.ignored))


def score(given: CausalModel, text: Text, *, stride: int | None = None, batch_size: int = 8) -> Scores:
    """Score every token of every document once; memory holds four numbers a document and three a window, and no text.

    Errors: InputError for a stride outside 1 … context; RunError is left to the caller (NaN is a figure like others).
    """
    stride = given.context if stride is None else stride
    if not 1 <= stride <= given.context:
        raise InputError(f"--stride must be 1 … {given.context} (the context in tokens); got {stride}")
    if batch_size < 1:
        raise InputError(f"--per-device-eval-batch-size must be 1 or more; got {batch_size}")
    scores = Scores(array("d"), array("d"), np.zeros(given.tokenizer.vocab_size, np.int64))
    for window, nats in score_windows(given.model, _windows(given, text, scores, stride), batch_size):
        scores.cells[4 * window.document + NATS] += nats
        scores.seen.extend((nats, window.predicted, window.document))
    if not scores.seen:
        raise DataError("nothing to evaluate: no document has a token that follows another one. Give longer texts")
    return scores


def _windows(given: CausalModel, text: Text, scores: Scores, stride: int) -> Iterator[Window]:
    for index, (start, end) in enumerate(zip(text.part.starts, text.part.ends, strict=True)):
        scores.cells.extend((0.0, 0.0, 0.0, 0.0))
        document = Part(np.array([start]), np.array([end]))
        yield from rolling_windows(
            _tokens(given, text.path, document, scores), given.prefix, given.context, stride, index
        )
        # where no token opens a text, its first token cannot be scored
        tokens = scores.cells[4 * index + TOKENS]
        scores.longer += tokens + (given.prefix is None) > given.context


def _tokens(given: CausalModel, path: Path, document: Part, scores: Scores) -> Iterator[Any]:
    """Yield a document's tokens, a piece of text at a time, and count its tokens, words and bytes on the way."""
    words, unknown = WordCounter(), unknown_token(given.tokenizer)
    at, cells = len(scores.cells) - 4, scores.cells
    for first, text in chunks(path, document, PIECE):
        words.add(text)
        ids = given.tokenizer.encode(text)
        unscored = ids[:1] if first and given.prefix is None else ids[:0]
        cells[at + TOKENS] += len(ids) - len(unscored)
        cells[at + BYTES] += len(text.encode()) - given.tokenizer.n_bytes(unscored)
        cells[at + WORDS] = words.words
        scores.unknown += int((ids == unknown).sum()) if unknown is not None else 0
        scores.counts += np.bincount(ids[len(unscored) :], minlength=len(scores.counts))
        yield ids


def language_outcome(
    given: CausalModel, text: Text, scores: Scores, how: Resampling, *, stride: int | None = None
) -> Outcome:
    """Return the figures of a causal model, with intervals, beside what knows nothing and what counts tokens.

    `add_worth` adds what pairs and compressors make of the same text.
    """
    units = scores.units
    drawn = "documents" if len(text) >= FEW else "windows"
    draws = sums_of_units(units, how) if len(units) > 1 else None
    outcome = Outcome("language_modeling", len(text), drawn, figures_of(STATISTICS, scores.sums, draws, how))
    _, tokens, words, n_bytes = (round(value) for value in scores.sums)
    outcome.counts = {
        "documents": len(text),
        "tokens": tokens,
        "words": words,
        "bytes": n_bytes,
        "windows": len(scores.seen) // 3,
        "context": given.context,
        "stride": stride or given.context,
        "documents_longer_than_context": int(scores.longer),
        "unknown_tokens": scores.unknown,
    }
    outcome.yardsticks = list(_yardsticks(given, scores))
    outcome.notes = list(_notes(given, text, scores))
    return outcome


def _notes(given: CausalModel, text: Text, scores: Scores) -> Iterator[str]:
    if scores.longer:
        yield (
            f"{scores.longer:,} of {len(text):,} documents are longer than the context of {given.context:,} tokens: "
            "they are scored in windows, every token once"
        )
    if given.prefix is None:
        yield "the tokenizer has no token that opens a text: the first token of each document is not scored"
    if scores.unknown:
        yield (
            f"{scores.unknown:,} tokens are the tokenizer's unknown token: what it stands for is not paid for, so that "
            "bits per byte are too low"
        )
    if not math.isfinite(scores.sums[NATS]):
        yield "the loss is not finite: the model's weights are broken, or a token has probability 0"
    if text.ignored:
        yield f"{len(text.ignored)} files of no kind that is read were left out: {', '.join(text.ignored[:3])}"


def _yardsticks(given: CausalModel, scores: Scores) -> Iterator[Yardstick]:
    _, tokens, _, n_bytes = scores.sums
    per_byte = tokens / n_bytes / math.log(2) if n_bytes else math.nan
    uniform = math.log(given.tokenizer.vocab_size)
    yield Yardstick("uniform", "every token equally likely", {"loss": uniform, "bits_per_byte": uniform * per_byte})
    counted = unigram_rate(scores.counts, n_bytes)
    yield Yardstick(counted.name, counted.label, counted.figures(n_bytes / tokens))


def compare_language(outcome: Outcome, ours: Scores, other: Scores, how: Resampling) -> None:
    """Add the paired comparison with another model on the same documents to the outcome.

    Drawn are documents; where they are few, windows, if both models cut the text into the same ones (else no test:
    a note says so). Figures per token are compared only where both have the same tokens.
    """
    first, second = ours.units, other.units
    same = bool(np.array_equal(ours.sums[TOKENS:], other.sums[TOKENS:]))
    paired = first.shape == second.shape and len(first) > 1
    if outcome.unit == "windows" and paired:
        paired = bool(np.array_equal(first[:, TOKENS], second[:, TOKENS]))
    draws = None
    if paired:
        both = sums_of_units(np.concatenate([first, second], 1), how)
        draws = (both[:, :4], both[:, 4:])
    else:
        outcome.notes.append(
            f"no paired test: the two models cut these {outcome.examples} documents into different windows; give "
            f"{FEW} documents or more"
        )
    names = [name for name in STATISTICS if same or name not in ("loss", "token_perplexity")]
    outcome.differences = differences_of({n: STATISTICS[n] for n in names}, (ours.sums, other.sums), draws, how)
