"""Query i and key i belong together: one way or both, over the keys or over both views, without whom weighs nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lossmith.losses._items import blank
from lossmith.losses.contrastive._pairs import Pairs, pairs_total
from lossmith.losses.contrastive._similarity import kept_pairs, unit
from lossmith.total import Total


def aligned(
    rows: str,
    queries: Tensor,
    keys: Tensor,
    temperature: float | Tensor,
    weights: Tensor | None,
    ids: Tensor | None,
    max_memory: int | None,
) -> Callable[..., Total]:
    """Return total(symmetric=, within=): the loss `rows` (of _pairs.ROWS) of queries against keys, by cosine.

    within: an anchor's own view are candidates too. symmetric: half one way, half with queries and keys exchanged.
    """
    w, kept = kept_pairs(queries, keys, weights)
    n = len(queries)
    groups = torch.arange(len(keys), device=keys.device) if ids is None else ids
    own = torch.arange(n, device=keys.device)
    q, k = unit(blank(queries, kept[:n])), unit(blank(keys, kept))
    views = [(q, kept[:n], groups[:n]), (k, kept, groups)]

    def one_way(anchors: Tensor, candidates: list[tuple[Tensor, Tensor, Tensor]], share: float) -> Total:
        c, there, their_groups = (torch.cat(parts) for parts in zip(*candidates, strict=True))
        pairs = Pairs(own, groups[:n], their_groups, there)
        return pairs_total(rows, anchors / temperature, c, pairs, w * share, None, max_memory)

    def both(symmetric: bool, within: bool) -> Total:
        share = 1 / (1 + symmetric)
        forth = one_way(q, views[1:] + views[:1] * within, share)
        return forth + one_way(k[:n], views[:1] + views[1:] * within, share) if symmetric else forth

    return both
