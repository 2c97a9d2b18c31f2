"""Special tokens by their role (pad, cls, sep, mask, sentinels), and the text that every token stands for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lossmith.data.tokenizer_files import letter_bytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

NAMES = {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
NAMES |= {role: f"<|{role}|>" for role in ("fim_prefix", "fim_middle", "fim_suffix")}
NAMES |= {"mode_r": "[R]", "mode_s": "[S]", "mode_x": "[X]"}  # of UL2
_USUAL = {
    "pad": ("[PAD]", "<pad>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
    **{f"fim_{part}": (f"<|fim_{part}|>", f"<fim_{part}>") for part in ("prefix", "middle", "suffix")},
    "mode_r": ("[R]", "[NLU]"),  # as the published UL2 spells them
    "mode_s": ("[S]", "[S2S]"),
    "mode_x": ("[X]", "[NLG]"),
}


def name_of(role: str) -> str:
    """Return how a role's token is spelled where a tokenizer has none yet.

    >>> name_of("mask"), name_of("extra_id_3")
    ('[MASK]', '<extra_id_3>')
    """
    return NAMES.get(role, f"<{role}>")


def find(backend: Backend, role: str, named: str | None) -> int | None:
    """Return the id of a role's token: the one `named` in the tokenizer's settings, else a usual name, else None."""
    for token in (named, *_USUAL.get(role, (name_of(role),))):
        number = None if token is None else backend.token_to_id(token)
        if number is not None:
            return int(number)
    return None


def extended(backend: Backend, roles: Iterable[str], end: int | None = None) -> Backend:
    """Return a copy that also knows the tokens of these roles; with cls and sep it frames a text as BERT does.

    With sentinels it ends a text, as T5's does, with the token `end` (None: it is left as it was).
    """
    from tokenizers import Tokenizer, processors

    copy = Tokenizer.from_str(backend.to_str())
    copy.add_special_tokens([name_of(role) for role in roles])
    copy.encode_special_tokens = True
    if {"cls", "sep"} <= set(roles):
        cls, sep = NAMES["cls"], NAMES["sep"]
        copy.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}",
            pair=f"{cls} $A {sep} $B:1 {sep}:1",
            special_tokens=[(cls, copy.token_to_id(cls)), (sep, copy.token_to_id(sep))],
        )
    elif end is not None and "extra_id_0" in roles:
        name = copy.id_to_token(end)
        copy.post_processor = processors.TemplateProcessing(
            single=f"$A {name}", pair=f"$A {name} $B:1 {name}:1", special_tokens=[(name, end)]
        )
    return copy


def pieces(backend: Backend, size: int) -> list[bytes]:
    """Return the UTF-8 bytes that each token of a Hugging Face tokenizer adds to a text, a leading space included.

    Byte-level (letters stand for bytes), Metaspace (▁ is a space, <0xE4> a byte) and WordPiece (## continues a word,
    anything else begins one); special tokens stand for nothing.
    """
    settings = json.loads(backend.to_str())
    special = {token["id"] for token in settings["added_tokens"] if token["special"]}
    spelled, model = json.dumps(settings.get("decoder") or {}), settings["model"]
    wordpiece = model["type"] == "WordPiece" or '"WordPiece"' in spelled
    letters = letter_bytes() if '"ByteLevel"' in spelled else None
    prefix, suffix = model.get("continuing_subword_prefix") or "##", model.get("end_of_word_suffix")
    out = []
    for number in range(size):
        token = "" if number in special else backend.id_to_token(number) or ""
        if wordpiece:
            piece = _continued(token, prefix)
        elif letters is not None:
            piece = b"".join(letters.get(letter, letter.encode()) for letter in token)
        else:
            piece = _spaced(token, suffix)
        out.append(piece)
    return out


def _continued(token: str, prefix: str) -> bytes:
    if not token:
        return b""
    return token[len(prefix) :].encode() if token.startswith(prefix) and token != prefix else f" {token}".encode()


def _spaced(token: str, suffix: str | None) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    if suffix and token.endswith(suffix):
        token = token[: -len(suffix)] + " "
    return token.replace("▁", " ").encode()
