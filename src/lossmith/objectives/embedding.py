"""Embeddings of texts: pooled hidden states, which texts are the same, and which stand near which."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

POOLINGS = ("mean", "cls")


def name_of_text(tokens: np.ndarray) -> int:
    """Return 63 bits that are the same for equal texts, on every rank, and otherwise differ."""
    digest = hashlib.blake2b(np.ascontiguousarray(tokens, np.int64).tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def linked(links: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return for each name the representative of all that are linked with it, directly or through others.

    >>> linked([(1, 2), (3, 4), (2, 5)])
    {1: 5, 2: 5, 3: 4, 4: 4, 5: 5}
    """
    above: dict[int, int] = {}

    def top(name: int) -> int:
        above.setdefault(name, name)
        while above[name] != name:
            above[name] = above[above[name]]
            name = above[name]
        return name

    for one, other in links:
        above[top(one)] = top(other)
    return {name: top(name) for name in sorted(above)}


def key_groups(names: Sequence[Sequence[int]], pairs: int) -> list[int]:
    """Return a number for each key; those with the same one are not each other's negatives.

    names: of every rank, own first, the texts of its rows: `pairs` anchors, as many partners, then hard negatives. The
    keys are all but the anchors. Texts that pairs link, and equal ones, have the same number.

    >>> key_groups([[7, 8, 7, 9, 5, 8]], 2)  # 7 belongs to itself, 8 to 9; the second hard negative is an anchor
    [7, 9, 5, 9]
    """
    found = linked((row[i], row[pairs + i]) for row in names for i in range(pairs))
    return [found.get(name, name) for row in names for name in row[pairs:]]


def key_ids(names: Sequence[Tensor], pairs: int) -> Tensor | None:
    """Return `key_groups` of text ids [R] of every rank as a tensor; None where no two keys are alike.

    >>> key_ids([torch.tensor([1, 2, 3, 4])], 2) is None, key_ids([torch.tensor([1, 2, 3, 3])], 2)
    (True, tensor([3, 3]))
    """
    groups = key_groups([row.tolist() for row in names], pairs)
    return None if len(set(groups)) == len(groups) else torch.tensor(groups, device=names[0].device)


def nearest(vectors: Tensor, first: int, count: int) -> list[tuple[int, float]]:
    """Return the rows nearest to row `first` by cosine, itself left out, as (row, cosine), the nearest first."""
    unit = torch.nn.functional.normalize(vectors.float(), dim=-1)
    cosines = (unit @ unit[first]).tolist()
    rows = sorted((row for row in range(len(cosines)) if row != first), key=lambda row: -cosines[row])
    return [(row, cosines[row]) for row in rows[:count]]
