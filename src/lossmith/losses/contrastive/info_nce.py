"""InfoNCE: the cross-entropy of picking one's own key among all; symmetric it is CLIP's, within both views SimCLR's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lossmith.errors import InputError
from lossmith.losses._items import IGNORED, blank, in_range, same_shape
from lossmith.losses._spec import LossSpec
from lossmith.losses.contrastive._aligned import aligned
from lossmith.losses.contrastive._both_ways import both_ways_total
from lossmith.losses.contrastive._pairs import Pairs, pairs_total
from lossmith.losses.contrastive._similarity import check_pairs, check_scalar, pair_at, unit
from lossmith.total import Total


def info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float | Tensor = 0.05,
    positives: Tensor | None = None,
    labels: Tensor | None = None,
    key_labels: Tensor | None = None,
    symmetric: bool = False,
    within: bool = False,
    weights: Tensor | None = None,
    ids: Tensor | None = None,
    max_memory: int | None = None,
) -> Total:
    """Return the cross-entropy of finding each query's own key among all keys, by cosine similarity.

    Formula: ``zᵢⱼ = cos(qᵢ, kⱼ)/temperature``; query i costs ``logsumexpⱼ zᵢⱼ − zᵢₚ`` nats, p its positive, and weighs
        ``wᵢ``. With labels: ``logsumexpⱼ zᵢⱼ − mean z`` over all keys of its label. within: the other queries are
        negatives too. symmetric: half of that, and half of the same with queries and keys exchanged: CLIP's loss; with
        within as well, SimCLR's NT-Xent.
    Shapes: queries [N, D], keys [M, D], M ≥ N: key i belongs to query i, and keys beyond N are hard negatives; or
        positives int64[N] (each query's key), or labels [N] and key_labels [M], of any M. temperature a number or a
        tensor without dimensions (it gets its gradient: Temperature keeps it in CLIP's range), weights [N], ids [M]:
        of two with the same id (one caption, one document), neither is the other's negative. A pair of weight 0 is not
        there; a query whose label no key has weighs nothing. Not additive: a smaller batch has fewer negatives.
    Use: for sentence embeddings (SimCSE: 0.05), image and text (CLIP: learned, from 0.07), retrieval.
    Avoid: over micro-batches: accumulating makes no larger batch; with duplicates and no ids: they are false negatives.
    Memory: beside embeddings and their gradients, rows of the N×M similarities (max_memory: as linear_cross_entropy).
    Errors: InputError for shapes that do not fit, positives out of range, and a temperature that is not above 0.
    Source: https://arxiv.org/abs/1807.03748 (van den Oord et al. 2018), https://arxiv.org/abs/2103.00020 (CLIP,
        figure 3), https://arxiv.org/abs/2002.05709 (SimCLR)

    >>> x = torch.ones(5, 2)
    >>> info_nce(x, x).mean()  # all alike: ln 5
    tensor(1.6094)
    >>> info_nce(x, x, symmetric=True, within=True).mean()  # NT-Xent: ln(2·5 − 1)
    tensor(2.1972)
    """
    check_scalar("temperature", temperature)
    if positives is not None or labels is not None:
        if symmetric or within or ids is not None:
            raise InputError(
                "symmetric, within and ids need key i to belong to query i; leave positives and labels out"
            )
        return _one_way(queries, keys, temperature, positives, labels, key_labels, weights, max_memory)
    if key_labels is not None:
        raise InputError("key_labels needs labels, the queries' own")
    check_pairs(queries, keys, weights, ids)
    if weights is None and ids is None and not within and len(queries):  # everyone is there: nothing to mask
        q, k = unit(queries, 1 / temperature), unit(keys)
        return both_ways_total(q, k, max_memory) if symmetric else _all_keys(q, k, None, None, max_memory)
    rows = aligned("info_nce", queries, keys, temperature, weights, ids, max_memory)
    return rows(symmetric=symmetric, within=within)


def _all_keys(q: Tensor, k: Tensor, own: Tensor | None, w: Tensor | None, max_memory: int | None) -> Total:
    """Every key is a candidate of every query; own: each query's key (None: i of i)."""
    none = torch.zeros(1, dtype=torch.long, device=q.device)
    own = torch.arange(len(q), device=q.device) if own is None else own
    kept = torch.ones(1, dtype=torch.bool, device=q.device).expand(len(k))
    pairs = Pairs(own, none.expand(len(q)), none.expand(len(k)), kept)
    return pairs_total("info_nce_all", q, k, pairs, q.new_ones(len(q)) if w is None else w, None, max_memory)


def _one_way(
    queries: Tensor,
    keys: Tensor,
    temperature: float | Tensor,
    positives: Tensor | None,
    labels: Tensor | None,
    key_labels: Tensor | None,
    weights: Tensor | None,
    max_memory: int | None,
) -> Total:
    """Positives by index or by label; all keys are there, whoever's weight is 0."""
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1]:
        raise InputError(
            f"queries [N, D] and keys [M, D] must share D; got {tuple(queries.shape)} and {tuple(keys.shape)}"
        )
    same_shape("weights", weights, queries.shape[:1], "the queries' rows")
    marks = _marks(queries, keys, positives, labels, key_labels)
    wide = unit(queries[:0]).dtype
    w = queries.new_ones(len(queries), dtype=wide) if weights is None else weights.detach().to(wide)
    w = torch.where(marks != IGNORED, w, 0)
    q, k = unit(blank(queries, w != 0), 1 / temperature), unit(keys)
    if key_labels is None:
        return _all_keys(q, k, marks.clamp_min(0), w, max_memory)
    pairs = Pairs(torch.zeros_like(marks), marks, key_labels, torch.ones_like(key_labels, dtype=torch.bool))
    return pairs_total("labelled", q, k, pairs, w, None, max_memory)


def _marks(
    queries: Tensor, keys: Tensor, positives: Tensor | None, labels: Tensor | None, key_labels: Tensor | None
) -> Tensor:
    """Return what tells each query its positives: the index of a key, or a label."""
    if positives is None:
        if labels is None or key_labels is None:
            raise InputError("labels [N] and key_labels [M] belong together; got only one of them")
        same_shape("labels", labels, queries.shape[:1], "the queries' rows")
        same_shape("key_labels", key_labels, keys.shape[:1], "the keys' rows")
        return labels
    if labels is not None or key_labels is not None:
        raise InputError("give positives (indices of keys) or labels, not both")
    same_shape("positives", positives, queries.shape[:1], "the queries' rows")
    in_range("positives", positives, len(keys))
    return positives


def _reference(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float | Tensor = 0.05,
    symmetric: bool = False,
    within: bool = False,
    weights: Tensor | None = None,
    ids: Tensor | None = None,
    max_memory: int | None = None,
) -> Total:
    n = len(queries)
    ids = torch.arange(len(keys)) if ids is None else ids
    w = queries.new_ones(n) if weights is None else weights
    there = torch.cat([w != 0, torch.ones(len(keys) - n, dtype=torch.bool)])
    x, y, ids, w = normalize(queries[there[:n]]), normalize(keys[there]), ids[there], w[there[:n]]
    n = len(x)
    value = w.new_zeros(())
    for a, b, a_ids, b_ids in [(x, y, ids[:n], ids), (y[:n], x, ids[:n], ids[:n])][: 1 + symmetric]:
        logits = a @ b.T / temperature
        masked = (a_ids[:, None] == b_ids) & ~torch.eye(n, len(b), dtype=torch.bool)
        logits = logits.masked_fill(masked, -torch.inf)
        if within:  # a's own view: all of it but what shares an id
            other, other_ids = (x, ids[:n]) if a is x else (y, ids)
            inside = (a @ other.T / temperature).masked_fill(a_ids[:, None] == other_ids, -torch.inf)
            logits = torch.cat([logits, inside], 1)
        value = value - (w * torch.log_softmax(logits, 1).diagonal()).sum() / (1 + symmetric)
    return Total(value, w.sum())


def _example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    queries, keys = (torch.randn(9, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    weights = torch.rand(9, generator=generator, dtype=torch.float64) + 0.5
    leaves = {name: x.to(dtype).requires_grad_() for name, x in (("queries", queries), ("keys", keys))}
    return leaves | {"weights": weights.to(dtype)}


def _curve(cosines: Tensor) -> Tensor:
    pairs = [pair_at(cosine) for cosine in cosines]
    return torch.stack([torch.logsumexp(q @ k.T / 0.05, 1)[0] - (q @ k[0] / 0.05)[0] for q, k in pairs])


SPECS: tuple[LossSpec, ...] = (
    LossSpec(
        "info_nce",
        "contrastive",
        info_nce,
        _reference,
        _example,
        ("queries", "keys", "ids"),
        (
            {},
            {"symmetric": True, "temperature": 0.5},
            {"symmetric": True, "within": True, "temperature": 0.3, "max_memory": 300},
            {"ids": torch.tensor([0, 1, 1, 2, 3, 4, 5, 0, 6]), "temperature": 0.2},
        ),
        additive=False,
        picture="similarity",
        curve=_curve,
    ),
)
