"""Text ↔ token ids: characters, bytes, byte-level BPE, or any Hugging Face tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lossmith.data import special as special_tokens
from lossmith.data import tokenizer_files as files
from lossmith.errors import DataError, InputError, did_you_mean

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

KINDS = ("char", "byte", "bpe:SIZE")
_ALPHABET = 256
_NO_TOKEN = 2**32 - 1
Ids = npt.NDArray[np.uint32]


class Tokenizer:
    """Turn text into token ids and back; `eos_id` is the token that opens every document of a store (None: no token).

    char: the sorted characters of the corpus, then `<|endoftext|>`. byte: ids 0 … 255 are the bytes of UTF-8, then
    `<|endoftext|>`. bpe: byte-level BPE, so that nothing is ever unknown; `<|endoftext|>` is its last id.
    Text that spells a special token is encoded as text. Errors: InputError naming an unknown character (char only).

    >>> Tokenizer.byte().encode("né").tolist()
    [110, 195, 169]
    >>> Tokenizer.char("hello").decode([0, 1, 2])
    'ehl'
    """

    def __init__(
        self,
        spec: str,
        *,
        characters: str = "",
        backend: Backend | None = None,
        eos_id: int | None = None,
        origin: str | None = None,
        added: dict[str, int] | None = None,
    ) -> None:
        self.spec = spec
        self._added = added or {}  # ids of the special tokens that `with_special` put behind the others, by role
        self.eos_id = eos_id
        self._characters = characters
        self._backend = backend
        self._origin = origin  # folder of a Hugging Face tokenizer, whose other files are copied by `save`
        self.vocab_size = self._count()

    @property
    def kind(self) -> str:
        """char, byte, bpe or hf."""
        return files.kind_of(self.spec)

    @classmethod
    def char(cls, characters: Iterable[str]) -> Tokenizer:
        """Make the tokenizer of these characters, sorted by code point."""
        ordered = "".join(sorted(set(characters)))
        return cls("char", characters=ordered, eos_id=len(ordered))

    @classmethod
    def byte(cls) -> Tokenizer:
        """Make the tokenizer of the bytes of UTF-8; it needs no training."""
        return cls("byte", eos_id=_ALPHABET)

    @classmethod
    def train_bpe(cls, texts: Iterable[str], size: int) -> Tokenizer:
        """Train a byte-level BPE of at most `size` tokens, the 256 bytes and `<|endoftext|>` included.

        The result depends on the text alone. Source: Sennrich, Haddow, Birch (2016), arXiv:1508.07909; the
        byte-level alphabet and the splitting pattern are those of GPT-2.
        """
        backend = files.train_bpe(texts, size)
        return cls(f"bpe:{size}", backend=backend, eos_id=backend.token_to_id(files.EOT))

    def special(self, role: str) -> int | None:
        """Return the id of the token for a role (pad, cls, sep, mask, …), or None where the tokenizer has none."""
        if role in self._added:
            return self._added[role]
        if self.kind != "hf":
            return None
        return special_tokens.find(self.backend, role, files.named_token(Path(self._origin or ""), f"{role}_token"))

    def with_special(self, roles: Iterable[str]) -> Tokenizer:
        """Return a tokenizer that has a token for each of these roles: the same ids, and new ones behind them.

        >>> masked = Tokenizer.byte().with_special(["mask"])
        >>> masked.special("mask"), masked.vocab_size, masked.decode([104, 257], special=True)
        (257, 258, 'h[MASK]')
        """
        missing = [role for role in roles if self.special(role) is None]
        if not missing:
            return self
        backend = special_tokens.extended(self.backend, missing, None if self.kind == "hf" else self.eos_id)
        ids = {role: backend.token_to_id(special_tokens.name_of(role)) for role in missing}
        added = self._added | {role: number for role, number in ids.items() if number is not None}
        return Tokenizer(
            self.spec,
            characters=self._characters,
            backend=backend,
            eos_id=self.eos_id,
            origin=self._origin,
            added=added,
        )

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The ids of all tokens that stand for no text."""
        ends = {self.eos_id} if self.eos_id is not None else set()
        return frozenset({i for i, piece in enumerate(self.pieces) if not piece} | ends)

    @cached_property
    def pieces(self) -> list[bytes]:
        """The UTF-8 bytes that each token adds to a text (a space before it included); none for special tokens."""
        return special_tokens.pieces(self.backend, self.vocab_size) if self.kind == "hf" else self._bytes

    def encode(self, text: str) -> Ids:
        """Return the ids of a text, uint32[n], without special tokens."""
        if self.kind == "byte":
            return np.frombuffer(text.encode(), np.uint8).astype(np.uint32)
        if self.kind == "char":
            return self._encode_characters(text)
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: list[str]) -> list[Ids]:
        """Return the ids of each text; on several cores where the `tokenizers` library does the work."""
        if self.kind in ("byte", "char"):
            return [self.encode(text) for text in texts]
        with knowing_every_character(self.spec):
            encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.uint32) for encoding in encodings]

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """Return the text of these ids; bytes that are no UTF-8 (at a cut) become U+FFFD.

        Special tokens have no text; `special=True` writes them by name.
        """
        numbers = [int(i) for i in ids]
        if self.kind == "hf":
            return str(self.backend.decode(numbers, skip_special_tokens=not special))
        shown = self._names if special else {}
        return b"".join(shown.get(i, self._bytes[i]) for i in numbers).decode(errors="replace")

    def token_text(self, id: int) -> str:
        """Return one token in readable form; bytes that are no text on their own are written as \\xe4.

        >>> Tokenizer.byte().token_text(195)
        '\\\\xc3'
        """
        if not 0 <= id < self.vocab_size:
            raise InputError(f"expected a token id below {self.vocab_size}; got {id}")
        if self.kind != "hf":
            return self._names.get(id, self._bytes[id]).decode(errors="backslashreplace")
        text = str(self.backend.decode([id], skip_special_tokens=False))
        return str(self.backend.id_to_token(id)) if not text or "\ufffd" in text else text

    def n_bytes(self, ids: npt.ArrayLike) -> int:
        """Return how many bytes of UTF-8 the text of these ids has; special tokens have none."""
        numbers = np.asarray(ids, np.int64)
        if self.kind == "hf":
            return len(self.decode(numbers.tolist()).encode(errors="replace"))
        return int(self._lengths[numbers].sum())

    def save(self, folder: str | Path) -> None:
        """Write the files from which `transformers.AutoTokenizer.from_pretrained(folder)` gives the same ids."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        if self._origin:
            for source in files.settings(Path(self._origin)):
                if source.resolve() != (target / source.name).resolve():
                    shutil.copyfile(source, target / source.name)
        files.write(target, self.backend, self.eos_id, self._added, keep=self._origin is not None)
        own = {"spec": self.spec, "characters": self._characters, "eos_id": self.eos_id, "added": self._added}
        (target / files.OWN).write_text(json.dumps(own), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Read a tokenizer that `save` wrote, or any Hugging Face tokenizer folder."""
        path = Path(folder)
        if not (path / files.OWN).is_file():
            return cls.from_hugging_face(path)
        own = json.loads((path / files.OWN).read_text(encoding="utf-8"))
        kind = files.kind_of(own["spec"])
        added = own.get("added") or {}
        backend = files.read_backend(path) if kind in ("bpe", "hf") or added else None
        origin = str(path.absolute()) if kind == "hf" else None
        return cls(
            own["spec"],
            characters=own["characters"],
            backend=backend,
            eos_id=own["eos_id"],
            origin=origin,
            added=added,
        )

    @classmethod
    def from_hugging_face(cls, folder: str | Path) -> Tokenizer:
        """Read a Hugging Face tokenizer folder: tokenizer.json directly, other forms through transformers."""
        path = Path(folder).absolute()
        backend = files.read_backend(path)
        return cls(str(path), backend=backend, eos_id=files.find_eos(path, backend), origin=str(path))

    @cached_property
    def backend(self) -> Backend:
        """The same tokenizer as an object of the `tokenizers` library."""
        if self._backend is not None:
            return self._backend
        return files.char_backend(self._characters) if self.kind == "char" else files.byte_backend()

    def _count(self) -> int:
        if self._backend is not None:
            return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1
        return (len(self._characters) if self.kind == "char" else _ALPHABET) + 1

    @cached_property
    def _table(self) -> Ids:
        # one entry for each code point of Unicode: encoding is a single numpy look-up
        table = np.full(0x110000, _NO_TOKEN, np.uint32)
        points = [ord(character) for character in self._characters]
        table[points] = np.arange(len(points), dtype=np.uint32)
        return table

    def _encode_characters(self, text: str) -> Ids:
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        ids = self._table[points]
        if ids.size and int(ids.max()) == _NO_TOKEN:
            unknown = chr(int(points[ids == _NO_TOKEN][0]))
            raise InputError(
                f"the character {unknown!r} (U+{ord(unknown):04X}) is not among the {len(self._characters)} that this "
                f"char tokenizer knows: leave it out, or train with --tokenizer byte or bpe:SIZE, which know everything"
            )
        return ids

    @cached_property
    def _bytes(self) -> list[bytes]:
        return list(self._token_bytes())

    def _token_bytes(self) -> Iterator[bytes]:
        if self.kind == "char":
            yield from (character.encode() for character in self._characters)
        elif self.kind == "byte":
            yield from (bytes([value]) for value in range(_ALPHABET))
        else:
            yield from files.token_bytes(self.backend, self.vocab_size - 1 - len(self._added))
        yield b""  # <|endoftext|>, the last id of all three but for what was added
        yield from (b"" for _ in self._added)

    @cached_property
    def _names(self) -> dict[int, bytes]:
        names = {number: str(self.backend.id_to_token(number)).encode() for number in self._added.values()}
        return names | ({self.eos_id: files.EOT.encode()} if self.eos_id is not None else {})

    @cached_property
    def _lengths(self) -> npt.NDArray[np.int64]:
        return np.array([len(value) for value in self._bytes], np.int64)


def check_spec(spec: str) -> None:
    """Raise InputError when a --tokenizer value can be none of char, byte, bpe:SIZE and a folder."""
    if spec in ("char", "byte") or (files.kind_of(spec) == "bpe" and files.bpe_size(spec)):
        return
    path = Path(spec)
    if not path.exists():
        hint = did_you_mean(spec, ("char", "byte", "bpe:1024"))
        raise InputError(
            f"--tokenizer must be {', '.join(KINDS)} or a Hugging Face tokenizer folder; got {spec!r}, "
            f"which is no folder.{hint}"
        )
    if not path.is_dir():
        raise DataError(f"--tokenizer expects a folder that holds tokenizer.json; got the file {spec!r}")


def spec_content(spec: str) -> str:
    """Return what of a --tokenizer value decides its ids: the spec itself, or the content of a folder's files."""
    import xxhash

    if files.kind_of(spec) != "hf":
        return spec
    digest = xxhash.xxh3_128()
    for path in files.settings(Path(spec), own=True):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"hf:{digest.hexdigest()}"


def tokenized(tokenizer: Any, *texts: Any, **options: Any) -> Any:
    """Return what a Hugging Face tokenizer makes of texts; InputError where it has no token for a character."""
    with knowing_every_character(Path(tokenizer.name_or_path).name or type(tokenizer).__name__):
        return tokenizer(*texts, verbose=False, **options)


@contextmanager
def knowing_every_character(name: str) -> Iterator[None]:
    """Turn the library's error for a character without a token into an InputError."""
    try:
        yield
    except Exception as error:  # the library raises bare Exception
        if "unk" not in str(error).lower():
            raise
        raise InputError(
            f"the tokenizer {name} cannot encode this text ({error}): it has no token for a character of it. Take one "
            "that knows every character, such as --tokenizer byte or bpe:SIZE, or a model that was trained with one"
        ) from error
