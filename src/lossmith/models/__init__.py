"""Models: presets, building, and reaching a model's last hidden states and output head."""

from lossmith.models.build import build_model
from lossmith.models.causality import check_causal
from lossmith.models.head import Head, hidden_and_head, loss_path
from lossmith.models.presets import ENCODER_DECODERS, ENCODERS, PRESETS, Preset, presets_for
from lossmith.models.rows import RowsOut, head_on_rows, rows_path
from lossmith.models.seq2seq import Seq2SeqOut, bodies, encode_decode, seq2seq_path

__all__ = [
    "ENCODERS",
    "ENCODER_DECODERS",
    "PRESETS",
    "Head",
    "Preset",
    "RowsOut",
    "Seq2SeqOut",
    "bodies",
    "build_model",
    "check_causal",
    "encode_decode",
    "head_on_rows",
    "hidden_and_head",
    "loss_path",
    "presets_for",
    "rows_path",
    "seq2seq_path",
]
