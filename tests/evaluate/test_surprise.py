from __future__ import annotations

import html
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_sampling import CHINESE, make_model

from lossmith.data import Tokenizer
from lossmith.errors import DataError, InputError
from lossmith.evaluate import next_tokens
from lossmith.evaluate.surprisal import Surprisal, surprisal
from lossmith.evaluate.surprise_groups import (
    by_entropy,
    by_frequency,
    by_position,
    extremes,
    guesses,
    passages,
    side_by_side,
)
from lossmith.evaluate.surprise_model import Scorer, open_scorer
from lossmith.evaluate.surprise_page import document, page
from lossmith.evaluate.surprise_units import units
from lossmith.evaluate.surprise_windows import windows

BYTE = Tokenizer.byte()
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
TEXT = "To be, or not to be:\nthat is the question.\n\n床前明月光，🌕\r\n" * 3


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model(257, positions=16)


def alone(model: Any, before: list[int], token: int) -> tuple[float, float, int]:
    """Surprisal, entropy and rank of one token by the plain formula."""
    with torch.no_grad():
        log_p = model(input_ids=torch.tensor([before])).logits[0, -1].log_softmax(-1)
    return float(-log_p[token]), float(-(log_p.exp() * log_p).sum()), int((log_p > log_p[token]).sum())


@pytest.mark.parametrize(("context", "stride"), [(16, 8), (16, 1), (5, 5), (1, 1), (7, 3)])
def test_every_token_is_scored_once_with_the_context_it_says(model: Any, context: int, stride: int) -> None:
    text = TEXT[:70]
    found = surprisal(model, text, tokenizer=BYTE, context=context, stride=stride)
    sequence = [256, *found.ids.tolist()]
    assert found.predicted == len(found.ids) == len(text.encode())
    for i in range(len(found.ids)):
        seen = int(found.position[i])
        assert min(i + 1, context - stride + 1) <= seen <= context
        nats, entropy, rank = alone(model, sequence[i + 1 - seen : i + 1], sequence[i + 1])
        assert found.nats[i] == pytest.approx(nats, rel=1e-5)
        assert found.entropy[i] == pytest.approx(entropy, rel=1e-5)
        assert found.rank[i] == rank
    assert found.total_nats == pytest.approx(float(found.nats.sum()), rel=1e-12)


@SLOW
@given(st.integers(0, 60), st.integers(1, 12), st.data())
def test_windows_cover_everything_once(length: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    scored: list[int] = []
    for window in windows(length, context, stride):
        assert 0 < window.stop - window.start <= context
        scored += range(window.scored + 1, window.stop + 1)
    assert scored == list(range(1, length))


def test_it_agrees_with_next(model: Any) -> None:
    found = surprisal(model, "ab", tokenizer=BYTE, top=4)
    expected = next_tokens(model, BYTE, "a", top=4, candidates=["b"])
    assert found.nats[1] == pytest.approx(expected.candidates[0].nats, rel=1e-6)
    assert [g["text"] for g in guesses(found, 1)] == [token.text for token in expected.top]
    assert [g["probability"] for g in guesses(found, 1)] == pytest.approx([t.probability for t in expected.top])
    without = surprisal(model, "ab", tokenizer=BYTE)
    assert without.nats == pytest.approx(found.nats, rel=1e-6)
    assert without.rank.tolist() == found.rank.tolist()


@SLOW
@given(st.text(max_size=40))
def test_units_are_whole_characters_in_any_script(text: str) -> None:
    for tokenizer in (BYTE, Tokenizer.char(text)):
        cut = units(tokenizer, text)
        assert "".join(text[a:b] for a, b in zip(cut.bounds, cut.bounds[1:], strict=False)) == text
        for i in range(len(cut)):
            ids = cut.ids[cut.first[i] : cut.first[i + 1]].tolist()
            assert tokenizer.decode(ids) == text[cut.bounds[i] : cut.bounds[i + 1]]


def test_units_of_hugging_face_tokenizers(tmp_path: Path) -> None:
    bpe = Tokenizer.train_bpe([TEXT], 300)
    bpe.save(tmp_path)
    (tmp_path / "lossmith_tokenizer.json").unlink()  # now it is anybody's tokenizer
    theirs = units(Tokenizer.load(tmp_path), CHINESE + TEXT)
    ours = units(bpe, CHINESE + TEXT)
    assert theirs.ids.tolist() == ours.ids.tolist()
    assert theirs.bounds.tolist() == ours.bounds.tolist()
    assert theirs.first.tolist() == ours.first.tolist()


def test_sums_by_line_and_paragraph_add_up(model: Any) -> None:
    found = surprisal(model, TEXT, tokenizer=BYTE)
    for kind in ("line", "paragraph", "passage"):
        parts = passages(found, kind)
        assert "".join(part.text for part in parts) == TEXT
        assert math.fsum(part.nats for part in parts) == pytest.approx(found.total_nats, rel=1e-9)
        assert sum(part.tokens for part in parts) == len(found.ids)
    lines = passages(found, "line")
    assert [line.text for line in lines] == TEXT.splitlines(keepends=True)
    first = len(lines[0].text)  # ASCII: a byte, a token, a character
    assert lines[0].nats == pytest.approx(found.nats[:first].sum())
    least, most = extremes(found)
    assert least[0].bits_per_byte == min(p.bits_per_byte for p in passages(found, "passage"))
    assert most[0].bits_per_byte > least[0].bits_per_byte


def test_means_are_means_of_all_tokens(model: Any) -> None:
    found = surprisal(model, TEXT, tokenizer=BYTE)
    for means in (by_position(found), by_frequency(found), by_entropy(found)):
        assert means.n.sum() == found.predicted
        assert (means.n * means.y).sum() == pytest.approx(found.total_nats)
        assert np.all(np.diff(means.x) > 0)
    often = np.array([list(found.ids).count(token) for token in found.ids])
    assert by_frequency(found).y[0] == pytest.approx(found.nats[(often == 2) | (often == 3)].mean())


def test_a_model_that_knows_nothing_knows_that() -> None:
    """All tokens equally likely: surprisal and entropy are ln V, and the one class lies on the diagonal."""
    ignorant = make_model(257, positions=16)
    with torch.no_grad():
        ignorant.lm_head.weight.zero_()
    means = by_entropy(surprisal(ignorant, TEXT, tokenizer=BYTE))
    assert means.x == pytest.approx([math.log(257)])
    assert means.y == pytest.approx([math.log(257)])


def test_two_models_of_different_tokenizers_are_compared_piece_by_piece(model: Any) -> None:
    bpe = Tokenizer.train_bpe([TEXT], 300)
    ours = surprisal(model, TEXT, tokenizer=BYTE)
    theirs = surprisal(make_model(bpe.vocab_size, positions=32), TEXT, tokenizer=bpe)
    pieces = side_by_side(ours, theirs)
    assert "".join(piece.text for piece in pieces) == TEXT
    assert sum(piece.ours for piece in pieces) == pytest.approx(ours.total_nats)
    assert sum(piece.theirs for piece in pieces) == pytest.approx(theirs.total_nats)
    assert len(pieces) == len(theirs.units)
    with pytest.raises(InputError, match="the same text"):
        side_by_side(ours, surprisal(model, "x", tokenizer=BYTE))


def test_the_first_token_without_a_mark_has_no_surprisal(tmp_path: Path) -> None:
    bpe = Tokenizer.train_bpe([TEXT], 300)
    tokenizer = Tokenizer("hf", backend=bpe.backend, eos_id=None)
    found = surprisal(make_model(300), "To be", tokenizer=tokenizer)
    assert math.isnan(found.nats[0])
    assert found.predicted == len(found.ids) - 1
    assert "nothing stands before it" in page([("t", found, None)])
    assert document("t", found)["units"][0]["bits"] is None


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of nothing but noise, as a folder of Hugging Face's tools."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "to", "be", "##e", "or", "not", "床"]
    backend = Backend(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"mask_token": "[MASK]", "sep_token": "[SEP]", "cls_token": "[CLS]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=12, initializer_range=0.5,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def test_a_masked_model_hides_one_token_at_a_time(masked: Path) -> None:
    scorer = open_scorer(masked)
    text = "To be or not 床 to be or not to bee be to or"
    found = surprisal(scorer, text, top=3)
    assert (found.method, found.context, found.predicted) == ("masked", 12, len(found.ids))
    ids = found.ids.tolist()
    for i in range(len(ids)):
        start = min(max(i - 5, 0), len(ids) - 10)
        seen = [2, *ids[start : start + 10], 3]
        seen[i - start + 1] = 4
        with torch.no_grad():
            log_p = scorer.model(input_ids=torch.tensor([seen])).logits[0, i - start + 1].log_softmax(-1)
        assert found.nats[i] == pytest.approx(float(-log_p[ids[i]]), rel=1e-4)
    assert "".join(found.unit_text(i) for i in range(len(found.units))) == text
    assert "no code length" in page([("t", found, None)])


def test_the_page_holds_all_text_and_says_what_hover_says(model: Any) -> None:
    text = 'a <b> & "c"\n床\x07前\n'
    found = surprisal(model, text, tokenizer=BYTE, top=2)
    made = page([("<name>", found, None)])
    body = made[made.index('<div class="text"') :]
    shown = html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<p>.*?</p>", "", body)))
    assert shown.strip() == 'a <b> & "c"⏎床␇前⏎'
    assert "<name>" not in made
    assert f"p = {math.exp(-found.nats[0]):.3g}, rank {found.rank[0] + 1}" in made
    hover = next(part for part in re.findall(r'data-t="([^"]*)">床', made))  # its three bytes, on one hover
    assert [line.split(":")[0] for line in hover.splitlines() if "guesses" not in line] == ["\\xe5", "\\xba", "\\x8a"]
    assert "<script" not in made


def test_folders_are_opened(model: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints" / "step-000003" / "model"
    model.save_pretrained(folder)
    BYTE.save(folder)
    sizes = {f"model/{path.name}": {"bytes": path.stat().st_size} for path in folder.iterdir()}
    (folder.parent / "manifest.json").write_text(json.dumps(sizes))
    torn = tmp_path / "run" / "checkpoints" / "step-000004"  # newer, and a file of it was cut: not taken
    shutil.copytree(folder.parent, torn)
    (torn / "model" / "model.safetensors").write_bytes(b"")
    for path in (tmp_path / "run", folder, folder.parent):
        found: Surprisal = surprisal(path, TEXT)
        assert found.total_nats == pytest.approx(surprisal(model, TEXT, tokenizer=BYTE).total_nats, rel=1e-4)
    with pytest.raises(InputError, match="does not exist"):
        surprisal(tmp_path / "no", "x")
    with pytest.raises(DataError, match="holds no model"):
        surprisal(tmp_path, "x")
    with pytest.raises(InputError, match="needs tokenizer="):
        surprisal(model, "x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 17}, "--context must be at least 1 and at most 16, the positions of the model; got 17"),
        ({"stride": 0}, "--stride must be at least 1 and at most the context, 16; got 0"),
        ({"stride": 17}, "--stride must be"),
        ({"top": -1}, "top must be 0 or more"),
    ],
)
def test_what_cannot_be_asked_is_said(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        surprisal(model, "x", tokenizer=BYTE, **options)


def test_an_empty_text_costs_nothing(model: Any) -> None:
    found = surprisal(Scorer(model, BYTE, False, "m"), "")
    assert found.total_nats == 0.0
    assert math.isnan(found.loss)
    assert page([("empty", found, None)])
    assert document("empty", found)["lines"] == []
