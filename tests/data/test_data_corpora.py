"""Every built-in corpus that is installed reads as plain text; one that is not says how to install it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lossmith.data import CORPORA, DataConfig, open_store
from lossmith.data.corpus_places import debian_version, node, roots, shared
from lossmith.errors import MissingPackageError

# what must not be left of the mark-up that a text came in
MARKUP = {
    "shakespeare": r"\*\*|^#|^_|_$|\\",
    "bible": r"<\w|\bGodcreated",
    "wordnet": r"^\d{8}|\|",
    "tang300": r"\x1b|^%",
    "manpages-zh": r"\\f[BIPR]",
}


@pytest.mark.parametrize("name", CORPORA)
def test_an_installed_corpus_reads_as_it_says(name: str) -> None:
    corpus = CORPORA[name]
    if not corpus.available():
        assert name not in ("shakespeare", "python-docs"), "these two are always there"
        pytest.skip(f"{corpus.package} is not installed: {corpus.install}")
    documents = list(corpus.documents())
    text = "".join(documents)
    assert all(document.strip() for document in documents)
    assert abs(len(text.encode()) / corpus.approx_bytes - 1) < 0.15
    assert "\r" not in text
    assert corpus.content_key() == corpus.content_key()
    assert corpus.content_key().startswith(f"{name}:")
    if name in MARKUP:
        assert not re.search(MARKUP[name], text, re.MULTILINE)
    han = sum("\u4e00" <= character <= "\u9fff" for character in text[:100_000])
    assert (han > 20_000) == corpus.language.startswith("Chinese")


def test_a_corpus_that_is_not_installed_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from lossmith.data import corpus_places

    monkeypatch.setattr(corpus_places, "roots", lambda: [tmp_path])
    with pytest.raises(MissingPackageError, match=r"'wordnet' comes with .*`apt-get install wordnet-base`"):
        open_store(DataConfig(inputs=("wordnet",), cache_dir=str(tmp_path)))
    assert not CORPORA["wordnet"].available()


def test_shakespeare_looks_like_tiny_shakespeare() -> None:
    plays = list(CORPORA["shakespeare"].documents())
    hamlet = next(play for play in plays if play.startswith("Hamlet\n"))
    assert len(plays) == 38
    assert "\n\nHAMLET:\nTo be, or not to be: that is the question:\n" in hamlet
    assert "\n\nEnter HORATIO and MARCELLUS\n\n" in hamlet


def test_packages_unpacked_by_hand_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "usr/share/wordnet").mkdir(parents=True)
    (tmp_path / "node_modules/chinese-poetry/dist/songci").mkdir(parents=True)
    monkeypatch.setenv("LOSSMITH_CORPORA", str(tmp_path))
    assert roots()[0] == tmp_path
    assert shared("wordnet") == tmp_path / "usr/share/wordnet"
    assert node("chinese-poetry/dist/songci") is not None
    assert debian_version(tmp_path / "usr/share/wordnet", "wordnet-base").startswith("wordnet-base-")


def test_a_corpus_becomes_a_store(tmp_path: Path) -> None:
    store = open_store(DataConfig(inputs=("python-docs",), tokenizer="char", cache_dir=str(tmp_path)))
    assert store.meta["documents"] == 79
    assert store.meta["split_by"] == "tail"
    whole = store.tokenizer.decode(store.train.tokens) + store.tokenizer.decode(store.validation.tokens)
    assert whole == "".join(CORPORA["python-docs"].documents())
