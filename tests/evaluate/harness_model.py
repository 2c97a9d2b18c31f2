"""The model and the documents whose figures were also computed by lm-evaluation-harness, and how.

    pip install lm-eval==0.4.13 accelerate            # in an environment of its own; torch 2.13.0, transformers 5.23.0
    PYTHONPATH=src HF_HUB_OFFLINE=1 python tests/evaluate/harness_model.py /tmp/harness

writes the models and prints what the harness's loglikelihood_rolling says: the numbers of test_eval_rolling.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lossmith.data import Tokenizer

DOCUMENTS = (
    "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer\n" * 6,
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
    "x",
    "  two  spaces,\ttabs and a line end\r\n",
    "".join(chr(97 + i * i % 26) for i in range(64)),  # with 64 positions: one window exactly
    "".join(chr(97 + i * i % 26) for i in range(65)),  # and one token more
)


def make(folder: Path, kind: str) -> Path:
    """Save a tiny model whose weights come from numpy's frozen generator, so that no release of torch changes them."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    tokenizer = Tokenizer.byte()
    end = tokenizer.eos_id
    if kind == "llama":
        model: Any = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=257, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                max_position_embeddings=64, bos_token_id=end, eos_token_id=end,
            )
        )  # fmt: skip
    else:
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=257, n_embd=16, n_layer=2, n_head=2, n_positions=48, bos_token_id=end, eos_token_id=end
            )
        )
    random = np.random.RandomState(7)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            drawn = random.standard_normal(tuple(parameter.shape)) * 0.4
            parameter.copy_(torch.from_numpy(drawn + (parameter.ndim == 1)))
    model.save_pretrained(folder / kind)
    tokenizer.save(folder / kind)
    return folder / kind


def main(folder: Path) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    for kind in ("llama", "gpt2"):
        model = HFLM(pretrained=str(make(folder, kind)), device="cpu", dtype="float32", batch_size=2)
        requests = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(DOCUMENTS)]
        print(kind, model.max_length, [-float(value) for value in model.loglikelihood_rolling(requests)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
