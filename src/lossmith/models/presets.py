"""Model shapes by name; sizes are those without the embeddings' share of an unusual vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A model shape: a Hugging Face model type, its configuration, and the training options that suit it.

    `vocab_size` is the one that sizes and times are quoted for; a run takes its tokenizer's.
    `scaled_init`: matrices start at std 0.5/√fan_in, embeddings at 0.5, and the head and the projections back into the
    residual stream at zero, so that every block begins as identity and the first loss is ln V exactly.
    """

    model_type: str
    config: dict[str, Any]
    description: str
    block_size: int
    vocab_size: int
    scaled_init: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def _llama(layers: int, width: int, heads: int, kv_heads: int, mlp: int, *, tied: bool) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": mlp,
        "tie_word_embeddings": tied,
    }


# What the speed run of benchmarks/shakespeare.py was tuned with, on two cores.
_NANO: dict[str, Any] = {
    "per_device_train_batch_size": 16,
    "max_steps": 1000,
    "optim": "muon",
    "learning_rate": 0.035,
    "momentum": 0.9,
    "adamw_learning_rate": 0.01,
    "weight_decay": 0.0,
    "adam_beta1": 0.8,
    "adam_beta2": 0.95,
    "lr_scheduler_type": "wsd",
    "decay_fraction": 0.8,
    "warmup_steps": 0.0,
}

PRESETS: dict[str, Preset] = {
    "nano": Preset(
        "apertus",
        _llama(4, 128, 2, 2, 512, tied=False)
        | {"hidden_act": "relu2", "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}},
        "two CPU cores, minutes",
        128,
        1024,
        scaled_init=True,
        options=_NANO,
    ),
    "10m": Preset("llama", _llama(6, 384, 6, 6, 1024, tied=True), "a laptop, an hour", 512, 4096),
    "125m": Preset("llama", _llama(12, 768, 12, 12, 2048, tied=True), "one GPU, a day", 1024, 50304),
    "350m": Preset("llama", _llama(24, 1024, 16, 16, 2816, tied=True), "one big GPU, days", 1024, 50304),
    "1b": Preset("llama", _llama(22, 2048, 32, 8, 5632, tied=False), "several big GPUs, weeks", 2048, 50304),
}


def _bert(layers: int, width: int, heads: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "initializer_range": round(0.02 * (768 / width) ** 0.5, 4),  # BERT's own at its own width, 768
        "hidden_dropout_prob": 0.0,  # every epoch is masked anew: https://arxiv.org/abs/2212.14034, section 4.3
        "attention_probs_dropout_prob": 0.0,
    }


def modern_bert(layers: int, width: int, heads: int) -> dict[str, Any]:
    """Return a ModernBERT's configuration without dropout, for texts that fit its context.

    >>> modern_bert(4, 128, 2)["intermediate_size"]
    192
    """
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 3 * width // 2,
        "global_attn_every_n_layers": 1,  # every layer sees the whole context, which is short
        "initializer_range": round(0.02 * (768 / width) ** 0.5, 4),
        "initializer_cutoff_factor": 3.0,
        "embedding_dropout": 0.0,
        "attention_dropout": 0.0,
        "mlp_dropout": 0.0,
        "cls_token_id": None,
        "sep_token_id": None,
        "classifier_pooling": "mean",  # of a classifier made from it: masked training does not teach [CLS]
    }


# Shakespeare, bpe:1024, 30 % masked, 160 steps, nats a hidden token of held-out text (benchmarks/nano_encoder.py):
# 4.57; a BERT of this depth and width 5.32, a pre-norm one (MegatronBERT) 5.32. Rotary positions begin to look at the
# neighbours at step 70, learned ones not in this time. Of the 10m preset's depth and width, with the default optimizer:
# 5.07, a BERT 5.76 (a unigram model 5.74).
# Without weight decay the weights grow until the tokens drown in the residual stream: fine-tuned with 1,000 labels of
# 15 kinds, a body of 6,000 steps comes to an accuracy of 0.178, one of 2,500 with decay to 0.591
# (finetune_choices.jsonl).
_NANO_ANY: dict[str, Any] = {
    "per_device_train_batch_size": 32,
    "max_steps": 1000,
    "weight_decay": 0.1,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.05,
}
_NANO_MUON = _NANO_ANY | {"optim": "muon", "learning_rate": 0.02, "adamw_learning_rate": 0.007}

ENCODERS: dict[str, Preset] = {
    "nano": Preset("modernbert", modern_bert(4, 128, 2), "two CPU cores, minutes", 128, 1024, options=_NANO_MUON),
    "10m": Preset("modernbert", modern_bert(6, 384, 6), "a laptop, an hour", 512, 4096),
    "125m": Preset("modernbert", modern_bert(17, 768, 12), "one GPU, a day", 512, 50304),
    "350m": Preset("modernbert", modern_bert(33, 1024, 16), "one big GPU, days", 512, 50304),
}
"""The same names for encoders: ModernBERT's shape (arXiv:2412.13663)."""


def _pegasus(layers: int, width: int, heads: int, mlp: int) -> dict[str, Any]:
    return {
        "is_encoder_decoder": True,
        "encoder_layers": layers,
        "decoder_layers": layers,
        "d_model": width,
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": mlp,
        "decoder_ffn_dim": mlp,
        "activation_function": "gelu",
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "init_std": round(0.02 * (768 / width) ** 0.5, 4),
        "scale_embedding": True,
    }


# Titles of Debian packages into French from random weights, 300 steps of 64, nats a held-out token
# (benchmarks/finetune_choices.py shape): this 2.57, MBart 2.62, T5 4.82 (4.06 with smaller embeddings). T5's attention
# knows distances, not places, and does not find in this time which word stands for which.
ENCODER_DECODERS: dict[str, Preset] = {
    "nano": Preset("pegasus", _pegasus(2, 128, 2, 384), "two CPU cores, minutes", 128, 1024, options=_NANO_MUON),
    "10m": Preset("pegasus", _pegasus(4, 256, 4, 1024), "a laptop, an hour", 512, 4096),
    "125m": Preset("pegasus", _pegasus(8, 640, 10, 2560), "one GPU, a day", 512, 50304),
}
"""The same names for --objective span: Pegasus's shape (arXiv:1912.08777), pre-norm, without dropout."""


def _electra(layers: int, width: int, heads: int, embedding: int) -> dict[str, Any]:
    return _bert(layers, width, heads) | {"embedding_size": embedding}


# Muon makes every step of a matrix equally long, also while its gradient is noise, which a discriminator's is for long.
# After 400 steps on WordNet's definitions its loss was at most 0.006 nats a token below the entropy of the share of
# replaced tokens, with adamw at this rate 0.028 (demo_electra.py --rates).
_NANO_ADAMW = _NANO_ANY | {"optim": "adamw", "learning_rate": 0.0015}

DISCRIMINATORS: dict[str, Preset] = {
    "nano": replace(ENCODERS["nano"], options=_NANO_ADAMW),
    "10m": Preset("electra", _electra(6, 384, 6, 128), "a laptop, an hour", 512, 4096),
    "125m": Preset("electra", _electra(12, 768, 12, 768), "one GPU, a day", 512, 50304),
    "350m": Preset("electra", _electra(24, 1024, 16, 1024), "one big GPU, days", 512, 50304),
}
"""The same names for --objective replaced_token: ELECTRA shapes (arXiv:2003.10555, appendix B), nano as above."""


def presets_for(architecture: str) -> dict[str, Preset]:
    """Return the presets of an architecture: causal Llama, seq2seq Pegasus, replaced_token ELECTRA, else ModernBERT.

    >>> presets_for("masked")["nano"].model_type
    'modernbert'
    """
    special = {"causal": PRESETS, "seq2seq": ENCODER_DECODERS, "replaced_token": DISCRIMINATORS}
    return special.get(architecture, ENCODERS)
