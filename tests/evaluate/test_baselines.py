from __future__ import annotations

import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest

from lossmith.data import DataConfig, TokenStore, open_store
from lossmith.evaluate import baselines
from lossmith.evaluate.baselines import count_pairs

TEXT = "she sells sea shells by the sea shore, 她在海边卖贝壳。\nthe shells she sells are sea shells\n" * 12


@pytest.fixture(scope="module", params=["char", "byte", "bpe:300"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    folder = tmp_path_factory.mktemp("store")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    return open_store(
        DataConfig(inputs=(str(folder / "text.txt"),), tokenizer=request.param, cache_dir=str(folder / "cache"))
    )


def entropy(counts: Counter[object]) -> float:
    total = sum(counts.values())
    return -sum(c / total * math.log(c / total) for c in counts.values())


def test_every_figure_agrees_with_plain_counting(store: TokenStore) -> None:
    train, held = store.train.tokens.tolist(), store.validation.tokens.tolist()
    vocab = store.tokenizer.vocab_size
    uni, pairs, before = Counter(train[1:]), Counter(itertools.pairwise(train)), Counter(train[:-1])
    kinds = Counter(b for b, _ in pairs)
    n, m = len(train) - 1, len(held) - 1

    def add_one(x: int) -> float:
        return (uni[x] + 1) / (n + vocab)

    def witten_bell(b: int, x: int) -> float:
        return (pairs[b, x] + kinds[b] * add_one(x)) / (before[b] + kinds[b]) if before[b] else add_one(x)

    expected = {
        "uniform": math.log(vocab),
        "unigram_entropy": entropy(uni),
        "bigram_entropy": entropy(pairs) - entropy(before),
        "unigram": -sum(math.log(add_one(x)) for x in held[1:]) / m,
        "bigram": -sum(math.log(witten_bell(b, x)) for b, x in itertools.pairwise(held)) / m,
    }
    found = {row["name"]: row for row in baselines(store)}
    for name, nats in expected.items():
        assert found[name]["nats_per_token"] == pytest.approx(nats, rel=1e-12), name
        part, count = (store.train, n) if name.endswith("entropy") else (store.validation, m)
        bits = nats * count / math.log(2) / part.n_bytes
        assert found[name]["bits_per_byte"] == pytest.approx(bits, rel=1e-12), name


def test_compressors_are_the_sizes_of_the_store_in_both_units(store: TokenStore) -> None:
    sizes = store.meta["validation_compressed"]
    found = {row["name"]: row for row in baselines(store)}
    for name in ("gzip", "xz", "zstd"):
        bits = 8 * sizes[name] / sizes["of"]
        assert found[name]["bits_per_byte"] == bits
        nats = found[name]["nats_per_token"] * (len(store.validation.tokens) - 1)
        assert nats == pytest.approx(bits * math.log(2) * store.validation.n_bytes, rel=1e-12)


def test_the_rows_are_json_and_say_what_they_are(store: TokenStore) -> None:
    rows = baselines(store)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert all(row["label"] and row["definition"] for row in rows)
    assert len({row["name"] for row in rows}) == len(rows) == 8


@pytest.mark.parametrize("vocab", [5, 1448, 1449, 40_000])
def test_pairs_are_counted_alike_in_every_way_and_over_chunks(vocab: int) -> None:
    tokens = np.random.default_rng(0).integers(0, min(vocab, 30), 1001).astype(np.uint16)
    table = count_pairs(tokens, vocab, chunk=100)
    plain = Counter(zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True))
    assert {divmod(int(k), vocab): int(c) for k, c in zip(table.keys, table.counts, strict=True)} == dict(plain)
    assert (np.diff(table.keys) > 0).all()


def test_witten_bell_is_a_distribution_after_every_token() -> None:
    vocab = 12
    table = count_pairs(np.random.default_rng(1).integers(0, 8, 200), vocab)  # tokens 8 … 11 never occur
    for before in range(vocab):
        assert table.witten_bell(before * vocab + np.arange(vocab)).sum() == pytest.approx(1.0)


def test_nothing_counted_falls_back_to_knowing_nothing() -> None:
    table = count_pairs(np.array([3]), 5)
    assert table.total == 0
    assert table.witten_bell(np.array([7])).tolist() == [0.2]
