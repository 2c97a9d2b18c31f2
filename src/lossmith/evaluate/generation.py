"""BLEU and chrF of generated text (sacrebleu), with intervals and paired tests, beside copying the source."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from lossmith.errors import DataError, InputError, MissingPackageError
from lossmith.evaluate.bootstrap import Floats, Resampling, Statistic, sums_of_units
from lossmith.evaluate.outcome import Difference, Outcome, Yardstick, compare_units, figures_of

TOKENIZERS = ("13a", "zh", "char", "intl", "none")
_HAN = re.compile("[\u3400-\u9fff]")


def metrics(tokenize: str) -> dict[str, Any]:
    """Return BLEU (tokenized so) and chrF2 of sacrebleu; MissingPackageError with what to install."""
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise MissingPackageError("--task generation needs sacrebleu: pip install 'sacrebleu>=2.4'") from error
    return {"bleu": BLEU(tokenize=tokenize), "chrf": CHRF()}


def tokenizer_for(references: Sequence[str], wanted: str | None) -> str:
    """Return how BLEU splits words: as asked, else "zh" where most characters are Chinese, else "13a".

    >>> tokenizer_for(["床前明月光"], None), tokenizer_for(["to be"], None)
    ('zh', '13a')
    """
    if wanted is not None:
        if wanted not in TOKENIZERS:
            raise InputError(f"--bleu-tokenize must be one of {', '.join(TOKENIZERS)}; got {wanted!r}")
        return wanted
    text = "".join(references[:1000])
    return "zh" if 2 * len(_HAN.findall(text)) > len(re.sub(r"\s", "", text)) else "13a"


def generation_outcome(
    references: Sequence[str],
    predictions: Sequence[str],
    how: Resampling,
    *,
    sources: Sequence[str] | None = None,
    tokenize: str | None = None,
) -> Outcome:
    """Return corpus BLEU and chrF (0 … 100) of predictions against one reference each.

    Sources: Papineni et al. 2002 (BLEU); Popović 2015 (chrF); Post 2018, https://aclanthology.org/W18-6319 (sacrebleu);
    intervals: Koehn 2004, https://aclanthology.org/W04-3250.
    Errors: DataError where a reference is empty.
    """
    empty = [row for row, reference in enumerate(references, 1) if not reference.strip()]
    if empty:
        raise DataError(f"the reference in row {empty[0]} is empty ({len(empty)} such rows): take these rows out")
    chosen = tokenizer_for(references, tokenize)
    measured = metrics(chosen)
    statistics = {name: _statistic(metric) for name, metric in measured.items()}
    outcome = Outcome("generation", len(references), "examples", [])
    for name, metric in measured.items():
        units = _units(metric, predictions, references)
        outcome.figures += figures_of({name: statistics[name]}, units.sum(0), sums_of_units(units, how), how)
    if sources is not None:
        copied = {
            name: float(statistics[name](_units(metric, sources, references).sum(0)))
            for name, metric in measured.items()
        }
        outcome.yardsticks = [Yardstick("copy_source", "the source, copied", copied)]
    blank = sum(not prediction.strip() for prediction in predictions)
    outcome.counts = {"examples": len(references), "empty_predictions": blank}
    outcome.notes.append(f"BLEU splits words by sacrebleu's tokenizer {chosen!r}")
    if blank:
        outcome.notes.append(f"{blank:,} predictions are empty")
    return outcome


def compare_generation(
    references: Sequence[str],
    ours: Sequence[str],
    other: Sequence[str],
    how: Resampling,
    *,
    tokenize: str | None = None,
) -> list[Difference]:
    """Return ours − other for BLEU and chrF, by a bootstrap that draws whole examples."""
    found = []
    for name, metric in metrics(tokenizer_for(references, tokenize)).items():
        first, second = _units(metric, ours, references), _units(metric, other, references)
        found += compare_units({name: _statistic(metric)}, first, second, how)
    return found


def _units(metric: Any, predictions: Sequence[str], references: Sequence[str]) -> Floats:
    """Counts of each example, whose sums make the score of the corpus (as sacrebleu.significance takes them)."""
    rows = metric._extract_corpus_statistics(list(predictions), [list(references)])
    return np.array(rows, np.float64)


def _statistic(metric: Any) -> Statistic:
    def score(sums: Floats) -> Floats:
        rows = np.atleast_2d(sums).round().astype(np.int64).tolist()
        scores = np.array([metric._compute_score_from_stats(row).score for row in rows])
        return scores if sums.ndim > 1 else scores[0]

    return score
