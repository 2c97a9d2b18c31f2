from __future__ import annotations

import io
import itertools
import json
import math
from typing import Any

import pytest
import torch
from rich.console import Console
from test_sampling import make_model

from lossmith.cli.next import show
from lossmith.data import Tokenizer
from lossmith.errors import InputError
from lossmith.evaluate import next_tokens


@pytest.fixture(scope="module")
def byte() -> Tokenizer:
    return Tokenizer.byte()


def distribution(model: Any, ids: list[int]) -> list[float]:
    with torch.no_grad():
        p: list[float] = model(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1).tolist()
    return p


def test_the_top_is_the_softmax_sorted(byte: Tokenizer) -> None:
    model = make_model(byte.vocab_size).train()
    found = next_tokens(model, byte, "床前明月", top=byte.vocab_size)
    p = distribution(model.eval(), [int(byte.eos_id or 0), *map(int, byte.encode("床前明月"))])
    assert sum(token.probability for token in found.top) == pytest.approx(1.0, abs=1e-12)
    assert [token.probability for token in found.top] == pytest.approx(sorted(p, reverse=True), rel=1e-12)
    for token in found.top:
        assert token.probability == pytest.approx(p[token.id], rel=1e-12)
        assert token.nats == pytest.approx(-math.log(p[token.id]), rel=1e-12)
        assert token.bits == pytest.approx(token.nats / math.log(2), rel=1e-12)
        assert token.text == byte.token_text(token.id)
    assert found.entropy == pytest.approx(-sum(x * math.log(x) for x in p), rel=1e-12)


def test_a_candidate_costs_the_product_of_its_tokens(byte: Tokenizer) -> None:
    model = make_model(byte.vocab_size)
    found = next_tokens(model, byte, "床前明月", candidates=["光", "水", "火把"])
    assert [c.nats for c in found.candidates] == sorted(c.nats for c in found.candidates)
    for candidate in found.candidates:
        ids, joint = [int(byte.eos_id or 0), *map(int, byte.encode("床前明月"))], 1.0
        for token in byte.encode(candidate.text).tolist():
            joint *= distribution(model, ids)[token]
            ids.append(token)
        assert candidate.probability == pytest.approx(joint, rel=1e-10)
        assert candidate.nats == pytest.approx(-math.log(joint), rel=1e-10)
        assert candidate.nats == pytest.approx(sum(candidate.token_nats), rel=1e-12)
        assert candidate.nats_per_token == pytest.approx(candidate.nats / len(candidate.ids), rel=1e-12)


def test_all_continuations_of_one_length_share_one_probability(tmp_path: Any) -> None:
    from lossmith.data import DataConfig, open_store

    (tmp_path / "a.txt").write_text("abcab bca " * 100)
    store = open_store(DataConfig(inputs=(str(tmp_path / "a.txt"),), tokenizer="char"))
    tokenizer = store.tokenizer
    model = make_model(tokenizer.vocab_size)
    texts = ["".join(pair) for pair in itertools.product("abc ", repeat=2)]
    total = sum(c.probability for c in next_tokens(model, tokenizer, "ab", candidates=texts).candidates)
    ids = [int(tokenizer.eos_id or 0), *map(int, tokenizer.encode("ab"))]
    first = distribution(model, ids)
    end = int(tokenizer.eos_id or 0)
    with_end = first[end] + sum(first[t] * distribution(model, [*ids, t])[end] for t in range(len(first)) if t != end)
    assert total + with_end == pytest.approx(1.0, abs=1e-12)


def test_the_tokens_of_the_whole_are_taken_where_the_prompt_stays_whole() -> None:
    tokenizer = Tokenizer.train_bpe(["the there then theme " * 50], 275)
    model = make_model(tokenizer.vocab_size)
    (joined,) = next_tokens(model, tokenizer, "the", candidates=[" there"]).candidates
    whole = tokenizer.encode("the there").tolist()
    assert whole[: len(tokenizer.encode("the"))] == tokenizer.encode("the").tolist()
    assert list(joined.ids) == whole[len(tokenizer.encode("the")) :]
    straddling = next(
        (p, c)
        for p, c in [("th", "ere"), ("t", "he"), ("the", "re")]
        if tokenizer.encode(p + c).tolist()[: len(tokenizer.encode(p))] != tokenizer.encode(p).tolist()
    )
    (alone,) = next_tokens(model, tokenizer, straddling[0], candidates=[straddling[1]]).candidates
    assert list(alone.ids) == tokenizer.encode(straddling[1]).tolist()


def test_an_empty_prompt_is_the_start_of_a_document(byte: Tokenizer) -> None:
    model = make_model(byte.vocab_size)
    p = distribution(model, [int(byte.eos_id or 0)])
    assert next_tokens(model, byte, "", top=1).top[0].probability == pytest.approx(max(p), rel=1e-12)


def test_a_long_prompt_is_cut_to_the_context(byte: Tokenizer) -> None:
    model = make_model(byte.vocab_size, positions=8)
    p = distribution(model, [int(i) for i in byte.encode("a long prompt"[-8:])])
    assert next_tokens(model, byte, "a long prompt", top=1).top[0].probability == pytest.approx(max(p), rel=1e-12)
    (cost,) = next_tokens(model, byte, "a long prompt", candidates=["12345678"]).candidates
    assert len(cost.token_nats) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "--top must be 1 or more"),
        ({"candidates": [""]}, "--candidates must not be empty"),
        ({"candidates": ["x" * 65]}, "has 65 tokens and the model sees 64"),
    ],
)
def test_what_cannot_be_asked_is_said(byte: Tokenizer, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        next_tokens(make_model(byte.vocab_size), byte, "a", **options)


def test_candidates_that_cannot_be_encoded_are_left_out_and_named() -> None:
    tokenizer = Tokenizer.char("床前明月光")
    model = make_model(tokenizer.vocab_size)
    found = next_tokens(model, tokenizer, "床前", candidates=["明", "水", "月"])
    assert {candidate.text for candidate in found.candidates} == {"明", "月"}
    assert list(found.unknown) == ["水"]
    assert "水" in found.unknown["水"]
    stream = io.StringIO()
    show(found, Console(file=stream, width=200))
    assert "left out “水”: the character '水'" in stream.getvalue()
    assert found.to_json()["unknown"] == found.unknown
    with pytest.raises(InputError, match="--candidates: the character '水'"):
        next_tokens(model, tokenizer, "床前", candidates=["水"])


def test_to_json_is_json_and_complete(byte: Tokenizer) -> None:
    found = next_tokens(make_model(byte.vocab_size), byte, "a", top=3, candidates=["b", "🌕"])
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [row["id"] for row in data["top"]] == [token.id for token in found.top]
    assert {row["text"] for row in data["candidates"]} == {"b", "🌕"}
    assert data["entropy"] == found.entropy
