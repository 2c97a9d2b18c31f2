"""Models: presets, building, and reaching a model's last hidden states and output head."""

from lossmith.models.build import build_model
from lossmith.models.causality import check_causal
from lossmith.models.head import Head, hidden_and_head, loss_path
from lossmith.models.presets import PRESETS, Preset

__all__ = ["PRESETS", "Head", "Preset", "build_model", "check_causal", "hidden_and_head", "loss_path"]
