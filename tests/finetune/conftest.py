"""Tiny pre-trained models with tokenizers, and labelled rows in two scripts, shared by the tests of fine-tuning."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lossmith.data import Tokenizer

Rows = list[dict[str, Any]]
WORDS = {"天气": ["下雨", "晴天", "大雪"], "sport": ["goal", "match", "进球"], "technik": ["Gerät", "芯片", "robot"]}


def classified(n: int, seed: int = 0) -> Rows:
    """Rows whose class shows in every word."""
    draw = random.Random(seed)
    labels = [draw.choice(list(WORDS)) for _ in range(n)]
    return [
        {"text": f"{i} " + " ".join(draw.choices(WORDS[name], k=3)), "label": name} for i, name in enumerate(labels)
    ]


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., str]:
    """Write rows as .jsonl and return the path."""

    def write(rows: Sequence[dict[str, Any]], name: str = "rows.jsonl") -> str:
        path = tmp_path / name
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
        return str(path)

    return write


def _save(model: Any, folder: Path, roles: Sequence[str]) -> str:
    model.save_pretrained(folder)
    Tokenizer.byte().with_special(roles).save(folder)
    return str(folder)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A masked language model of one layer whose tokens are bytes."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=261, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, pad_token_id=257, hidden_dropout_prob=0.05, attention_probs_dropout_prob=0.0,
        initializer_range=0.1,
    )  # fmt: skip
    return _save(BertForMaskedLM(config), tmp_path_factory.mktemp("bert") / "model", ("pad", "cls", "sep", "mask"))


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A causal model of one layer whose tokens are bytes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=64, bos_token_id=256, eos_token_id=256,
    )  # fmt: skip
    return _save(LlamaForCausalLM(config), tmp_path_factory.mktemp("llama") / "model", ())


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An encoder–decoder of one layer whose tokens are bytes."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=258, d_model=32, d_kv=16, num_heads=2, d_ff=64, num_layers=1, num_decoder_layers=1, pad_token_id=257,
        eos_token_id=256, decoder_start_token_id=257,
    )  # fmt: skip
    return _save(T5ForConditionalGeneration(config), tmp_path_factory.mktemp("t5") / "model", ("pad",))
