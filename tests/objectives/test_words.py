"""Words by the text alone, for every way of spelling tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from lossmith.data import Tokenizer
from lossmith.objectives.words import word_ids

ENGLISH = "Masking wholewords isn't tokenization, unquestionably; 1234 words (don't) stay-together. "
CHINESE = "床前明月光，疑是地上霜。"


def metaspace(texts: list[str]) -> Backend:
    backend = Backend(models.BPE(byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback()])
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=330, special_tokens=bytes_, show_progress=False))
    return backend


def wordpiece(texts: list[str]) -> Backend:
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    special = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]"]
    trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    return backend


@pytest.fixture(params=["byte", "char", "bpe:280", "metaspace", "wordpiece"])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Tokenizer:
    texts = [ENGLISH, CHINESE] * 3
    if request.param == "byte":
        return Tokenizer.byte()
    if request.param == "char":
        return Tokenizer.char(ENGLISH + CHINESE)
    if request.param == "bpe:280":
        return Tokenizer.train_bpe(texts, 280)
    made = metaspace(texts) if request.param == "metaspace" else wordpiece(texts)
    made.save(str(tmp_path / "tokenizer.json"))
    return Tokenizer.from_hugging_face(tmp_path)


def words_of(tokenizer: Tokenizer, text: str) -> list[str]:
    ids = tokenizer.encode(text).astype(np.int64)
    words = word_ids(ids, tokenizer.pieces)
    assert len(words) == len(ids)
    parts = [b"".join(tokenizer.pieces[i] for i in ids[words == word]) for word in range(int(words[-1]) + 1)]
    return [word for word in (part.decode().strip() for part in parts) if word]


def test_english_words_whatever_the_tokenizer(tokenizer: Tokenizer) -> None:
    found = words_of(tokenizer, ENGLISH)
    # A tokenizer may put a full stop into a word's token, and then it is hidden with the word.
    known = {"Masking", "wholewords", "tokenization", "unquestionably", "1234", "words", "stay", "together"}
    assert known <= {word.strip(".,;()-") for item in found for word in item.split("-")}
    assert len(found) >= 9
    assert len(tokenizer.encode("unquestionably")) > 1  # else nothing was put together


def test_every_chinese_character_is_a_word(tokenizer: Tokenizer) -> None:
    if tokenizer.kind == "hf" and b"\xe5" in tokenizer.pieces:
        assert len(tokenizer.encode("龘")) > 1  # byte fallback: one character of several tokens
        assert words_of(tokenizer, "龘月")[-2:] == ["龘", "月"]
    assert "".join(words_of(tokenizer, CHINESE)) == CHINESE
    assert set("床前明月光") <= set(words_of(tokenizer, CHINESE))


def test_a_window_may_begin_and_end_inside_a_character() -> None:
    tokenizer = Tokenizer.byte()
    ids = tokenizer.encode("月光 and 霜").astype(np.int64)[1:-1]
    words = word_ids(ids, tokenizer.pieces)
    assert len(words) == len(ids)
    assert np.all(np.diff(words) >= 0)
    whole = [int((words == word).sum()) for word in range(words[-1] + 1)]
    assert 3 in whole  # 光, and "and"


def test_special_tokens_separate() -> None:
    tokenizer = Tokenizer.byte().with_special(["mask"])
    ids = np.array([97, 98, tokenizer.eos_id, 99, tokenizer.special("mask"), 100])
    assert word_ids(ids, tokenizer.pieces).tolist() == [0, 0, 1, 2, 3, 4]
    assert word_ids(ids[:0], tokenizer.pieces).tolist() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी भाषा बहुत", ["हिन्दी", "भाषा", "बहुत"]),
        ("مُحَمَّد رَسُول", ["مُحَمَّد", "رَسُول"]),
        ("שָׁלוֹם עוֹלָם", ["שָׁלוֹם", "עוֹלָם"]),
        ("cafe\u0301s don't", ["cafe\u0301s", "don't"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("நன்றி, வணக்கம்", ["நன்றி", ",", "வணக்கம்"]),
        ("か\u3099く", ["か\u3099", "く"]),
    ],
)
def test_marks_belong_to_the_letters_they_stand_on(text: str, words: list[str]) -> None:
    for tokenizer in (Tokenizer.char(text), Tokenizer.byte()):
        assert words_of(tokenizer, text) == words
