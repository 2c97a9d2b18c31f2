"""The sampling order meets every block once an epoch from any entry; evaluation meets every prediction once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossmith.data import Blocks, Permutation, Split, windows
from lossmith.errors import DataError, InputError


def part(n: int, bounds: list[int] | None = None) -> Split:
    return Split(np.arange(n, dtype=np.uint32), np.array(bounds or [0, n], np.int64), n)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 700), seed=st.integers(-(2**70), 2**70))
def test_a_permutation_is_one_to_one(n: int, seed: int) -> None:
    order = Permutation(n, seed)
    assert sorted(order(i) for i in range(n)) == list(range(n))


def test_a_permutation_can_be_entered_anywhere_however_long() -> None:
    order = Permutation(10**15 + 7, seed=1)
    assert len({order(i) for i in range(10**14, 10**14 + 100)}) == 100
    assert Permutation(100, 1)(5) == Permutation(100, 1)(5)
    for wrong in (-1, 100):
        with pytest.raises(IndexError):
            Permutation(100, 1)(wrong)
    with pytest.raises(InputError):
        Permutation(0, 1)


def test_a_permutation_mixes() -> None:
    orders = np.array([[Permutation(64, seed)(i) for i in range(64)] for seed in range(400)])
    # each place holds each element about 6 times in 400: the mean over seeds is near the middle at every place
    assert abs(orders.mean(axis=0) - 31.5).max() < 5
    assert abs(np.corrcoef(orders[0], np.arange(64))[0, 1]) < 0.5


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 400), size=st.integers(1, 50), seed=st.integers(0, 99))
def test_an_epoch_meets_every_block_once(n: int, size: int, seed: int) -> None:
    if n <= size:
        with pytest.raises(DataError, match=f"needs {size + 1} tokens, and the training part has {n}"):
            Blocks(part(n), size)
        return
    blocks = Blocks(part(n), size, seed=seed)
    for epoch in range(3):
        starts = sorted(int(blocks.example(epoch * len(blocks) + i)["tokens"][0]) for i in range(len(blocks)))
        assert np.diff(starts).tolist() == [size] * (len(blocks) - 1)
        assert starts[-1] + size < n
        assert n - 1 - len(blocks) * size < 2 * size  # what an epoch leaves out


def test_examples_depend_on_seed_and_position_alone() -> None:
    blocks = Blocks(part(10_000), 16, seed=5)
    ahead = [blocks.example(i)["tokens"].tolist() for i in range(2000, 1990, -1)]
    again = Blocks(part(10_000), 16, seed=5)
    assert [again.example(i)["tokens"].tolist() for i in range(2000, 1990, -1)] == ahead
    assert Blocks(part(10_000), 16, seed=6).example(2000)["tokens"].tolist() != ahead[0]
    assert blocks.epoch(len(blocks) * 3) == 3.0
    with pytest.raises(IndexError):
        blocks.example(-1)


def test_epochs_differ_in_order_and_in_where_they_cut() -> None:
    blocks = Blocks(part(1000), 32, seed=0)
    firsts = [[int(blocks.example(e * len(blocks) + i)["tokens"][0]) for i in range(len(blocks))] for e in range(6)]
    assert len({min(first) for first in firsts}) > 3
    assert len({tuple(np.argsort(first)) for first in firsts}) == 6


def test_tokens_are_wide_and_one_longer_than_the_predictions() -> None:
    example = Blocks(part(100), 8).example(0)
    assert set(example) == {"tokens"}
    assert example["tokens"].dtype == np.int64
    assert np.diff(example["tokens"]).tolist() == [1] * 8


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=30), size=st.integers(1, 20))
def test_documents_of_tokens(lengths: list[int], size: int) -> None:
    bounds = [0, *np.cumsum(lengths).tolist()]
    owner = np.repeat(np.arange(len(lengths)), lengths)
    split = Split(np.arange(bounds[-1], dtype=np.uint16), np.array(bounds, np.int64), bounds[-1])
    for window in windows(split, size, document_mask=True):
        assert window["documents"].dtype == np.int32
        assert window["documents"].tolist() == owner[window["tokens"]].tolist()
    if bounds[-1] > size:
        example = Blocks(split, size, document_mask=True).example(3)
        assert example["documents"].tolist() == owner[example["tokens"]].tolist()


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 300), size=st.integers(1, 40), limit=st.none() | st.integers(1, 400))
def test_windows_meet_every_prediction_once(n: int, size: int, limit: int | None) -> None:
    predicted = [token for window in windows(part(n), size, limit=limit) for token in window["tokens"][1:].tolist()]
    assert predicted == list(range(1, n))[:limit]


def test_windows_check_their_sizes() -> None:
    with pytest.raises(InputError, match="at least 1"):
        next(windows(part(10), 0))
    with pytest.raises(InputError, match="--block-size must be at least 1"):
        Blocks(part(10), 0)
