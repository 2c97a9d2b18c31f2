"""A tag to each word: accuracy over words, and precision, recall and F1 of whole entities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from lossmith.evaluate.bootstrap import Floats, Resampling, Statistic, sums_of_units
from lossmith.evaluate.outcome import Difference, Outcome, Yardstick, compare_units, figures_of

Entity = tuple[str, int, int]  # type, first word, last word


def first_places(owners: Sequence[int | None]) -> dict[int, int]:
    """Return for each word the place of its first token, from the word that each token belongs to (None: to none).

    >>> first_places([None, 0, 0, 1, None])
    {1: 3, 0: 1}
    """
    return {owner: place for place, owner in reversed(list(enumerate(owners))) if owner is not None}


def entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities of BIO tags (also BIOES and IOB1, leniently): an I- of another type than before begins one.

    Source: conlleval, https://www.clips.uantwerpen.be/conll2002/ner/; the same spans as seqeval's default mode.

    >>> entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    [('PER', 0, 1), ('LOC', 3, 3), ('LOC', 4, 4)]
    """
    found: list[Entity] = []
    kind, start = "", 0
    for i, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        inside = prefix in ("I", "E") and name == kind and bool(kind)
        if kind and not inside:
            found.append((kind, start, i - 1))
            kind = ""
        if not inside and prefix in ("B", "I", "S", "E") and name:
            kind, start = name, i
    return found


def is_bio(tags: Sequence[str]) -> bool:
    """Tell whether tags mark entities: O, and B-, I-, E- or S- with a type.

    >>> is_bio(["O", "B-PER"]), is_bio(["NOUN", "VERB"])
    (True, False)
    """
    return all(tag == "O" or tag[:2] in ("B-", "I-", "E-", "S-") for tag in tags) and any(tag != "O" for tag in tags)


def tagging_outcome(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], how: Resampling) -> Outcome:
    """Return accuracy over words and, where tags mark entities, their F1; the bootstrap draws whole rows.

    An entity is right when type, first and last word are. Baseline: the most frequent tag everywhere.
    """
    counts = Counter(tag for row in true for tag in row)
    bio = is_bio(list(counts))
    units, statistics = _units(true, predicted, bio), _statistics(bio)
    figures = figures_of(statistics, units.sum(0), sums_of_units(units, how), how)
    outcome = Outcome("tagging", len(true), "examples", figures)
    outcome.counts = {"examples": len(true), "words": sum(counts.values()), "tags": len(counts)}
    most = max(counts, key=lambda tag: counts[tag])
    sums = _units(true, [[most] * len(row) for row in true], bio).sum(0)
    found = {name: float(statistic(sums)) for name, statistic in statistics.items()}
    outcome.yardsticks = [Yardstick("majority", f"always {most}", found)]
    outcome.per_class = _per_class(true, predicted, bio)
    return outcome


def compare_tagging(
    true: Sequence[Sequence[str]], ours: Sequence[Sequence[str]], other: Sequence[Sequence[str]], how: Resampling
) -> list[Difference]:
    """Return ours − other for each figure, by a bootstrap that draws whole rows (sentences)."""
    bio = is_bio([tag for row in true for tag in row])
    return compare_units(_statistics(bio), _units(true, ours, bio), _units(true, other, bio), how)


def _units(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], bio: bool) -> Floats:
    """Columns: words right, words, and of entities: right, labelled, predicted."""
    rows = []
    for labels, guesses in zip(true, predicted, strict=True):
        right = sum(a == b for a, b in zip(labels, guesses, strict=True))
        row = [right, len(labels)]
        if bio:
            ours, theirs = set(entities(guesses)), set(entities(labels))
            row += [len(ours & theirs), len(theirs), len(ours)]
        rows.append(row)
    return np.array(rows, np.float64)


def _part(part: Floats, whole: Floats) -> Floats:
    share: Floats = part / np.where(whole > 0, whole, 1)
    return share


def _statistics(bio: bool) -> dict[str, Statistic]:
    accuracy: dict[str, Statistic] = {"accuracy": lambda s: s[..., 0] / s[..., 1]}
    if not bio:
        return accuracy
    return {
        "entity_f1": lambda s: _part(2 * s[..., 2], s[..., 3] + s[..., 4]),
        "entity_precision": lambda s: _part(s[..., 2], s[..., 4]),
        "entity_recall": lambda s: _part(s[..., 2], s[..., 3]),
        **accuracy,
    }


def _per_class(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], bio: bool) -> list[dict[str, object]]:
    """By type of entity, or by tag where tags mark none."""
    hits, labelled, guessed = Counter[str](), Counter[str](), Counter[str]()
    for labels, guesses in zip(true, predicted, strict=True):
        ours, theirs = (
            (set(entities(tags)) if bio else {(tag, i, i) for i, tag in enumerate(tags)}) for tags in (guesses, labels)
        )
        hits.update(kind for kind, *_ in ours & theirs)
        labelled.update(kind for kind, *_ in theirs)
        guessed.update(kind for kind, *_ in ours)
    return [
        {
            "label": kind,
            "precision": hits[kind] / max(guessed[kind], 1),
            "recall": hits[kind] / max(labelled[kind], 1),
            "f1": 2 * hits[kind] / max(guessed[kind] + labelled[kind], 1),
            "labelled": labelled[kind],
            "predicted": guessed[kind],
        }
        for kind in sorted({*labelled, *guessed})
    ]
