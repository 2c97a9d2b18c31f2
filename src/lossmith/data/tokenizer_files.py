"""What stands behind `Tokenizer`: objects of the `tokenizers` library, and the files Hugging Face tools read."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossmith.errors import DataError, InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

EOT = "<|endoftext|>"
OWN = "lossmith_tokenizer.json"
MIN_BPE = 257
_MODEL, _CONFIG = "tokenizer.json", "tokenizer_config.json"
# every file from which AutoTokenizer may build a tokenizer
_SETTINGS = (
    _MODEL, _CONFIG, "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt",
    "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "chat_template.jinja", "config.json",
)  # fmt: skip
_USUAL_EOS = (EOT, "</s>", "<eos>", "<|end_of_text|>", "<|im_end|>", "[SEP]")


def kind_of(spec: str) -> str:
    """Return char, byte, bpe or hf for a --tokenizer value.

    >>> kind_of("bpe:1024"), kind_of("./my-tokenizer")
    ('bpe', 'hf')
    """
    if spec in ("char", "byte"):
        return spec
    return "bpe" if spec == "bpe" or spec.startswith("bpe:") else "hf"


def bpe_size(spec: str) -> int:
    """Return SIZE of bpe:SIZE; InputError when it is no whole number, or too small for the bytes and the end mark."""
    size = spec.partition(":")[2]
    if not (size.isascii() and size.isdigit()):
        raise InputError(f"--tokenizer bpe:SIZE expects a whole number, such as bpe:1024; got {spec!r}")
    if int(size) < MIN_BPE:
        raise InputError(
            f"--tokenizer bpe:SIZE needs at least {MIN_BPE} tokens (256 bytes and {EOT}); got {spec!r}. "
            f"Use bpe:512 or more, or --tokenizer byte"
        )
    return int(size)


def train_bpe(texts: Iterable[str], size: int) -> Backend:
    """Train a byte-level BPE; the end mark is added last, so that it has the last id as with char and byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
    )
    backend.train_from_iterator(texts, trainer)
    return _with_end(backend)


def byte_backend() -> Backend:
    """Return byte-level BPE without merges whose ids are the byte values."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    backend = Tokenizer(models.BPE(vocab=_letters(), merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return _with_end(backend)


def char_backend(characters: str) -> Backend:
    """Return a word-level model over single characters; an unknown character is an error, not a silent loss."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {character: i for i, character in enumerate(characters)}
    backend = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<|unknown|>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return _with_end(backend)


def _with_end(backend: Backend) -> Backend:
    backend.add_special_tokens([EOT])
    backend.encode_special_tokens = True
    return backend


def _letters() -> dict[str, int]:
    """Return the printable character that stands for each byte, as GPT-2 spells them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in set(plain)]
    letters = {chr(value): value for value in plain}
    return letters | {chr(256 + i): value for i, value in enumerate(others)}


def letter_bytes() -> dict[str, bytes]:
    """Return the byte that each printable letter of a byte-level vocabulary stands for."""
    return {letter: bytes([value]) for letter, value in _letters().items()}


def token_bytes(backend: Backend, n: int) -> Iterator[bytes]:
    """Yield the bytes of tokens 0 … n − 1 of a byte-level model."""
    letters = _letters()
    for i in range(n):
        yield bytes(letters[letter] for letter in backend.id_to_token(i) or "")


def settings(folder: Path, *, own: bool = False) -> list[Path]:
    """Return the files of a folder that AutoTokenizer reads; `own`: and ours."""
    names = (*_SETTINGS, OWN) if own else _SETTINGS
    return [folder / name for name in names if (folder / name).is_file()]


def read_backend(folder: Path) -> Backend:
    """Read tokenizer.json, or convert another form of tokenizer; DataError when neither works."""
    from tokenizers import Tokenizer

    try:
        path = folder / _MODEL
        backend = Tokenizer.from_file(str(path)) if path.is_file() else _converted(folder)
    except Exception as error:  # the library raises bare Exception for a broken file
        raise DataError(
            f"{str(folder)!r} holds no tokenizer that can be read: expected tokenizer.json, or files that "
            f"transformers.AutoTokenizer loads; {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        ) from error
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def _converted(folder: Path) -> Backend:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as work:
        AutoTokenizer.from_pretrained(str(folder), local_files_only=True).save_pretrained(work)
        return Tokenizer.from_file(str(Path(work) / _MODEL))


def find_eos(folder: Path, backend: Backend) -> int | None:
    """Return the id of the token that ends a text: eos_token, else bos_token, else a usual name, else None."""
    named = [named_token(folder, key) for key in ("eos_token", "bos_token")]
    for token in (*named, *_USUAL_EOS):
        number = None if token is None else backend.token_to_id(token)
        if number is not None:
            return int(number)
    return None


def named_token(folder: Path, key: str) -> str | None:
    """Return the token that a tokenizer's settings give under a key such as "mask_token", or None."""
    for name in (_CONFIG, "special_tokens_map.json"):
        if (folder / name).is_file():
            token = json.loads((folder / name).read_text(encoding="utf-8")).get(key)
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str):
                return token
    return None


_UNNAMED = ("extra_id_", "mode_")  # roles of tokens for which transformers has no name of its own


def write(folder: Path, backend: Backend, eos_id: int | None, special: dict[str, int], *, keep: bool) -> None:
    """Write tokenizer.json and its settings; `keep`: settings of another tool are there, and only names are added.

    `special` holds the ids of the tokens that are ours, by role ("mask"): AutoTokenizer finds them as mask_token.
    """
    # not backend.save: it reports a full disk as a bare Exception
    (folder / _MODEL).write_text(backend.to_str(pretty=True), encoding="utf-8")
    roles = {role: str(backend.id_to_token(i)) for role, i in special.items()}
    named = {f"{role}_token": token for role, token in roles.items() if not role.startswith(_UNNAMED)}
    sentinels = [token for role, token in roles.items() if role.startswith(_UNNAMED)]
    extra: dict[str, Any] = named | ({"extra_special_tokens": sentinels} if sentinels else {})
    if keep and (folder / _CONFIG).is_file():
        if extra:
            theirs = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
            extra |= {"split_special_tokens": False} if sentinels else {}
            (folder / _CONFIG).write_text(json.dumps(theirs | extra, indent=2, ensure_ascii=False), encoding="utf-8")
        return
    end = backend.id_to_token(eos_id) if eos_id is not None else None
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        # text that spells <|endoftext|> stays text, as in `Tokenizer.encode`; sentinels are there to be written
        "split_special_tokens": not sentinels,
        "model_max_length": 10**30,
    }
    names: dict[str, Any] = {"eos_token": end, "bos_token": end} if end is not None else {}
    names |= extra
    for name, content in ((_CONFIG, config | names), ("special_tokens_map.json", names)):
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
