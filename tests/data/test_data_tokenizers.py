"""Tokenizers lose nothing, agree with the library that reads their files, and never mistake text for a mark."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossmith.data import Tokenizer, word_cache
from lossmith.data.encoding import safe_cut
from lossmith.data.word_cache import WordCache
from lossmith.errors import DataError, InputError

TEXT = "Hello\r\nwörld 中文床前明月 😀👩‍🚀 <|endoftext|>  x's don't\t\n\n y é e\u0301 \ufeff 12345 -- !?\n"
KINDS = ["char", "byte", "bpe"]
BPE = Tokenizer.train_bpe([TEXT * 5, "the cat sat on the mat " * 50], 400)


def make(kind: str) -> Tokenizer:
    return {"char": lambda: Tokenizer.char(TEXT), "byte": Tokenizer.byte, "bpe": lambda: BPE}[kind]()


@pytest.mark.parametrize("kind", KINDS)
def test_automatic_tokenizer_gives_identical_ids(tmp_path: Path, kind: str) -> None:
    from transformers import AutoTokenizer

    ours = make(kind)
    ours.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(str(tmp_path))
    for text in (TEXT, TEXT[::-1], " ", "\n", "e", ""):
        ids = ours.encode(text).tolist()
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == text
    assert theirs.eos_token_id == ours.eos_id == ours.vocab_size - 1
    assert len(theirs) == ours.vocab_size


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(tmp_path: Path, kind: str) -> None:
    ours = make(kind)
    ours.save(tmp_path)
    for again in (Tokenizer.load(tmp_path), Tokenizer.from_hugging_face(tmp_path)):
        assert (again.vocab_size, again.eos_id) == (ours.vocab_size, ours.eos_id)
        assert again.encode(TEXT).tolist() == ours.encode(TEXT).tolist()
        assert again.decode(ours.encode(TEXT)) == TEXT
        assert again.n_bytes(ours.encode(TEXT)) == len(TEXT.encode())
    assert Tokenizer.load(tmp_path).spec == ours.spec


def test_the_files_of_a_hugging_face_folder_survive(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    BPE.save(tmp_path / "origin")
    (tmp_path / "origin" / "chat_template.jinja").write_text("{{ messages }}")
    Tokenizer.from_hugging_face(tmp_path / "origin").save(tmp_path / "copy")
    assert (tmp_path / "copy" / "chat_template.jinja").read_text() == "{{ messages }}"
    again = AutoTokenizer.from_pretrained(str(tmp_path / "copy"))
    assert again(TEXT)["input_ids"] == BPE.encode(TEXT).tolist()
    assert Tokenizer.load(tmp_path / "copy").encode(TEXT).tolist() == BPE.encode(TEXT).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_text_that_spells_the_end_mark_is_text(kind: str) -> None:
    ours = make(kind)
    ids = ours.encode("<|endoftext|>")
    assert ours.eos_id not in ids.tolist()
    assert ours.decode(ids) == "<|endoftext|>"


def test_the_end_mark_has_no_text_unless_asked_for() -> None:
    for kind in KINDS:
        ours = make(kind)
        assert ours.eos_id is not None
        ids = [*ours.encode("He").tolist(), ours.eos_id]
        assert ours.decode(ids) == "He"
        assert ours.decode(ids, special=True) == "He<|endoftext|>"
        assert ours.token_text(ours.eos_id) == "<|endoftext|>"
        assert ours.n_bytes(ids) == 2


def test_layouts() -> None:
    assert Tokenizer.byte().encode("é").tolist() == [0xC3, 0xA9]
    char = Tokenizer.char("cab")
    assert char.encode("abc").tolist() == [0, 1, 2]
    assert (char.eos_id, char.vocab_size) == (3, 4)
    assert BPE.vocab_size <= 400
    assert BPE.encode("x").dtype == np.uint32


def test_half_a_character_decodes_to_the_replacement_character() -> None:
    ids = Tokenizer.byte().encode("a中")
    assert Tokenizer.byte().decode(ids[:-1]) == "a\ufffd"
    assert Tokenizer.byte().token_text(int(ids[1])) == "\\xe4"


def test_an_unknown_character_is_named() -> None:
    with pytest.raises(InputError, match=r"'λ' \(U\+03BB\) is not among the 3"):
        Tokenizer.char("abc").encode("abλ")
    with pytest.raises(InputError, match="below 257"):
        Tokenizer.byte().token_text(257)


@pytest.mark.parametrize("kind", ["byte", "bpe"])
@settings(max_examples=60, deadline=None)
@given(text=st.text())
def test_any_text_comes_back(kind: str, text: str) -> None:
    ours = make(kind)
    ids = ours.encode(text)
    assert ours.decode(ids) == text
    assert ours.n_bytes(ids) == len(text.encode())


@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1))
def test_a_char_tokenizer_gives_back_its_own_text(text: str) -> None:
    ours = Tokenizer.char(text)
    assert ours.decode(ours.encode(text)) == text
    assert ours.n_bytes(ours.encode(text)) == len(text.encode())


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="ab1.'’床 \n\r\t\xa0\x1c", min_size=1, max_size=40))
def test_a_cut_before_white_space_changes_no_token(text: str) -> None:
    cut = safe_cut(text)
    assert 0 < cut <= len(text)
    whole = BPE.encode(text).tolist()
    assert BPE.encode(text[:cut]).tolist() + BPE.encode(text[cut:]).tolist() == whole


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(st.text(alphabet="ab1.!'床 \n\r\t\x0b\x1c\x85\xa0\u2028\u3000", max_size=30), min_size=1, max_size=5)
)
def test_the_word_cache_changes_no_token(texts: list[str]) -> None:
    cache = WordCache(BPE.encode_batch)
    for _ in range(2):
        assert [ids.tolist() for ids in cache(texts)] == [BPE.encode(text).tolist() for text in texts]


def test_the_word_cache_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_cache, "_KEEP_WORDS", 3)
    cache = WordCache(BPE.encode_batch)
    for text in ("one two three four five six", "seven eight", "one two"):
        assert cache([text])[0].tolist() == BPE.encode(text).tolist()
        assert len(cache._numbers) <= 8


def test_training_is_deterministic() -> None:
    texts = [TEXT * 3, "ab ba " * 100]
    assert Tokenizer.train_bpe(texts, 350).backend.to_str() == Tokenizer.train_bpe(texts, 350).backend.to_str()


def test_a_tokenizer_without_tokenizer_json_is_converted(tmp_path: Path) -> None:
    letters = {letter: i for i, letter in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##b"])}
    (tmp_path / "vocab.txt").write_text("\n".join(letters))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    ours = Tokenizer.from_hugging_face(tmp_path)
    assert ours.encode("a ab").tolist() == [4, 4, 6]
    assert ours.eos_id == 3


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="holds no tokenizer that can be read"):
        Tokenizer.from_hugging_face(tmp_path)


def test_a_tokenizer_without_a_token_for_the_unknown_says_so(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    backend = Backend(models.WordLevel({"a": 0, "b": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    (tmp_path / "tokenizer.json").write_text(backend.to_str(), encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode("a b").tolist() == [0, 1]
    with pytest.raises(InputError, match=r"cannot encode this text .*Missing .*--tokenizer byte or bpe:SIZE"):
        tokenizer.encode("a c")
