"""What a run says at its end: words to try the model with, and the command that goes on."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from lossmith.data import TokenStore
from lossmith.pictures.text import program


def example_of(store: TokenStore) -> str:
    """Return a few words of the validation text to try the model with: its language, and only tokens that it knows."""
    text = store.tokenizer.decode(store.validation.tokens[:200])
    line = max((line.strip() for line in text.splitlines()[1:-1] or [text]), key=len)
    words = line.split()
    while len(words) > 1 and len(" ".join(words)) > 24:
        words.pop()
    return " ".join(words)[:24] or text[:8]


def resume_command(run: Path, command: str = "train") -> str:
    """Return the command that continues a run."""
    return shlex.join([program(), command, "--output-dir", os.fspath(run), "--resume-from-checkpoint"])
