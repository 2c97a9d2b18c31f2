"""A model that sees the tokens it is to predict is refused; the causal ones, whatever their kind, are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_models import CONFIGS, SMALL, build
from transformers import BertConfig, MambaConfig, MixtralConfig

import lossmith
from lossmith.errors import InputError
from lossmith.models import PRESETS, build_model, check_causal

BERT = {"vocab_size": 257, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.mark.parametrize("name", CONFIGS)
def test_causal_models_pass(name: str) -> None:
    check_causal(build(CONFIGS[name]), name)


@pytest.mark.filterwarnings("ignore")
def test_other_kinds_of_causal_models_pass() -> None:
    check_causal(build(MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, state_size=4)), "mamba")
    check_causal(build(MixtralConfig(**SMALL, num_local_experts=2)), "mixtral")
    check_causal(build(BertConfig(**BERT, is_decoder=True)), "decoder")
    for attention in ("eager", "sdpa"):
        model = build_model("nano", vocab_size=50, context=16)
        model.set_attn_implementation(attention)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        check_causal(model.train(), "nano")
        assert model.training
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert PRESETS["nano"].scaled_init


@pytest.mark.parametrize("zero", [False, True])
def test_a_model_that_looks_ahead_is_refused(zero: bool) -> None:
    model = build(BertConfig(**BERT))
    with torch.no_grad():  # projections of zero hide what attention sees, until they are trained
        for key, p in model.named_parameters():
            if zero and "output.dense.weight" in key:
                p.zero_()
    with pytest.raises(InputError, match=r"--model shape \(BertLMHeadModel\) is not causal.*is_decoder"):
        check_causal(model, "shape")


def test_a_run_with_such_a_model_never_starts(tmp_path: Path, text_file: Path, tiny_options: dict[str, Any]) -> None:
    BertConfig(**BERT).save_pretrained(tmp_path / "shape")
    run = tmp_path / "run"
    with pytest.raises(InputError, match="is not causal"):
        lossmith.train(text_file, model=str(tmp_path / "shape"), output_dir=str(run), max_steps=1, **tiny_options)
    assert not (run / "metrics.jsonl").exists()
