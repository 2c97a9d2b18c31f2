"""Contrastive losses: what belongs together is brought near, what does not is pushed away."""

from __future__ import annotations

from lossmith.losses._spec import LossSpec
from lossmith.losses.contrastive import cosent as _cosent
from lossmith.losses.contrastive import info_nce as _info_nce
from lossmith.losses.contrastive import pairwise as _pairwise
from lossmith.losses.contrastive.cosent import cosent
from lossmith.losses.contrastive.info_nce import info_nce
from lossmith.losses.contrastive.pairwise import decoupled, siglip, supervised_contrastive

__all__ = ["SPECS", "cosent", "decoupled", "info_nce", "siglip", "supervised_contrastive"]

SPECS: tuple[LossSpec, ...] = (*_info_nce.SPECS, *_pairwise.SPECS, *_cosent.SPECS)
