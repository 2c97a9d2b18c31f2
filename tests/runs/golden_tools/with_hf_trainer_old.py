"""Hugging Face Trainer of 2024, which prints bare numbers instead of quoted ones."""

from __future__ import annotations

import sys
from pathlib import Path

import with_hf_trainer

if __name__ == "__main__":
    with_hf_trainer.main(Path(sys.argv[1]), "hf_trainer_old")
