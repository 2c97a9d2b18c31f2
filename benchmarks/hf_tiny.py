"""Tiny configurations of whatever transformers knows: fields shrunk by their name, exceptions in one table."""

from __future__ import annotations

from typing import Any

import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

WIDTH, HEADS, HEAD_WIDTH, INNER, LAYERS, VOCABULARY, POSITIONS = 64, 4, 16, 48, 2, 101, 128

NAMES: dict[int, str] = {
    WIDTH: "hidden_size d_model n_embd dim embedding_size word_embed_proj_dim emb_dim embedding_dim embed_dim "
    "input_embedding_size output_embedding_size lru_width hidden_size_global attention_hidden_size dim_model out_hidden_size",
    HEADS: "num_attention_heads num_heads n_head n_heads attention_heads decoder_attention_heads encoder_attention_heads "
    "num_encoder_attention_heads num_decoder_attention_heads swa_num_attention_heads",
    2: "num_key_value_heads swa_num_key_value_heads num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers "
    "num_encoder_layers num_decoder_layers depth num_experts_per_tok moe_topk moe_k",
    HEAD_WIDTH: "head_dim v_head_dim qk_nope_head_dim d_kv d_head linear_key_head_dim linear_value_head_dim attention_head_size "
    "swa_head_dim kv_channels dim_head attention_head_dim",
    INNER: "intermediate_size ffn_dim moe_intermediate_size decoder_ffn_dim encoder_ffn_dim shared_expert_intermediate_size "
    "ffn_hidden_size shared_intermediate_size dense_intermediate_size d_inner d_ff dff dim_ff feed_forward_size hidden_dim "
    "expert_ffn_hidden_size moe_shared_expert_intermediate_size shared_experts_intermediate_size intermediate_size_mlp",
    4: "num_local_experts num_experts n_routed_experts moe_num_experts",
    VOCABULARY: "vocab_size decoder_vocab_size vocab_size_per_layer_input",
    POSITIONS: "max_position_embeddings n_positions n_ctx max_seq_len max_sequence_length context_length "
    "max_target_positions max_2d_position_embeddings",
    8: "qk_rope_head_dim kv_lora_rank q_lora_rank rotary_dim",
}
SIZES = {name: size for size, names in NAMES.items() for name in names.split()}
EXTRA: dict[str, dict[str, Any]] = {}
EXTRA_INPUTS: dict[str, dict[str, Any]] = {}


def tiny_config(name: str) -> Any:
    """Return a tiny configuration of a model type, router losses on."""
    kind = CONFIG_MAPPING[name]
    fields = shrunk(kind().to_dict()) | EXTRA.get(name, {})
    return kind(**fields)


def shrunk(defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a configuration that have to be smaller; a configuration inside it as a dict."""
    found: dict[str, Any] = {}
    for key, value in defaults.items():
        if isinstance(value, dict) and "model_type" in value:
            found[key] = shrunk(value)
        elif key in SIZES and isinstance(value, int) and value > SIZES[key]:
            found[key] = SIZES[key]
        elif key.endswith(("token_id", "token_index")) and isinstance(value, int) and value > 9:
            found[key] = 3 + sum(map(ord, key)) % 6
        elif key == "output_router_logits":
            found[key] = True
    for few, many in (("num_key_value_heads", "num_attention_heads"),):
        if defaults.get(few) == defaults.get(many) and few in found:
            found[few] = found[many]
    return found


_ = torch
