"""Contrastive losses of pairs and of labelled batches: SigLIP, decoupled contrastive, supervised contrastive."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from lossmith.errors import InputError
from lossmith.losses._items import blank, counted, same_shape
from lossmith.losses._spec import LossSpec
from lossmith.losses.contrastive._aligned import aligned
from lossmith.losses.contrastive._pairs import Pairs, pairs_total
from lossmith.losses.contrastive._similarity import (
    check_embeddings,
    check_pairs,
    check_scalar,
    kept_pairs,
    pair_at,
    unit,
)
from lossmith.total import Total


def siglip(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    bias: float | Tensor = -10.0,
    weights: Tensor | None = None,
    ids: Tensor | None = None,
    max_memory: int | None = None,
) -> Total:
    """Return the sigmoid loss of every pair of a batch, asked whether this key is the query's own or another's.

    Formula: ``zᵢⱼ = cos(qᵢ, kⱼ)/temperature + bias``; query i costs ``−log σ(zᵢᵢ) − Σ_{j≠i} log σ(−zᵢⱼ)`` nats and
        weighs ``wᵢ``, so that the mean divides by the number of queries, not of pairs.
    Shapes: queries [N, D], keys [M, D] with M ≥ N (key i belongs to query i, keys beyond N are negatives only),
        temperature and bias numbers or tensors without dimensions (which get their gradients), weights [N], ids [M].
        A pair of weight 0 is not there: its key is nobody's negative either. Of two keys with the same id, the other is
        left out (neither positive nor negative). Not additive: splitting a batch takes negatives away.
    Use: for image and text, or two languages, in large batches: no softmax over the batch, so no synchronisation of it.
        The paper starts at temperature 1/10 and bias −10, both learned (the bias keeps the first steps small).
    Avoid: for small batches of near-duplicates without ids; where a ranking by softmax is what you measure: info_nce.
    Memory: beside embeddings and their gradients, rows of the N×M similarities (max_memory: as linear_cross_entropy).
    Errors: InputError for shapes that do not fit and a temperature that is not above 0.
    Source: https://arxiv.org/abs/2303.15343 (Zhai et al. 2023, algorithm 1)

    >>> x = torch.eye(2)
    >>> siglip(x, x, temperature=0.1, bias=-10.0).mean()  # ln 2 + ln(1 + exp(−10))
    tensor(0.6932)
    """
    check_pairs(queries, keys, weights, ids)
    check_scalar("temperature", temperature)
    check_scalar("bias", bias, above_zero=False)
    w, kept = kept_pairs(queries, keys, weights)
    n = len(queries)
    groups = torch.arange(len(keys), device=keys.device) if ids is None else ids
    pairs = Pairs(torch.arange(n, device=keys.device), groups[:n], groups, kept)
    q, k = unit(blank(queries, kept[:n])) / temperature, unit(blank(keys, kept))
    offset = bias if isinstance(bias, Tensor) else q.new_full((), bias)
    return pairs_total("sigmoid", q, k, pairs, w, offset, max_memory)


def _siglip_reference(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    bias: float | Tensor = -10.0,
    weights: Tensor | None = None,
    ids: Tensor | None = None,
) -> Total:
    queries, keys, ids, w = _there(queries, keys, ids, weights)
    z = normalize(queries) @ normalize(keys).T / temperature + bias
    own = torch.eye(len(queries), len(keys), dtype=torch.bool)
    losses = -logsigmoid(torch.where(own, z, -z))
    losses = torch.where(own | (ids[: len(queries), None] != ids), losses, 0)
    return Total((w * losses.sum(1)).sum(), w.sum())


def _there(
    queries: Tensor, keys: Tensor, ids: Tensor | None, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n = len(queries)
    w = queries.new_ones(n) if weights is None else weights.detach()
    ids = torch.arange(len(keys)) if ids is None else ids
    kept = torch.cat([w != 0, torch.ones(len(keys) - n, dtype=torch.bool)])
    return queries[kept[:n]], keys[kept], ids[kept], w[kept[:n]]


def decoupled(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    symmetric: bool = False,
    within: bool = False,
    weights: Tensor | None = None,
    ids: Tensor | None = None,
    max_memory: int | None = None,
) -> Total:
    """Return the decoupled contrastive loss: InfoNCE whose denominator leaves the positive out.

    Formula: ``zᵢⱼ = cos(qᵢ, kⱼ)/temperature``; query i costs ``logsumexp_{j≠i} zᵢⱼ − zᵢᵢ`` nats and weighs ``wᵢ``; it
        can be negative. within: the other queries are negatives too. symmetric: half of that, and half of the same with
        queries and keys exchanged. The paper's loss over two views (its L_DC) is symmetric=True with within=True.
    Shapes: queries [N, D], keys [M, D] with M ≥ N (key i belongs to query i, keys beyond N are negatives only),
        temperature a number or a tensor without dimensions, weights [N], ids [M]: two with the same id are no negatives
        of each other. A pair of weight 0 is not there; a query without any negative weighs nothing. Not additive.
    Use: for small batches (32 to 512), where InfoNCE's own positive in its denominator shrinks the gradient.
    Avoid: for large batches, where it does what info_nce does; where the loss is read as a likelihood: it is none.
    Memory: beside embeddings and their gradients, rows of the N×M similarities (max_memory: as linear_cross_entropy).
    Errors: InputError for shapes that do not fit and a temperature that is not above 0.
    Source: https://arxiv.org/abs/2110.06848 (Yeh et al. 2022, definition 1)

    >>> x = torch.ones(5, 2)
    >>> decoupled(x, x).mean()  # all alike: ln(5 − 1)
    tensor(1.3863)
    """
    check_pairs(queries, keys, weights, ids)
    check_scalar("temperature", temperature)
    rows = aligned("decoupled", queries, keys, temperature, weights, ids, max_memory)
    return rows(symmetric=symmetric, within=within)


def _decoupled_reference(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    symmetric: bool = False,
    within: bool = False,
    weights: Tensor | None = None,
    ids: Tensor | None = None,
) -> Total:
    queries, keys, ids, w = _there(queries, keys, ids, weights)
    n = len(queries)
    x, y = normalize(queries), normalize(keys)
    views = [(x, y, ids), (y[:n], x, ids[:n])][: 1 + symmetric]
    value, weight = w.new_zeros(()), w.new_zeros(())
    for anchors, others, their_ids in views:
        candidates = torch.cat([x, y]) if within else others
        apart = ids[:n, None] != (torch.cat([ids[:n], ids]) if within else their_ids)
        scores = torch.where(apart, anchors @ candidates.T / temperature, -torch.inf)
        some = apart.any(1)
        losses = torch.logsumexp(scores[some], 1) - ((x * y[:n]).sum(1) / temperature)[some]
        value, weight = value + (w[some] * losses).sum() / len(views), weight + w[some].sum() / len(views)
    return Total(value, weight)


def supervised_contrastive(
    embeddings: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    weights: Tensor | None = None,
    max_memory: int | None = None,
) -> Total:
    """Return the supervised contrastive loss: each item towards all others of its label, away from the rest.

    Formula: ``zᵢⱼ = cos(xᵢ, xⱼ)/temperature``, P(i) the others of i's label; item i costs
        ``−1/|P(i)|·Σ_{p∈P(i)} (zᵢₚ − logsumexp_{j≠i} zᵢⱼ)`` nats (the paper's L_out) and weighs ``wᵢ``.
    Shapes: embeddings [N, D], labels [N] of integers, temperature a number or a tensor without dimensions, weights [N].
        An item of label −100 or weight 0 is not there, as anchor or as anyone's candidate; an anchor whose label nobody
        shares weighs nothing (it stays a candidate). Views of one example are rows of one label. Not additive.
    Use: to shape embeddings by class before a linear classifier, and with few examples a class as an auxiliary loss.
    Avoid: where most labels occur once in a batch (nothing is counted); for pairs without labels: info_nce.
    Memory: beside embeddings and their gradients, rows of the N×N similarities (max_memory: as linear_cross_entropy).
    Errors: InputError for shapes that do not fit, floating labels, and a temperature that is not above 0.
    Source: https://arxiv.org/abs/2004.11362 (Khosla et al. 2020, equation 2)

    >>> supervised_contrastive(torch.ones(4, 2), torch.tensor([0, 0, 1, 1])).mean()  # all alike: ln(4 − 1)
    tensor(1.0986)
    """
    check_embeddings("embeddings", embeddings)
    check_scalar("temperature", temperature)
    for name, x in (("labels", labels), ("weights", weights)):
        same_shape(name, x, embeddings.shape[:1], "the embeddings' rows")
    if labels.is_floating_point():
        raise InputError(f"labels must be integers; got {labels.dtype}")
    keep = counted(labels, weights, labels)
    x = unit(blank(embeddings, keep))
    w = keep.to(x.dtype) if weights is None else torch.where(keep, weights.detach().to(x.dtype), 0)
    pairs = Pairs(torch.arange(len(x), device=x.device), labels, labels, keep)
    return pairs_total("supervised", x / temperature, x, pairs, w, None, max_memory)


def _supervised_reference(
    embeddings: Tensor, labels: Tensor, *, temperature: float | Tensor = 0.1, weights: Tensor | None = None
) -> Total:
    w = embeddings.new_ones(len(labels)) if weights is None else weights.detach()
    keep = (w != 0) & (labels != -100)
    x, labels, w = normalize(embeddings[keep]), labels[keep], w[keep]
    z = x @ x.T / temperature
    itself = torch.eye(len(x), dtype=torch.bool)
    positives = (labels[:, None] == labels) & ~itself
    log_probability = z - torch.logsumexp(z.masked_fill(itself, -torch.inf), 1, keepdim=True)
    some = positives.any(1)
    losses = -torch.where(positives, log_probability, 0).sum(1)[some] / positives.sum(1)[some]
    return Total((w[some] * losses).sum(), w[some].sum())


def _pairs_example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return {
        "queries": normal(7, 5).requires_grad_(),
        "keys": normal(7, 5).requires_grad_(),
        "temperature": torch.tensor(0.3, dtype=dtype, requires_grad=True),
        "weights": (torch.rand(7, generator=generator, dtype=torch.float64) + 0.5).to(dtype),
    }


def _siglip_example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    return _pairs_example(generator, dtype) | {"bias": torch.tensor(-1.5, dtype=dtype, requires_grad=True)}


def _labels_example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    pairs = _pairs_example(generator, dtype)
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3])
    return {"embeddings": pairs.pop("queries"), "labels": labels} | {k: x for k, x in pairs.items() if k != "keys"}


def _supervised_curve(cosines: Tensor) -> Tensor:
    def at(c: Tensor) -> Tensor:
        query, keys = pair_at(c)
        flat = torch.cat([query, keys[:1]])
        x = torch.nn.functional.pad(flat, (0, 1))  # the negative is at right angles to both
        return supervised_contrastive(torch.cat([x, x.new_tensor([[0.0, 0.0, 1.0]])]), torch.tensor([0, 0, 1])).mean()

    return torch.stack([at(c) for c in cosines])


_IDS = torch.tensor([0, 1, 0, 2, 3, 1, 4])
_ITEMS = ("queries", "keys", "ids")
SPECS: tuple[LossSpec, ...] = (
    LossSpec(
        name="siglip",
        family="contrastive",
        fn=siglip,
        reference=_siglip_reference,
        example=_siglip_example,
        items=_ITEMS,
        variants=({}, {"temperature": 0.1, "bias": -10.0}, {"ids": _IDS}),
        additive=False,
        picture="similarity",
        curve=lambda cosines: torch.stack([siglip(*pair_at(c)).mean() for c in cosines]),
    ),
    LossSpec(
        name="decoupled",
        family="contrastive",
        fn=decoupled,
        reference=_decoupled_reference,
        example=_pairs_example,
        items=_ITEMS,
        variants=({}, {"symmetric": True}, {"within": True, "ids": _IDS}, {"symmetric": True, "within": True}),
        additive=False,
        picture="similarity",
        curve=lambda cosines: torch.stack([decoupled(*pair_at(c)).mean() for c in cosines]),
    ),
    LossSpec(
        name="supervised_contrastive",
        family="contrastive",
        fn=supervised_contrastive,
        reference=_supervised_reference,
        example=_labels_example,
        items=("embeddings", "labels"),
        additive=False,
        picture="similarity",
        curve=_supervised_curve,
    ),
)
