"""The tokenizer of a fine-tuning run: the pre-trained model's own, or a new one from the training texts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from lossmith.data import Tokenizer
from lossmith.data.encoding import in_short
from lossmith.data.tokenizer_files import bpe_size
from lossmith.data.tokenizers import check_spec
from lossmith.errors import DataError, InputError

ROLES = ("pad", "cls", "sep")


class SavedTokenizer:
    """A tokenizer in a folder, as transformers reads it; `inputs` are what the model takes (None: what it says)."""

    def __init__(self, folder: Path, inputs: Sequence[str] | None = None) -> None:
        self.folder, self.inputs = folder, inputs

    @cached_property
    def hf(self) -> Any:
        """The transformers tokenizer; DataError where the folder holds none."""
        from transformers import AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()
        try:
            return AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            why = (str(error).splitlines() or [""])[0]
            raise DataError(f"{self.folder} holds no tokenizer that can be read ({why})") from error

    @property
    def pad_id(self) -> int:
        """The id that fills up rows; any will do, for the attention mask hides it."""
        found = self.hf.pad_token_id
        found = self.hf.eos_token_id if found is None else found
        return int(found or 0)

    def save(self, target: Path) -> None:
        """Copy the tokenizer's files, with the names of the inputs that the model takes."""
        target.mkdir(parents=True, exist_ok=True)
        for source in self.folder.iterdir():
            if source.is_file():
                shutil.copyfile(source, target / source.name)
        path = target / "tokenizer_config.json"
        settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if self.inputs is not None:
            settings["model_input_names"] = list(self.inputs)
            path.write_text(json.dumps(settings, indent=2, ensure_ascii=False), encoding="utf-8")


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Write the tokenizer of a model folder into the run folder; DataError where there is none."""
    if not any((source / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")):
        raise DataError(f"{source} holds weights and no tokenizer: say which one they know with --tokenizer FOLDER")
    Tokenizer.load(source).save(folder)


def new_tokenizer(spec: str, texts: Sequence[str], folder: Path, roles: Sequence[str] = ROLES) -> None:
    """Make a tokenizer from the training texts (char, byte, bpe:SIZE), or take a folder's, and give it special tokens.

    Errors: InputError for a spec that is none of them.
    """
    check_spec(spec)
    if spec == "char":
        made = Tokenizer.char(character for text in texts for character in text)
    elif spec == "byte":
        made = Tokenizer.byte()
    elif spec.startswith("bpe:"):
        made = Tokenizer.train_bpe((part for text in texts for part in in_short(text)), bpe_size(spec))
    else:
        made = Tokenizer.load(spec)
    made.with_special(roles).save(folder)


def check_encodes(tokenizer: Any, texts: Sequence[str]) -> None:
    """Raise InputError where a tokenizer cannot encode a text at all."""
    try:
        tokenizer(list(texts[:1]))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise InputError(f"the tokenizer cannot encode {texts[0][:40]!r}: {error}") from error
