from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from test_sampling import make_model

from lossmith import cli
from lossmith.data import Tokenizer
from lossmith.errors import InputError
from lossmith.evaluate import next_tokens, sample
from lossmith.evaluate.surprisal import surprisal
from lossmith.evaluate.surprise_blanks import fill_blanks
from lossmith.evaluate.surprise_model import Scorer
from lossmith.evaluate.surprise_path import drawn, path_to

CHAR = Tokenizer.char("abc_ ")
SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "next.json"


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model(CHAR.vocab_size, positions=32)


def test_the_path_costs_what_the_candidate_costs(model: Any) -> None:
    steps = path_to(model, CHAR, "ab", "cab")
    (candidate,) = next_tokens(model, CHAR, "ab", candidates=["cab"]).candidates
    assert [step.bits * math.log(2) for step in steps] == pytest.approx(list(candidate.token_nats))
    assert steps[-1].bits_so_far == pytest.approx(candidate.bits)
    for i, step in enumerate(steps):
        top = next_tokens(model, CHAR, "ab" + "cab"[:i], top=CHAR.vocab_size).top
        assert [token.text for token in top][step.rank] == step.text
        assert (top[0].text, top[0].probability) == (step.first, pytest.approx(step.first_probability))
    with pytest.raises(InputError, match="--path must be"):
        path_to(model, CHAR, "ab", "")


@pytest.mark.parametrize("options", [{}, {"temperature": 2.0}, {"top_k": 2}, {"top_p": 0.6}, {"temperature": 0}])
def test_drawn_is_how_often_sampling_draws(model: Any, options: dict[str, Any]) -> None:
    p = drawn(model, CHAR, "ab", **options)
    assert p.sum() == pytest.approx(1)
    given = {"temperature": 1.0, **options}
    said = Counter(
        sample(model, CHAR, "ab", max_new_tokens=1, seed=seed, stop_at_end=False, **given)[2:] for seed in range(400)
    )
    for token in range(CHAR.vocab_size - 1):
        assert said[CHAR.decode([token])] / 400 == pytest.approx(p[token], abs=0.08)


def test_every_combination_of_candidates_is_scored(model: Any) -> None:
    scorer = Scorer(model, CHAR, False, "m")
    found = fill_blanks(scorer, "a__b__c", candidates=["a", "bb", " "], top=9)
    expected = {
        words: surprisal(scorer, f"a{words[0]}b{words[1]}c").total_nats
        for words in itertools.product(["a", "bb", " "], repeat=2)
    }
    assert [filling.nats for filling in found] == sorted(expected.values())
    assert all(expected[filling.words] == filling.nats for filling in found)
    assert sum(filling.share for filling in found) == pytest.approx(1)


def test_a_causal_model_guesses_the_cheapest_text(model: Any) -> None:
    """Three characters and two blanks: the beam holds all there is, so that its best is the best."""
    scorer = Scorer(model, CHAR, False, "m")
    (best,) = fill_blanks(scorer, "a__b__c", top=1)
    (exhaustive,) = fill_blanks(scorer, "a__b__c", top=1, candidates=list("abc_"))
    assert best == exhaustive


def test_a_masked_model_fills_what_it_sees_hidden() -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers
    from transformers import BertConfig, BertForMaskedLM

    words = {word: i for i, word in enumerate(["[UNK]", "[MASK]", *"abcdef"])}
    backend = Backend(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=12, initializer_range=0.5,
    )  # fmt: skip
    bert = BertForMaskedLM(config).eval()
    scorer = Scorer(bert, Tokenizer("hf", backend=backend, eos_id=None), True, "bert")
    with torch.no_grad():
        log_p = bert(input_ids=torch.tensor([[2, 1, 3, 1]])).logits[0, [1, 3]].double().log_softmax(-1)
    found = fill_blanks(scorer, "a __ b __", top=64)
    names = list(words)
    assert len(found) == 64
    for filling in found[:10]:
        places = [names.index(word) for word in filling.words]
        assert filling.nats == pytest.approx(-float(log_p[0, places[0]] + log_p[1, places[1]]))
    assert found[0].nats == pytest.approx(-float(log_p.max(-1).values.sum()))
    (chosen, _) = fill_blanks(scorer, "a __ b", candidates=["c", "d e"])
    assert chosen.nats == pytest.approx(surprisal(scorer, f"a {chosen.words[0]} b").total_nats)


def test_what_cannot_be_filled_is_said(model: Any) -> None:
    scorer = Scorer(model, CHAR, False, "m")
    with pytest.raises(InputError, match="--fill needs a blank: write __"):
        fill_blanks(scorer, "abc")
    with pytest.raises(InputError, match="are 1,024 texts; at most 1,000"):
        fill_blanks(scorer, "__" * 10, candidates=["a", "b"])


def test_the_command_says_all_of_it(model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.save_pretrained(tmp_path / "model")
    CHAR.save(tmp_path / "model")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    run = str(tmp_path)
    assert cli.run(["next", run, "ab", "--top", "3", "--top-k", "2", "--path", "ca", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    jsonschema.validate(told, schema)
    assert told["drawn"][2] == 0.0
    assert sum(told["drawn"]) == pytest.approx(1)
    assert [step["text"] for step in told["path"]] == ["c", "a"]
    assert cli.run(["next", run, "a__b__", "--fill", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    jsonschema.validate(told, schema)
    assert len(told["fillings"]) == 10
    assert cli.run(["next", run, "ab", "--temperature", "0.5", "--path", "ca"]) == 0
    out = capsys.readouterr().out
    assert "drawn" in out
    assert "first guess" in out
    assert cli.run(["next", run, "a__", "--fill", "--candidates", "a", "b"]) == 0
    assert "share" in capsys.readouterr().out
    assert np.isfinite(told["fillings"][0]["nats"])
