"""Models: presets, building, and reaching a model's last hidden states and output head."""

from lossmith.models.build import build_model
from lossmith.models.causality import check_causal
from lossmith.models.head import Head, hidden_and_head, loss_path
from lossmith.models.presets import ENCODERS, PRESETS, Preset, presets_for
from lossmith.models.rows import RowsOut, head_on_rows, rows_path

__all__ = [
    "ENCODERS",
    "PRESETS",
    "Head",
    "Preset",
    "RowsOut",
    "build_model",
    "check_causal",
    "head_on_rows",
    "hidden_and_head",
    "loss_path",
    "presets_for",
    "rows_path",
]
