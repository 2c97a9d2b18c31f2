"""What a model's bits per byte are compared with: counts as codes, compressors given a text, the training text."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lossmith
from lossmith.data import Tokenizer
from lossmith.data.encoding import first_bytes, last_bytes
from lossmith.data.spool import Part
from lossmith.errors import DataError, InputError
from lossmith.evaluate import training_text as known_text
from lossmith.evaluate.adaptive_counts import bigram_nats, unigram_nats
from lossmith.evaluate.compress_rivals import available, rivals
from lossmith.evaluate.outcome import Worth
from lossmith.evaluate.training_text import Known, given_text, training_text
from lossmith.evaluate.worth import SLOW_AT_MOST, encoded, rates


def one_by_one(tokens: list[int], vocab: int) -> tuple[float, float]:
    """The two codes as their definitions say, a token at a time."""
    seen: Counter[Any] = Counter()
    pairs: Counter[Any] = Counter()
    before: Counter[Any] = Counter()
    single = double = 0.0
    for t, x in enumerate(tokens):
        p = (seen[x] + 1) / (t + vocab)
        b = tokens[t - 1] if t else None
        kinds = sum(1 for first, _ in pairs if first == b)
        q = (pairs[b, x] + kinds * p) / (before[b] + kinds) if before[b] else p
        single, double = single - math.log(p), double - math.log(q)
        seen[x] += 1
        if t:
            pairs[b, x] += 1
            before[b] += 1
    return single, double


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(5, 9))
def test_counts_learned_on_the_way_are_their_definition(tokens: list[int], vocab: int) -> None:
    single, double = one_by_one(tokens, vocab)
    assert unigram_nats(np.bincount(tokens, minlength=vocab)) == pytest.approx(single, rel=1e-9)
    assert bigram_nats(np.array(tokens), vocab) == pytest.approx(double, rel=1e-9)


def test_the_probabilities_of_a_bigram_code_add_up() -> None:
    """A code: what each next token would cost, as a probability, sums to 1."""
    start = [0, 1, 0, 2, 0, 1]
    paid = bigram_nats(np.array(start), 4)
    assert sum(math.exp(paid - bigram_nats(np.array([*start, x]), 4)) for x in range(4)) == pytest.approx(1.0)


def test_a_rival_given_a_text_pays_only_for_what_is_new(english: str) -> None:
    before, after = english[:30_000].encode(), english[30_000:34_000].encode()
    for rival in available():
        alone = rival.size(after, b"")
        assert rival.size(after, before) < alone, rival.label
        # reading one part first and flushing costs a few bytes beside compressing both at once
        assert rival.size(after, before) == pytest.approx(
            rival.size(before + after, b"") - rival.size(before, b""), abs=99
        )
    copied = rivals(before[-4000:], before)
    assert all(size < 250 for size in copied.values())
    assert rivals(after, chosen=available()[:2]).keys() == {"gzip -9", "xz -9e"}


def test_progress_of_rivals_is_told() -> None:
    told: list[tuple[int, int]] = []
    found = rates(
        Tokenizer.byte(), b"a text, " * 50, Known(b"another text, " * 90, 1260, "x"), lambda *at: told.append(at)
    )
    count = len(available())
    assert told == [(i + 1, 2 * count) for i in range(2 * count)]
    assert [rate.given for rate in found] == [False] * (count + 1) + [True] * (count + 2)


def test_rates_are_sizes_and_counts(english: str) -> None:
    tokenizer = Tokenizer.byte()
    data, before = "床前明月光, and ".encode() + english[:3000].encode(), english[5000:20_000].encode()
    found = {rate.name: rate for rate in rates(tokenizer, data, Known(before, len(before), "the text before"))}
    assert found["ppmd"].bits_per_byte == 8 * rivals(data)["PPMd, order 12"] / len(data)
    assert found["ppmd_given"].bits_per_byte == 8 * rivals(data, before)["PPMd, order 12"] / len(data)
    assert found["ppmd_given"].bits_per_byte < found["ppmd"].bits_per_byte < found["bigram"].bits_per_byte
    uni = Counter(before[1:])

    def p(x: int) -> float:
        return (uni[x] + 1) / (len(before) - 1 + 257)

    single = -sum(math.log2(p(x)) for x in data) / len(data)
    assert found["unigram_given"].bits_per_byte == pytest.approx(single)
    pairs, first = Counter(itertools.pairwise(before)), Counter(before[:-1])
    kinds = Counter(b for b, _ in pairs)
    double = -math.log2(p(data[0]))
    for b, x in itertools.pairwise(data):
        double -= math.log2((pairs[b, x] + kinds[b] * p(x)) / (first[b] + kinds[b]) if first[b] else p(x))
    assert found["bigram_given"].bits_per_byte == pytest.approx(double / len(data))
    assert found["bigram"].figures(3.0)["loss"] == pytest.approx(3 * math.log(2) * found["bigram"].bits_per_byte)


def test_slow_rivals_are_not_given_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lossmith.evaluate.worth.SLOW_AT_MOST", 100)
    found = {rate.name for rate in rates(Tokenizer.byte(), b"ab" * 99, Known(b"ab" * 99, 198, "x"))}
    assert "xz_given" not in found
    assert {"xz", "gzip_given", "zstd_given", "ppmd_given"} <= found
    assert SLOW_AT_MOST == 8 * 2**20


def test_what_pays_for_the_model() -> None:
    worth = Worth(2.0, 1000, 1000, 500, "ppmd", 3.0)
    assert worth.with_model == 2.0 + 4.0
    assert worth.pays_after == 4000  # 4000 bytes at 2 bits and 500 bytes of model are 1500 bytes; at 3 bits as many
    assert Worth(3.5, 1000, 1000, 500, "ppmd", 3.0).pays_after is None


def test_text_is_encoded_in_pieces_as_in_one(english: str) -> None:
    tokenizer = Tokenizer.train_bpe([english[:20_000]], 400)
    text = (english * 20)[: (1 << 20) + 5000]
    assert tokenizer.decode(encoded(tokenizer, text.encode()).tolist()) == text


@pytest.mark.parametrize("most", [1, 5, 6, 7, 14, 100])
def test_the_beginning_and_the_end_of_a_part(tmp_path: Path, most: int) -> None:
    text = "ab床c|zzz|前明d".encode()
    (tmp_path / "t").write_bytes(text)
    part = Part(np.array([0, 11]), np.array([6, len(text)]))
    whole = "ab床c前明d".encode()
    assert first_bytes(tmp_path / "t", part, most) == whole[:most].decode(errors="ignore").encode()
    assert last_bytes(tmp_path / "t", part, most) == whole[-most:].decode(errors="ignore").encode()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, english: str, tiny_options: dict[str, Any]) -> Path:
    folder = tmp_path_factory.mktemp("known")
    (folder / "a.txt").write_text(english[:9000] + "床前明月光" * 50, encoding="utf-8")
    (folder / "b.txt").write_text(english[9000:20_000], encoding="utf-8")
    options = tiny_options | {"tokenizer": "bpe:300", "validation_fraction": 0.1, "cache_dir": str(folder / "cache")}
    lossmith.train(str(folder / "a.txt"), str(folder / "b.txt"), output_dir=str(folder / "run"), max_steps=2, **options)
    return folder


def test_the_training_text_comes_from_the_store_or_from_the_inputs(run: Path, english: str, tmp_path: Path) -> None:
    record = json.loads((run / "run" / "run.json").read_text(encoding="utf-8"))
    whole = english[:9000] + "床前明月光" * 50 + english[9000:20_000]
    want = whole[: int(len(whole) * 0.9)].encode()
    assert record["data"]["train_bytes"] == len(want)
    found = [training_text(run / "run" / place) for place in ("", "model", "checkpoints/step-000002/model")]
    assert all(known is not None and known.data == want and known.total == len(want) for known in found)
    shutil.move(run / "cache", tmp_path / "cache")
    try:
        again = training_text(run / "run")
        assert again is not None
        assert again.data == want
        with (run / "b.txt").open("a") as file:
            file.write("changed since then")
        assert training_text(run / "run") is None
        (run / "b.txt").unlink()
        assert training_text(run / "run") is None
    finally:
        shutil.move(tmp_path / "cache", run / "cache")
    assert training_text(run / "run") is not None


def test_only_the_end_of_a_long_training_text_is_taken(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = training_text(run / "run")
    monkeypatch.setattr(known_text, "KNOWN_AT_MOST", 1000)
    monkeypatch.setattr(known_text, "_TOKENS", 64)
    end = training_text(run / "run")
    assert whole is not None
    assert end is not None
    assert end.data == whole.data[-1000:]
    assert end.total == whole.total
    given = given_text((str(run / "a.txt"),))
    assert given.data == (run / "a.txt").read_bytes()[-1000:].decode(errors="ignore").encode()


def test_a_model_without_a_run_has_no_known_training_text(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "run" / "model", tmp_path / "a" / "b" / "c" / "d" / "model")
    assert training_text(tmp_path / "a" / "b" / "c" / "d" / "model") is None
    (tmp_path / "run.json").write_text("[1]")
    assert training_text(tmp_path) is None


def test_given_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match="holds no text"):
        given_text((str(tmp_path / "empty.txt"),))
    with pytest.raises(DataError, match="no such file"):
        given_text(("nowhere.txt",))
    with pytest.raises(InputError, match="for standard input write a file"):
        given_text(("-",))
