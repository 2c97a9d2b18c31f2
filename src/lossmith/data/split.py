"""Training and validation parts that never overlap: whole documents, or the last characters."""

from __future__ import annotations

import numpy as np

from lossmith.data.config import DataConfig
from lossmith.data.order import mix
from lossmith.data.spool import Part, Spool
from lossmith.errors import DataError

# From here on, validation by document holds enough of them to speak for the rest; with 38 plays it would hold 3.
MANY_DOCUMENTS = 1000
_SEED = 0x5EED


def split(spool: Spool, config: DataConfig, n_evaluation: int) -> tuple[Part, Part, str]:
    """Return (training part, validation part, how it was split: eval_file, document or tail).

    n_evaluation: how many documents at the end of the spool came from --eval-file; they win over any split.
    tail: the training part is the first int(n·(1 − fraction)) of n characters, or more where the rest would be over
    validation_max_bytes. document: documents in the order of a seeded hash of their index, until the share is full.
    auto: document from 1,000 documents on, when none of them is a large share of the validation part; else tail.
    Documents that are sentences or cells are kept whole, a row's together: of them auto means document.
    Errors: DataError when a part would be empty.
    """
    if config.eval_file:
        how = "eval_file"
        train, validation = _at_document(spool, len(spool) - n_evaluation)
    else:
        how = _resolved(spool, config)
        train, validation = (_by_document if how == "document" else _by_tail)(spool, config)
    _check(spool, train, validation, how)
    return train, validation, how


def _resolved(spool: Spool, config: DataConfig) -> str:
    if config.split_by != "auto":
        return config.split_by
    if config.in_sentences:
        return "document"
    longest = int(np.diff(spool.byte_bounds).max(initial=0))
    many = len(spool) >= MANY_DOCUMENTS and longest * 10 <= _budget(spool, config)
    return "document" if many else "tail"


def _budget(spool: Spool, config: DataConfig) -> int:
    share = int(spool.byte_bounds[-1] * config.validation_fraction)
    return min(share, config.validation_max_bytes)


def _at_document(spool: Spool, first: int) -> tuple[Part, Part]:
    bounds = spool.byte_bounds
    return Part(bounds[:first], bounds[1 : first + 1]), Part(bounds[first:-1], bounds[first + 1 :])


def _by_tail(spool: Spool, config: DataConfig) -> tuple[Part, Part]:
    bounds, chars = spool.byte_bounds, int(spool.char_bounds[-1])
    cut = spool.byte_of_character(int(chars * (1 - config.validation_fraction)))
    if bounds[-1] - cut > config.validation_max_bytes:
        cut = spool.character_at_or_after(int(bounds[-1]) - config.validation_max_bytes)
    starts, ends = bounds[:-1], bounds[1:]
    before, after = starts < cut, ends > cut
    return (
        Part(starts[before], np.minimum(ends[before], cut)),
        Part(np.maximum(starts[after], cut), ends[after]),
    )


def _by_document(spool: Spool, config: DataConfig) -> tuple[Part, Part]:
    bounds = spool.byte_bounds[:: config.columns]  # of what belongs together
    n = len(bounds) - 1
    order = np.argsort(np.array([mix(_SEED ^ i) for i in range(n)], np.uint64), kind="stable")
    filled = np.cumsum(np.diff(bounds)[order])
    # at least one document on each side
    count = min(max(int(np.searchsorted(filled, _budget(spool, config), side="right")), 1), n - 1)
    held = np.zeros(n, bool)
    held[order[: max(count, 0)]] = True
    bounds, held = spool.byte_bounds, np.repeat(held, config.columns)
    return Part(bounds[:-1][~held], bounds[1:][~held]), Part(bounds[:-1][held], bounds[1:][held])


def _check(spool: Spool, train: Part, validation: Part, how: str) -> None:
    if train.n_bytes and validation.n_bytes:
        return
    missing = "validation" if train.n_bytes else "training"
    advice = {
        "eval_file": "check that --eval-file names other files than the inputs, with text in them",
        "document": "use --split-by tail, or give more documents",
        "tail": "give more text, or another --validation-fraction",
    }[how]
    raise DataError(
        f"the text is too short to be split (by {how}): {int(spool.char_bounds[-1])} characters in {len(spool)} "
        f"documents leave nothing for the {missing} part; {advice}"
    )
