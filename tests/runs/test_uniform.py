"""The fast way through JSON lines gives what the slow one gives, or declines."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossmith.runs._table import columns_of
from lossmith.runs._uniform import uniform_columns

ROW = {"step": 1, "loss": 2.5, "lr": 3e-4}


def block(rows: list[Any], separators: tuple[str, str] = (", ", ": ")) -> bytes:
    return "\n".join(json.dumps(row, separators=separators, ensure_ascii=False) for row in rows).encode()


def assert_same(rows: list[dict[str, Any]], text: bytes) -> None:
    found = uniform_columns(text)
    assert found is not None
    want = columns_of(rows)
    assert found[0] == len(rows)
    assert sorted(found[1]) == sorted(want)
    for name, (at, values) in want.items():
        np.testing.assert_array_equal(found[1][name][0], at)
        np.testing.assert_array_equal(found[1][name][1], values)


numbers = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
rows = st.tuples(st.integers(0, 10**9), numbers, numbers).map(
    lambda row: dict(zip(("step", "loss", "train/grad-norm é"), row, strict=True))
)


@settings(deadline=None, max_examples=50)
@given(few=st.lists(rows, min_size=1, max_size=20), odd=st.lists(st.integers(1, 400), max_size=8), tight=st.booleans())
def test_the_fast_way_is_the_slow_way(few: list[dict[str, Any]], odd: list[int], tight: bool) -> None:
    many: list[dict[str, Any]] = [few[i % len(few)] for i in range(400)]
    for place in odd:
        many.insert(place, {"step": place, "eval_loss": 1.5, "note": "words, and: 3"})
    assert_same(many, block(many, (",", ":") if tight else (", ", ": ")))


@pytest.mark.parametrize(
    "other",
    [
        {"loss": 2.5, "step": 1, "lr": 3e-4},  # other order
        {"step": 1, "loss": 2.5},  # a name less
        {"step": 1, "loss": 2.5, "lr": 3e-4, "x": 1},  # a name more
        {"step": 1, "loss": None, "lr": 3e-4},
        {"step": 1, "loss": True, "lr": 3e-4},
        {"step": 1, "loss": float("nan"), "lr": 3e-4},
        {"step": 1, "loss": [2.5, 3.5], "lr": 3e-4},
        {"step": 1, "loss": {"loss": 2.5}, "lr": 3e-4},
        {"step": 1, "loss": "2.5", "lr": 3e-4},
        {"step": 1, "loss": '", "loss": 7', "lr": 3e-4},
        [1, 2.5, 3e-4],
    ],
)
@pytest.mark.parametrize("place", [1, 150, 400])
def test_an_odd_line_is_read_right_or_declined(other: Any, place: int) -> None:
    many: list[Any] = [ROW] * 400
    many.insert(place, other)
    if uniform_columns(block(many)) is not None:
        assert_same(many, block(many))


@pytest.mark.parametrize(
    "line", [b"", b"words", b'{"step": 1, "lo', b'{"step": 007, "loss": 2.5, "lr": 3e-4}', b"\x80\x81\x82"]
)
def test_broken_lines_are_declined(line: bytes) -> None:
    lines = [block([ROW])] * 400
    assert uniform_columns(b"\n".join(lines)) is not None
    assert uniform_columns(b"\n".join([*lines[:200], line, *lines[200:]])) is None


def test_too_many_kinds_of_lines_are_declined() -> None:
    assert uniform_columns(block([ROW, {"step": 1, "eval_loss": 2.0}] * 300)) is None
