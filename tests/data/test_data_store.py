"""A store is found by content, split without overlap, and either whole or not there: killed, raced or out of disk."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossmith.data import DataConfig, Split, TokenStore, open_store
from lossmith.data import encoding as encoding_module
from lossmith.data.order import mix
from lossmith.errors import DataError

TINY = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare.txt"
BUILD = """
import resource, sys
from lossmith.data import DataConfig, open_store
if len(sys.argv) > 4: resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
store = open_store(DataConfig(inputs=(sys.argv[1],), tokenizer=sys.argv[2], cache_dir=sys.argv[3]))
print(store.path)
"""


def config(tmp_path: Path, *inputs: Path | str, **options: object) -> DataConfig:
    options = {"tokenizer": "byte", "cache_dir": str(tmp_path / "cache"), **options}
    return DataConfig(inputs=tuple(str(path) for path in inputs), **options)  # type: ignore[arg-type]


def text_of(store: TokenStore, part: Split) -> str:
    return store.tokenizer.decode(part.tokens)


def words(n: int, seed: int = 0) -> str:
    draw = random.Random(seed)
    return "".join(draw.choice(["the ", "cat\n", "sat. ", "床前", "明月\r\n", "😀", "Don't "]) for _ in range(n))


def content(store: TokenStore) -> dict[str, bytes]:
    files = {str(path.relative_to(store.path)): path for path in store.path.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "store.json"}


@pytest.mark.skipif(not TINY.exists(), reason="../shared is not there")
def test_tiny_shakespeare_is_split_as_nanogpt_does(tmp_path: Path) -> None:
    store = open_store(config(tmp_path, TINY, tokenizer="char"))
    text = TINY.read_text(encoding="utf-8")
    cut = int(len(text) * 0.9)
    letters = {letter: i for i, letter in enumerate(sorted(set(text)))}
    assert store.train.tokens[1:].tolist() == [letters[letter] for letter in text[:cut]]
    assert store.validation.tokens[1:].tolist() == [letters[letter] for letter in text[cut:]]
    assert store.tokenizer.vocab_size == 66
    assert store.train.tokens[0] == store.validation.tokens[0] == 65


@settings(max_examples=40, deadline=None)
@given(
    documents=st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=12),
    fraction=st.floats(0.01, 0.99),
    limit=st.integers(1, 60),
    by=st.sampled_from(["tail", "document"]),
)
def test_no_character_is_lost_or_in_both_parts(
    tmp_path_factory: pytest.TempPathFactory, documents: list[str], fraction: float, limit: int, by: str
) -> None:
    folder = tmp_path_factory.mktemp("split")
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    options = {"validation_fraction": fraction, "validation_max_bytes": limit, "split_by": by, "tokenizer": "char"}
    try:
        store = open_store(config(folder, folder / "a.jsonl", **options))
    except DataError as error:
        if "leave nothing for the" not in str(error):
            raise
        return
    train, validation = text_of(store, store.train), text_of(store, store.validation)
    joined = "".join(documents)
    assert (store.train.n_bytes, store.validation.n_bytes) == (len(train.encode()), len(validation.encode()))
    if by == "tail":
        assert train + validation == joined
        assert store.validation.n_bytes <= limit
        assert len(train) >= int(len(joined) * (1 - fraction))
    else:
        assert sorted(train + validation) == sorted(joined)
        assert store.train.n_documents + store.validation.n_documents == len(documents)
        assert store.validation.n_bytes <= limit or store.validation.n_documents == 1


def test_many_documents_are_split_by_document(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"document number {i:05d}"}) + "\n" for i in range(2000)))
    store = open_store(config(tmp_path, path))
    held = text_of(store, store.validation).split("document number ")[1:]
    assert store.meta["split_by"] == "document"
    assert len(held) == store.validation.n_documents == 200
    assert [int(number) for number in held] == sorted(sorted(range(2000), key=lambda i: mix(0x5EED ^ i))[:200])
    assert open_store(config(tmp_path, path, split_by="tail")).meta["split_by"] == "tail"


def test_an_evaluation_file_wins_and_is_taken_out_of_the_inputs(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.txt").write_text(name * 50)
    store = open_store(config(tmp_path, folder, eval_file=(str(folder / "b.txt"),), tokenizer="char"))
    assert text_of(store, store.train) == "a" * 50 + "c" * 50
    assert text_of(store, store.validation) == "b" * 50
    assert store.meta["split_by"] == "eval_file"
    with pytest.raises(DataError, match="--eval-file names every input"):
        open_store(config(tmp_path, folder / "b.txt", eval_file=(str(folder / "b.txt"),)))


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe:300"])
def test_every_token_of_the_text_is_there_once(tmp_path: Path, tokenizer: str) -> None:
    text = words(60_000)
    (tmp_path / "a.txt").write_bytes(text.encode())
    store = open_store(config(tmp_path, tmp_path / "a.txt", tokenizer=tokenizer))
    cut = int(len(text) * 0.9)
    assert text_of(store, store.train) == text[:cut]
    assert store.tokenizer.n_bytes(store.validation.tokens) == store.validation.n_bytes == len(text[cut:].encode())
    assert store.train.tokens.dtype == np.uint16
    assert store.train.bounds.tolist() == [0, len(store.train.tokens)]
    assert store.validation.tokens[1:].tolist() == store.tokenizer.encode(text[cut:]).tolist()


def test_meta_says_what_is_in_the_store(tmp_path: Path) -> None:
    text = words(5000)
    (tmp_path / "a.txt").write_bytes(text.encode())
    seen: list[tuple[str, int, int | None]] = []
    store = open_store(config(tmp_path, tmp_path / "a.txt"), lambda *told: seen.append(told))
    meta = store.meta
    assert meta == json.loads((store.path / "store.json").read_text())
    assert meta["n_train_tokens"] == len(store.train.tokens)
    assert meta["train_bytes"] + meta["validation_bytes"] == len(text.encode())
    assert meta["validation_compressed"]["of"] == meta["validation_bytes"]
    assert all(50 < meta["validation_compressed"][name] < meta["validation_bytes"] for name in ("gzip", "xz", "zstd"))
    assert meta["sources"] == [{"name": str(tmp_path / "a.txt"), "bytes": len(text.encode()), "documents": 1}]
    assert ("reading", len(text.encode()), len(text.encode())) in seen
    assert seen[-1] == ("tokenizing", len(text.encode()), len(text.encode()))


def test_a_store_is_found_by_content_tokenizer_and_options(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.txt", tmp_path / "copy.txt"
    path.write_text("some text " * 50)
    copy.write_text("some text " * 50)
    first = open_store(config(tmp_path, path))
    assert open_store(config(tmp_path, copy)).path == first.path
    assert open_store(config(tmp_path, path, num_workers=1)).path == first.path
    others = [
        config(tmp_path, path, tokenizer="char"),
        config(tmp_path, path, validation_fraction=0.2),
        config(tmp_path, path, copy),
    ]
    assert len({first.path, *(open_store(other).path for other in others)}) == 4
    path.write_text("more text " * 50)
    assert open_store(config(tmp_path, path)).path != first.path


def test_the_hash_of_a_large_file_is_noted_and_renewed_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lossmith.data import fingerprint

    monkeypatch.setattr(fingerprint, "_MEMO_FROM", 10)
    path = tmp_path / "a.txt"
    path.write_text("a" * 100)
    os.utime(path, (1, 1))
    first = fingerprint.file_hash(path, tmp_path)
    assert len(list((tmp_path / "hashes").iterdir())) == 1
    assert fingerprint.file_hash(path, tmp_path) == first
    path.write_text("b" * 100)
    assert fingerprint.file_hash(path, tmp_path) != first


def test_a_hugging_face_folder_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text " * 50)
    one = open_store(config(tmp_path, tmp_path / "a.txt", tokenizer="bpe:270"))
    two = open_store(config(tmp_path, tmp_path / "a.txt", tokenizer=str(one.path / "tokenizer")))
    assert two.path != one.path
    assert two.train.tokens.tolist() == one.train.tokens.tolist()
    assert text_of(two, two.train) == text_of(one, one.train)


def test_the_number_of_workers_changes_no_token(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(words(30_000).encode())
    stores = [
        open_store(
            config(tmp_path, tmp_path / "a.txt", tokenizer="bpe:300", num_workers=n, cache_dir=str(tmp_path / str(n)))
        )
        for n in (1, 2, 8)
    ]
    assert content(stores[0]) == content(stores[1]) == content(stores[2])


def test_text_that_spells_the_end_mark_opens_no_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("before <|endoftext|> after " * 50)
    for tokenizer in ("byte", "char", "bpe:300"):
        store = open_store(config(tmp_path, tmp_path / "a.txt", tokenizer=tokenizer))
        assert np.flatnonzero(store.train.tokens == store.tokenizer.eos_id).tolist() == [0]


def test_a_single_line_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(("床前明月光" * 100_000).encode())  # 1.5 MB without a line end or a space
    store = open_store(config(tmp_path, path, tokenizer="bpe:300"))
    assert store.train.n_documents == store.validation.n_documents == 1
    assert text_of(store, store.validation) == ("床前明月光" * 100_000)[-50_000:]
    pieces = encoding_module.chunks(path, encoding_module.Part(np.array([0]), np.array([1_500_000])), 1 << 14)
    assert max(len(text.encode()) for _, text in pieces) < (1 << 14) + 4


def test_bpe_learns_from_stretches_of_all_of_a_large_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding_module, "GROUP", 1 << 16)
    monkeypatch.setattr(encoding_module, "LEARN_AT_MOST", 4 << 16)
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{i:07d} " for i in range(1 << 18)))  # 2 MiB
    part = encoding_module.Part(np.array([0]), np.array([1 << 21]))
    ticks: list[int] = []
    pieces = list(encoding_module.learning_texts(path, part, ticks.append))
    numbers = [int(number) for piece in pieces for number in piece.split()]
    assert sum(map(len, pieces)) <= 5 << 16
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    assert numbers[-1] > 0.7 * (1 << 18)
    assert max(map(len, pieces)) <= 1 << 10
    assert ticks[-1] == 1 << 21


def test_an_unfinished_store_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no finished token store"):
        TokenStore(tmp_path)


def start(text: Path, cache: Path, *limits: str, tokenizer: str = "bpe:300") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(text), tokenizer, str(cache), *limits]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_build_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_bytes(words(150_000).encode())
    begun = time.monotonic()
    with start(text, tmp_path / "calm") as process:
        undisturbed = TokenStore(process.communicate()[0].strip())
    whole = time.monotonic() - begun
    draw = random.Random(1)
    for round_ in range(6):
        cache = tmp_path / "killed"
        with start(text, cache) as process:
            time.sleep(whole * draw.uniform(0.2, 1.0))
            process.send_signal(signal.SIGKILL)
            process.wait()
        stores = [path for path in (cache / "stores").glob("*") if not path.name.startswith(".")]
        for path in stores:  # it was faster than the signal: then it must be whole
            assert content(TokenStore(path)) == content(undisturbed), f"round {round_}"
    with start(text, tmp_path / "killed") as process:
        rebuilt = TokenStore(process.communicate()[0].strip())
    assert content(rebuilt) == content(undisturbed)
    assert [path.name for path in rebuilt.path.parent.iterdir()] == [rebuilt.fingerprint]


def test_what_a_killed_build_left_is_removed_by_the_next_build_of_anything(tmp_path: Path) -> None:
    text, other = tmp_path / "a.txt", tmp_path / "b.txt"
    text.write_bytes(words(300_000).encode())
    other.write_text("other text " * 50)
    with start(text, tmp_path / "cache") as process:
        while not list((tmp_path / "cache").glob("stores/.building-*/*")):
            assert process.poll() is None
            time.sleep(0.002)
        live = list((tmp_path / "cache").glob("stores/.building-*"))
        open_store(config(tmp_path, other))  # while the first still builds: its folder stays
        assert process.poll() is not None or live[0].exists()
        process.kill()
        process.wait()
    (tmp_path / "cache" / "stores" / ".building-0000").mkdir()
    open_store(config(tmp_path, other, tokenizer="char"))
    assert not list((tmp_path / "cache").glob("stores/.building-*"))


def test_processes_that_ask_at_once_get_one_correct_store(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_bytes(words(40_000).encode())
    processes = [start(text, tmp_path / "cache") for _ in range(3)]
    answers = [process.communicate() for process in processes]
    assert len({out for out, _ in answers}) == 1, answers
    assert all(process.returncode == 0 for process in processes)
    alone = open_store(config(tmp_path, text, tokenizer="bpe:300", cache_dir=str(tmp_path / "alone")))
    assert content(TokenStore(answers[0][0].strip())) == content(alone)
    assert len(list((tmp_path / "cache" / "stores").iterdir())) == 1


@pytest.mark.parametrize("limit", ["1000", "60000", "110000"])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, limit: str) -> None:
    text = tmp_path / "a.txt"
    text.write_text("some text " * 10_000)
    with start(text, tmp_path / "cache", limit, tokenizer="byte") as process:
        _, error = process.communicate()
    assert process.returncode != 0
    assert "lossmith.errors.DataError: the cache" in error
    assert "--cache-dir" in error
    assert not list((tmp_path / "cache" / "stores").iterdir())


def test_a_cache_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    (tmp_path / "a.txt").write_text("some text")
    with pytest.raises(DataError, match="is not a folder"):
        open_store(config(tmp_path, tmp_path / "a.txt"))


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("LOSSMITH_CACHE", raising=False)
    assert DataConfig(inputs=("a",)).cache == tmp_path / "xdg" / "lossmith"
    monkeypatch.setenv("LOSSMITH_CACHE", str(tmp_path / "own"))
    assert DataConfig(inputs=("a",)).cache == tmp_path / "own"
    assert DataConfig(inputs=("a",), cache_dir=str(tmp_path)).cache == tmp_path


def test_opening_a_cached_store_imports_no_heavy_package(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text " * 50)
    code = (
        "import sys; from lossmith.data import *;"
        "s = open_store(DataConfig(inputs=(sys.argv[1],), tokenizer='bpe:300', cache_dir=sys.argv[2]));"
        "s.train, s.tokenizer.encode('text');"
        "print([name for name in ('torch', 'transformers', 'datasets', 'pandas', 'pyarrow') if name in sys.modules])"
    )
    for _ in range(2):
        command = [sys.executable, "-c", code, str(tmp_path / "a.txt"), str(tmp_path / "cache")]
        assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip() == "[]"
