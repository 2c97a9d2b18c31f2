"""Triplet losses: an anchor shall be nearer to its positive than to its negative, by a margin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossmith.errors import InputError, did_you_mean
from lossmith.losses._batch_all import batch_all
from lossmith.losses._items import blank, counted, positive, same_shape, total, wide
from lossmith.losses._spec import LossSpec
from lossmith.losses.contrastive._similarity import check_embeddings, unit
from lossmith.total import Total

DISTANCES = ("euclidean", "squared", "cosine")
MININGS = ("batch_all", "batch_hard", "semi_hard")
AVERAGES = ("nonzero", "all")


def triplet(
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    distance: str = "euclidean",
    margin: float | None = 1.0,
    weights: Tensor | None = None,
) -> Total:
    """Return the triplet loss of given triplets.

    Formula: ``max(0, d(a, p) − d(a, n) + margin)``, or ``log(1 + exp(d(a, p) − d(a, n)))`` where margin is None (soft);
        d is ``‖x − y‖`` (euclidean), ``‖x − y‖²`` (squared) or ``1 − cos(x, y)`` (cosine).
    Shapes: anchors, positives, negatives [..., D] of one shape; weights [...].
    Use: where the negatives are chosen before the batch is made (hard negatives from a search).
    Avoid: with random negatives, of which most soon cost nothing; mined_triplet chooses within the batch.
    Errors: InputError for shapes that differ, an unknown distance, and a margin that is not above 0.
    Source: https://arxiv.org/abs/1503.03832 (FaceNet), https://arxiv.org/abs/1703.07737 (Hermans et al.: soft margin)

    The slope of the Euclidean distance between equal points is taken as 0.

    >>> a, p, n = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 5.5]])
    >>> triplet(a, p, n).mean()  # 5 − 5.5 + 1
    tensor(0.5000)
    """
    _check_options(distance, margin)
    for name, x in (("positives", positives), ("negatives", negatives)):
        same_shape(name, x, anchors.shape, "anchors")
    if anchors.ndim < 1 or not anchors.is_floating_point():
        raise InputError(f"anchors must be [..., D] of floating numbers; got {anchors.dtype} {tuple(anchors.shape)}")
    same_shape("weights", weights, anchors.shape[:-1], "anchors without the last dimension")
    keep = counted(anchors[..., 0], weights)
    a, p, n = (blank(wide(x), keep) for x in (anchors, positives, negatives))
    return total(_hinge(_between(a, p, distance) - _between(a, n, distance), margin), keep, weights)


def _between(x: Tensor, y: Tensor, distance: str) -> Tensor:
    if distance == "cosine":
        return 1 - (unit(x) * unit(y)).sum(-1)
    if distance == "squared":
        return (x - y).square().sum(-1)
    length: Tensor = torch.linalg.vector_norm(x - y, dim=-1)  # torch's slope of it at 0 is 0
    return length


def _hinge(difference: Tensor, margin: float | None) -> Tensor:
    return -logsigmoid(-difference) if margin is None else torch.relu(difference + margin)


def _triplet_reference(
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    distance: str = "euclidean",
    margin: float | None = 1.0,
    weights: Tensor | None = None,
) -> Total:
    w = anchors.new_ones(anchors.shape[:-1]) if weights is None else weights.detach()
    keep = w != 0
    a, p, n, w = anchors[keep], positives[keep], negatives[keep], w[keep]
    near, far = _plain_distance(a, p, distance), _plain_distance(a, n, distance)
    losses = torch.log1p(torch.exp(near - far)) if margin is None else (near - far + margin).clamp(min=0)
    return Total((w * losses).sum(), w.sum())


def _plain_distance(x: Tensor, y: Tensor, distance: str) -> Tensor:
    if distance == "cosine":
        return 1 - torch.cosine_similarity(x, y, dim=-1)
    length: Tensor = torch.linalg.vector_norm(x - y, dim=-1)
    return length if distance == "euclidean" else length**2


def mined_triplet(
    embeddings: Tensor,
    labels: Tensor,
    *,
    mining: str = "batch_all",
    distance: str = "euclidean",
    margin: float | None = 1.0,
    average: str = "nonzero",
    weights: Tensor | None = None,
) -> Total:
    """Return the triplet loss of triplets found in a labelled batch.

    Formula: triplets (a, p, n) with label(a) = label(p) ≠ label(n) and a ≠ p cost what `triplet` says, times wₐ.
        batch_all: every triplet; the weight is Σ wₐ over those that cost more than 0 (average="nonzero"), or over all
        of them ("all"). batch_hard: an anchor with its farthest positive and its nearest negative. semi_hard: each
        anchor with each of its positives, and the nearest negative farther than that positive; where there is none,
        the farthest negative. For the last two the weight is Σ wₐ over the triplets, whatever they cost.
    Shapes: embeddings [N, D], labels [N] of integers, weights [N] (of the anchors). An item of label −100 or weight 0
        is not there, neither as anchor nor as anyone's positive or negative. Not additive.
    Use: for retrieval and verification with many classes of a few examples; batch_hard on clean labels, batch_all or
        semi_hard to begin with and where labels are noisy (the hardest positive is then the mislabelled one).
    Avoid: with one example a class, or one class a batch: nothing is counted.
    Memory: O(N²) for the distances, and 32 MB for the triplets of batch_all, whose N³ never are in memory together.
    Errors: InputError for shapes that do not fit, floating labels, unknown options, and a margin that is not above 0.
    Source: https://arxiv.org/abs/1703.07737 (Hermans et al. 2017: batch all, batch hard, non-zero average, soft
        margin), https://arxiv.org/abs/1503.03832 (FaceNet: semi-hard)

    >>> x = torch.tensor([[0.0], [1.0], [1.5], [4.0]])
    >>> mined_triplet(x, torch.tensor([0, 0, 1, 1]), mining="batch_hard").mean()  # (0.5 + 1.5 + 3 + 0.5) / 4
    tensor(1.3750)
    """
    _check_options(distance, margin, mining, average)
    check_embeddings("embeddings", embeddings)
    for name, x in (("labels", labels), ("weights", weights)):
        same_shape(name, x, embeddings.shape[:1], "the embeddings' rows")
    if labels.is_floating_point():
        raise InputError(f"labels must be integers; got {labels.dtype}")
    keep = counted(labels, weights, labels)
    x = blank(wide(embeddings), keep)
    w = keep.to(x.dtype) if weights is None else torch.where(keep, weights.detach().to(x.dtype), 0)
    if not len(x):
        return Total(x.sum(), w.sum())
    there = keep[:, None] & keep
    same = (labels[:, None] == labels) & there
    near = same & ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    far = ~same & there
    distances = _all_distances(x, distance)
    if mining == "batch_all":
        return batch_all(distances, near, far, w, margin, average == "nonzero")
    return (_batch_hard if mining == "batch_hard" else _semi_hard)(distances, near, far, w, margin)


def _all_distances(x: Tensor, distance: str) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        if distance == "cosine":
            x = unit(x)
            return 1 - x @ x.T
        # By differences: ‖x‖² + ‖y‖² − 2x·y loses the small distances, which are those that mining looks for.
        lengths = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        return lengths if distance == "euclidean" else lengths.square()


def _batch_hard(distances: Tensor, near: Tensor, far: Tensor, w: Tensor, margin: float | None) -> Total:
    some = near.any(1) & far.any(1)
    hardest = distances.masked_fill(~near, -torch.inf).amax(1) - distances.masked_fill(~far, torch.inf).amin(1)
    return total(_hinge(torch.where(some, hardest, 0), margin), some, w)


def _semi_hard(distances: Tensor, near: Tensor, far: Tensor, w: Tensor, margin: float | None) -> Total:
    ascending = distances.masked_fill(~far, torch.inf).sort(1).values
    count = far.sum(1, keepdim=True)
    # The first negative beyond the positive, or the last negative of all.
    rank = torch.searchsorted(ascending.detach(), distances.detach().contiguous(), right=True)
    negative = ascending.gather(1, rank.minimum(count - 1).clamp_min(0))
    chosen = near & (count > 0)
    losses = _hinge(torch.where(chosen, distances - torch.where(chosen, negative, 0), 0), margin)
    return total(losses, chosen, w[:, None].expand_as(losses))


def _mined_reference(
    embeddings: Tensor,
    labels: Tensor,
    *,
    mining: str = "batch_all",
    distance: str = "euclidean",
    margin: float | None = 1.0,
    average: str = "nonzero",
    weights: Tensor | None = None,
) -> Total:
    w = embeddings.new_ones(len(labels)) if weights is None else weights.detach()
    keep = (w != 0) & (labels != -100)
    x, w = embeddings[keep], w[keep]
    d = _plain_distance(x[:, None], x, distance)
    losses, weighing = [d.new_zeros(())], [w.new_zeros(())]
    for a, p, n in _mined(d.detach().tolist(), labels[keep].tolist(), mining):
        difference = d[a, p] - d[a, n]
        loss = torch.log1p(torch.exp(difference)) if margin is None else (difference + margin).clamp(min=0)
        losses.append(w[a] * loss)
        if mining != "batch_all" or average == "all" or loss > 0:
            weighing.append(w[a])
    return Total(torch.stack(losses).sum(), torch.stack(weighing).sum())


def _mined(d: list[list[float]], labels: list[int], mining: str) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    items = range(len(labels))
    for a in items:
        near = [p for p in items if labels[p] == labels[a] and p != a]
        far = sorted((n for n in items if labels[n] != labels[a]), key=d[a].__getitem__)
        if mining == "batch_hard":
            near = sorted(near, key=d[a].__getitem__)[-1:]
        for p in near if far else ():
            beyond = [n for n in far if d[a][n] > d[a][p]]
            chosen = {"batch_all": far, "batch_hard": far[:1], "semi_hard": beyond[:1] or far[-1:]}[mining]
            found += [(a, p, n) for n in chosen]
    return found


def _check_options(distance: str, margin: float | None, mining: str = "batch_all", average: str = "all") -> None:
    options = (("distance", distance, DISTANCES), ("mining", mining, MININGS), ("average", average, AVERAGES))
    for name, value, choices in options:
        if value not in choices:
            hint = did_you_mean(str(value), choices)
            raise InputError(f"{name} must be one of {', '.join(choices)}; got {value!r}.{hint}")
    if margin is not None:
        positive("margin", margin)


def _example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    def normal() -> Tensor:
        return torch.randn(8, 4, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    weights = (torch.rand(8, generator=generator, dtype=torch.float64) + 0.5).to(dtype)
    return {"anchors": normal(), "positives": normal(), "negatives": normal(), "weights": weights}


def _mined_example(generator: torch.Generator, dtype: torch.dtype) -> dict[str, Any]:
    given = _example(generator, dtype)
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3, 2])
    return {"embeddings": given["anchors"], "labels": labels, "weights": given["weights"]}


def _curve(cosines: Tensor) -> Tensor:
    """A unit anchor, its positive at these cosines, a negative at right angles."""
    p = torch.stack([cosines, (1 - cosines.square()).clamp_min(0).sqrt()], -1)
    a, n = torch.zeros_like(p), torch.zeros_like(p)
    a[:, 0] = n[:, 1] = 1
    return torch.stack([triplet(*row).mean() for row in zip(a, p, n, strict=True)])


SPECS: tuple[LossSpec, ...] = (
    LossSpec(
        name="triplet",
        family="triplet",
        fn=triplet,
        reference=_triplet_reference,
        example=_example,
        items=("anchors", "positives", "negatives"),
        variants=tuple({"distance": d, "margin": m} for d in DISTANCES for m in (1.0, None)),
        picture="similarity",
        curve=_curve,
    ),
    LossSpec(
        name="mined_triplet",
        family="triplet",
        fn=mined_triplet,
        reference=_mined_reference,
        example=_mined_example,
        items=("embeddings", "labels"),
        variants=(
            {},
            {"average": "all", "distance": "cosine"},
            {"margin": None, "distance": "squared"},
            {"mining": "batch_hard"},
            {"mining": "batch_hard", "margin": None, "distance": "cosine"},
            {"mining": "semi_hard", "distance": "squared"},
            {"mining": "semi_hard", "margin": None},
        ),
        additive=False,
        picture="similarity",
        curve=_curve,
    ),
)
