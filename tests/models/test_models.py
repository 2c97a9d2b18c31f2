"""Hidden states and head are those that give the model's own logits, whatever stands between; else it is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    BloomConfig,
    CohereConfig,
    ElectraConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    OPTConfig,
)

from lossmith.errors import DataError, InputError
from lossmith.models import PRESETS, build_model, hidden_and_head, loss_path
from lossmith.models.estimate import count_parameters, estimates
from lossmith.objectives import CausalObjective

SMALL = {
    "vocab_size": 50, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "intermediate_size": 96, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 1,
}  # fmt: skip
GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 1}
CONFIGS = {
    "llama": LlamaConfig(**SMALL),
    "soft-cap": Gemma2Config(**SMALL, final_logit_softcapping=2.0, attn_implementation="eager"),
    "logit scale": CohereConfig(**SMALL, logit_scale=0.25),
    "logits divided": GraniteConfig(**SMALL, logits_scaling=4.0),
    "gpt2": GPT2Config(**GPT2),
    "head with bias": GPTNeoXConfig(**SMALL | {"tie_word_embeddings": False}),
    "bloom": BloomConfig(**SMALL),
    "opt": OPTConfig(**SMALL | {"word_embed_proj_dim": 32}),
}


def build(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_head_gives_the_models_own_logits(name: str) -> None:
    model = build(CONFIGS[name])
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    ids = torch.randint(50, (2, 9))
    hidden, head = hidden_and_head(model, {"input_ids": ids})
    assert head is not None
    assert loss_path(model) == "hidden states"
    torch.testing.assert_close(head(hidden), model(input_ids=ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_loss_is_that_of_the_models_logits(name: str) -> None:
    model = build(CONFIGS[name])
    batch = CausalObjective().batch([{"tokens": np.arange(3, 20)}], np.random.default_rng(0))
    ours = CausalObjective().terms(model, batch)["causal"].mean()
    logits = model(input_ids=batch["input_ids"]).logits.float()
    torch.testing.assert_close(
        ours, torch.nn.functional.cross_entropy(logits[0], batch["labels"][0]), rtol=1e-5, atol=1e-5
    )


def test_a_model_that_hides_its_head_takes_the_logits_path() -> None:
    model = build(BertConfig(**SMALL | {"is_decoder": True}))
    assert loss_path(model) == "logits"
    batch = CausalObjective().batch([{"tokens": np.arange(3, 20)}], np.random.default_rng(0))
    total = CausalObjective().terms(model, batch)["causal"]
    logits = model(input_ids=batch["input_ids"]).logits
    torch.testing.assert_close(total.mean(), torch.nn.functional.cross_entropy(logits[0], batch["labels"][0]))


def test_the_probe_is_not_fooled_by_a_zero_head_and_leaves_no_trace() -> None:
    """A scale that the head does not know, behind a head of zeros: both ways give zeros, and only one is right."""
    model = build(CONFIGS["llama"])
    plain = type(model).forward
    try:
        type(model).forward = lambda self, **k: (out := plain(self, **k), setattr(out, "logits", out.logits * 3))[0]
        with torch.no_grad():
            model.lm_head.weight.zero_()
        assert loss_path(model) == "logits"
    finally:
        type(model).forward = plain
    assert not model.lm_head.weight.any()
    assert not model.training


@pytest.mark.filterwarnings("ignore")
def test_a_model_without_attention_is_reached_too() -> None:
    assert (
        loss_path(build(MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, state_size=4)))
        == "hidden states"
    )


def test_the_nano_preset_knows_nothing_at_first() -> None:
    model = build_model("nano", vocab_size=66, context=32, seed=1, end_id=65)
    assert not model(input_ids=torch.arange(8)[None]).logits.any()
    again = build_model("nano", vocab_size=66, context=32, seed=1, end_id=65)
    other = build_model("nano", vocab_size=66, context=32, seed=2, end_id=65)
    name = "model.embed_tokens.weight"
    assert torch.equal(model.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(model.state_dict()[name], other.state_dict()[name])


def test_presets_are_the_sizes_they_are_named_for() -> None:
    rows = {row["name"]: row for row in estimates()}
    assert rows.keys() == PRESETS.keys()
    for name, millions in {"10m": 10, "125m": 125, "350m": 350, "1b": 1000}.items():
        assert rows[name]["parameters"] == pytest.approx(millions * 1e6, rel=0.3)
    assert rows["nano"]["parameters"] == sum(
        p.numel() for p in build_model("nano", vocab_size=1024, context=128).parameters()
    )


def test_a_shape_from_config_json(tmp_path: Path) -> None:
    LlamaConfig(**SMALL).save_pretrained(tmp_path)
    model = build_model(str(tmp_path), vocab_size=77, context=128, seed=0, end_id=76)
    assert (model.config.vocab_size, model.config.max_position_embeddings, model.config.eos_token_id) == (77, 128, 76)
    assert count_parameters(model.config) == sum(p.numel() for p in model.parameters())


def test_pretrained_weights_are_continued_from(tmp_path: Path) -> None:
    saved = build(CONFIGS["llama"])
    saved.save_pretrained(tmp_path)
    loaded = build_model(str(tmp_path), vocab_size=40, context=64)
    assert torch.equal(loaded.lm_head.weight, saved.lm_head.weight)
    with pytest.raises(DataError, match=r"tokenizer has 51 tokens and the model in .* has 50"):
        build_model(str(tmp_path), vocab_size=51, context=64)
    with pytest.raises(DataError, match=r"tokenizer has 40 tokens and the model in .* has 50"):
        build_model(str(tmp_path), vocab_size=40, context=64, exact=True)
    with pytest.raises(DataError, match="--block-size 65 is more than the 64 positions"):
        build_model(str(tmp_path), vocab_size=50, context=65)


@pytest.mark.parametrize("architecture", ["masked", "sentence_pair", "replaced_token", "encoder"])
def test_weights_of_another_architecture_are_refused(tmp_path: Path, architecture: str) -> None:
    """Where config.json names another kind of model than the weights are of, all of it would be drawn anew."""
    sizes: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "max_position_embeddings": 64}
    BertForMaskedLM(BertConfig(**sizes)).save_pretrained(tmp_path)
    build_model(str(tmp_path), vocab_size=50, context=32, architecture=architecture)
    ElectraConfig(**sizes).save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"are not those of a Electra\w+: 1 of its parameters, .*embeddings"):
        build_model(str(tmp_path), vocab_size=50, context=32, architecture=architecture)
    BertConfig(**sizes | {"hidden_size": 32}).save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"cannot be loaded with transformers|are not those of a Bert"):
        build_model(str(tmp_path), vocab_size=50, context=32, architecture=architecture)


def test_models_that_do_not_exist_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got '125n'\. Did you mean '125m'\?"):
        build_model("125n", vocab_size=10, context=8)
    with pytest.raises(DataError, match=r"must hold a config\.json; found an empty folder"):
        build_model(str(tmp_path), vocab_size=10, context=8)
    (tmp_path / "config.json").write_text("{ not json", encoding="utf-8")
    with pytest.raises(DataError, match="is not a configuration that transformers knows"):
        build_model(str(tmp_path), vocab_size=10, context=8)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nonesuch"}), encoding="utf-8")
    with pytest.raises(DataError, match="nonesuch"):
        build_model(str(tmp_path), vocab_size=10, context=8)
