"""Tiny configurations of whatever transformers knows: fields shrunk by their name, exceptions in one table."""

from __future__ import annotations

from typing import Any

import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

LENGTH = 24
WIDTH, HEADS, HEAD_WIDTH, INNER, LAYERS, EXPERTS, VOCABULARY, POSITIONS = 64, 4, 16, 48, 2, 4, 101, 128

SIZES: dict[str, int] = {
    name: size
    for size, names in (
        (WIDTH, "hidden_size d_model n_embd dim embedding_size word_embed_proj_dim emb_dim embedding_dim embed_dim"),
        (WIDTH, "input_embedding_size output_embedding_size lru_width hidden_size_global attention_hidden_size"),
        (WIDTH, "dim_model out_hidden_size"),
        (HEADS, "num_attention_heads num_heads n_head n_heads attention_heads decoder_attention_heads"),
        (HEADS, "encoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads"),
        (HEADS, "swa_num_attention_heads"),
        (2, "num_key_value_heads swa_num_key_value_heads num_experts_per_tok moe_topk moe_k"),
        (LAYERS, "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_encoder_layers"),
        (LAYERS, "num_decoder_layers depth"),
        (HEAD_WIDTH, "head_dim v_head_dim qk_nope_head_dim d_kv d_head linear_key_head_dim linear_value_head_dim"),
        (HEAD_WIDTH, "attention_head_size swa_head_dim kv_channels dim_head attention_head_dim"),
        (INNER, "intermediate_size ffn_dim moe_intermediate_size decoder_ffn_dim encoder_ffn_dim d_inner d_ff dff"),
        (INNER, "shared_expert_intermediate_size ffn_hidden_size shared_intermediate_size dim_ff feed_forward_size"),
        (INNER, "dense_intermediate_size hidden_dim expert_ffn_hidden_size moe_shared_expert_intermediate_size"),
        (INNER, "shared_experts_intermediate_size intermediate_size_mlp"),
        (EXPERTS, "num_local_experts num_experts n_routed_experts moe_num_experts"),
        (VOCABULARY, "vocab_size decoder_vocab_size vocab_size_per_layer_input"),
        (POSITIONS, "max_position_embeddings n_positions n_ctx max_seq_len max_sequence_length context_length"),
        (POSITIONS, "max_target_positions max_2d_position_embeddings"),
        (8, "qk_rope_head_dim kv_lora_rank q_lora_rank rotary_dim"),
    )
    for name in names.split()
}
EFFECTS = {  # what models do to logits and leave off, or at 1, by default
    "final_logit_softcapping": 5.0, "logits_scaling": 4.0, "logit_scale": 0.25, "lm_head_multiplier": 0.5,
}  # fmt: skip
ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10_000.0}
EXTRA: dict[str, dict[str, Any]] = {
    **{name: {"head_dim": 8} for name in ("deepseek_v3", "longcat_flash", "youtu")},  # of what is rotated
    **{name: {"head_dim": HEAD_WIDTH} for name in ("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral")},
    **{name: {"output_router_logits": False} for name in ("deepseek_v4", "flint")},  # no layer with a router
    "axk1": {"head_dim": 8, "n_group": 1, "topk_group": 1},
    "blt": {"encoder_hash_byte_group_vocab": 999},
    "cohere_compass_text": {"rope_parameters": {"full_attention": ROPE}},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10_000.0, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": EXPERTS, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note": {"vision_config": {"pyramid_num_routed": [0, 2], "adapter_in_dim": WIDTH, "adapter_out_dim": WIDTH},
                   "audio_config": {"adapter_input_size": WIDTH, "adapter_out_dim": WIDTH}},
    "esm": {"vocab_size": VOCABULARY, "pad_token_id": 1, "mask_token_id": 4},
    "esmc": {"vocab_size": VOCABULARY},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "git": {"vision_config": {"image_size": 32, "patch_size": 16, "hidden_size": WIDTH, "intermediate_size": INNER,
                              "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "kimi_linear": {"num_experts_per_token": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": HEAD_WIDTH},
    "nemotron": {"num_key_value_heads": 2},
    "perceiver": {"max_position_embeddings": LENGTH, "num_latents": 8, "d_latents": WIDTH,
                  "num_self_attends_per_block": LAYERS},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "local"], "hidden_dropout_prob": 0.0,
                 "local_attention_probs_dropout_prob": 0.0},
    "xlstm": {"qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2,
              "attention_hidden_size": 2 * WIDTH, "attention_head_dim": 2 * HEAD_WIDTH},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"], "attention_hidden_size": 2 * WIDTH,
               "attention_head_dim": 2 * HEAD_WIDTH},
}  # fmt: skip
EXTRA_INPUTS: dict[str, dict[str, Any]] = {"git": {"pixel_values": torch.ones(2, 3, 32, 32)}}


def tiny_config(name: str, task: str) -> Any:
    """Return a tiny configuration of a model type, router losses on."""
    kind = CONFIG_MAPPING[name]
    role = {"is_decoder": task == "causal"} if name == "reformer" else {}
    return kind(**merged(shrunk(kind().to_dict()), EXTRA.get(name, {}) | role))


def merged(fields: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with some of them replaced, inside configurations in them too."""
    both = fields.keys() & more.keys()
    inner = {k: merged(fields[k], more[k]) for k in both if isinstance(fields[k], dict) and isinstance(more[k], dict)}
    return fields | more | inner


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
        elif key in EFFECTS:
            found[key] = EFFECTS[key]
        elif key in ("output_router_logits", "use_cache"):
            found[key] = key != "use_cache"
    if defaults.get("num_key_value_heads") == defaults.get("num_attention_heads") and "num_key_value_heads" in found:
        found["num_key_value_heads"] = found["num_attention_heads"]
    return found


def inputs_for(task: str, name: str) -> dict[str, Any]:
    """Return token ids and labels, some of them −100, and what else a model cannot do without."""
    torch.manual_seed(1)
    ids = torch.randint(10, 90, (2, LENGTH))
    labels = torch.where(torch.rand(ids.shape) < (0.2 if task == "causal" else 0.7), -100, ids)
    if name.startswith("musicgen"):  # four tokens at a time
        ids, labels = torch.randint(10, 90, (8, LENGTH)), torch.randint(10, 90, (2, LENGTH, 4))
        return {"input_ids": ids, "labels": labels}
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels} | EXTRA_INPUTS.get(name, {})
