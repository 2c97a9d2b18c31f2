"""Rolling windows and the figures of a language model: against lm-evaluation-harness, and against one token a time."""

from __future__ import annotations

import json
import math
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from harness_model import DOCUMENTS, make
from hypothesis import given, settings
from hypothesis import strategies as st

from lossmith.data import Tokenizer
from lossmith.errors import DataError, InputError
from lossmith.evaluate.bootstrap import Resampling
from lossmith.evaluate.language import TOKENS, compare_language, language_outcome, opened_text, score
from lossmith.evaluate.opening import CausalModel, open_causal, start_token
from lossmith.evaluate.rolling import Window, WordCounter, rolling_windows, score_windows

# lm-evaluation-harness 0.4.13 on the same folders and texts; the command is in harness_model.py
HARNESS = {
    "llama": [3861.0730590820312, 539.9601020812988, 6.421139240264893, 260.9331970214844, 465.1026916503906,
              473.09657096862793],
    "gpt2": [4312.555618286133, 588.2144165039062, 9.204601287841797, 320.0037841796875, 508.58045959472656,
             518.8685455322266],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("harness")
    for kind in HARNESS:
        make(root, kind)
    rows = [json.dumps({"text": text}, ensure_ascii=False) for text in DOCUMENTS]
    (root / "documents.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return root


def opened(folder: Path, kind: str = "llama", **options: int) -> CausalModel:
    return open_causal(folder / kind, context=options.get("context"))


@pytest.mark.parametrize("kind", HARNESS)
@pytest.mark.parametrize("batch_size", [1, 5])
def test_every_document_costs_what_the_harness_says(folder: Path, kind: str, batch_size: int) -> None:
    with opened_text((str(folder / "documents.jsonl"),)) as text:
        model = opened(folder, kind)
        scores = score(model, text, batch_size=batch_size)
        outcome = language_outcome(model, text, scores, Resampling(100))
    assert [row[0] for row in scores.documents] == pytest.approx(HARNESS[kind], rel=1e-6)
    nats = math.fsum(HARNESS[kind])
    words = sum(len(re.split(r"\s+", text)) for text in DOCUMENTS)
    n_bytes = sum(len(text.encode()) for text in DOCUMENTS)
    assert outcome["bits_per_byte"] == pytest.approx(nats / n_bytes / math.log(2), rel=1e-6)
    assert outcome["word_perplexity"] == pytest.approx(math.exp(nats / words), rel=1e-4)
    assert outcome["byte_perplexity"] == pytest.approx(math.exp(nats / n_bytes), rel=1e-5)
    assert outcome.counts["tokens"] == n_bytes  # a byte tokenizer: each byte is a token, scored once
    assert outcome.counts["documents_longer_than_context"] == sum(
        len(text.encode()) > model.context for text in DOCUMENTS
    )


def test_stride_one_gives_each_token_all_the_context_there_is(folder: Path) -> None:
    model = opened(folder, context=16)
    tokens = model.tokenizer.encode(DOCUMENTS[0][:60]).astype(np.int64)
    windows = rolling_windows([tokens], model.prefix, 16, 1)
    found = sum(nats for _, nats in score_windows(model.model, windows, 4))
    stream, expected = [model.prefix, *tokens.tolist()], 0.0
    with torch.no_grad():
        for at in range(1, len(stream)):
            # up to 16 inputs; the first 16 tokens share a window, which is the same for a causal model
            logits = model.model(input_ids=torch.tensor([stream[max(0, at - 16) : at]])).logits[0, -1]
            expected -= float(logits.double().log_softmax(-1)[stream[at]])
    assert found == pytest.approx(expected, rel=1e-5)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_windows_score_every_token_once_in_order(data: st.DataObject) -> None:
    n, length = data.draw(st.integers(0, 60)), data.draw(st.integers(1, 20))
    stride = data.draw(st.integers(1, length))
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
    pieces = np.split(np.arange(1, n + 1), cuts)
    windows = list(rolling_windows(pieces, 0, length, stride))
    assert [int(t) for w in windows for t in w.tokens[-w.predicted :]] == list(range(1, n + 1))
    assert all(len(w.tokens) - 1 <= length and w.predicted < len(w.tokens) for w in windows)
    whole = list(rolling_windows([np.arange(1, n + 1)], 0, length, stride))
    assert [w.tokens.tolist() for w in windows] == [w.tokens.tolist() for w in whole]
    # maximal context: what could be seen of the tokens before is seen
    assert all(len(w.tokens) - 1 == min(length, int(w.tokens[-1])) for w in windows)


def test_without_an_opening_token_the_first_token_is_not_scored() -> None:
    windows = list(rolling_windows([np.array([5]), np.array([6, 7])], None, 8, 8))
    assert [(w.tokens.tolist(), w.predicted) for w in windows] == [([5, 6, 7], 2)]
    assert list(rolling_windows([np.array([5])], None, 8, 8)) == []


@given(st.lists(st.text(alphabet=" \n\tab\u3000", max_size=6), max_size=6))
def test_words_are_counted_as_re_split_does(pieces: list[str]) -> None:
    counter = WordCounter()
    for piece in pieces:
        counter.add(piece)
    assert counter.words == len(re.split(r"\s+", "".join(pieces)))


def test_memory_does_not_grow_with_the_text(folder: Path) -> None:
    """Ten times the windows, the same peak of Python's and numpy's memory (a window list would be 10 ×)."""
    model = opened(folder, context=32)

    def peak(n: int) -> int:
        pieces = (np.full(32, 65, np.int64) for _ in range(n))
        tracemalloc.start()
        for _ in score_windows(model.model, rolling_windows(pieces, 0, 32, 32), 2):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(64)  # what is imported and cached at the first call
    assert peak(2560) < 3 * peak(256)


def test_padding_changes_nothing(folder: Path) -> None:
    model = opened(folder)
    windows = [Window(i, np.arange(i + 2, dtype=np.int64), 1) for i in range(12)]
    together = {w.document: nats for w, nats in score_windows(model.model, windows, 12)}
    alone = {w.document: nats for w, nats in score_windows(model.model, windows, 1)}
    assert together == pytest.approx(alone, rel=1e-5)


def test_a_model_against_itself_does_not_differ_and_another_one_does(folder: Path) -> None:
    how = Resampling(200)
    with opened_text((str(folder / "documents.jsonl"),)) as text:
        first, second = (score(opened(folder, kind), text) for kind in ("llama", "gpt2"))
        short = opened(folder, context=48)
        outcome = language_outcome(short, text, score(short, text), how)
        compare_language(outcome, first, first, how)
        assert [(row.difference, row.p) for row in outcome.differences] == [(0.0, 1.0)] * 5
        compare_language(outcome, score(short, text), second, how)
        assert outcome.differences[0].p is not None
        assert outcome.differences[0].p < 0.05
        compare_language(outcome, first, second, how)  # 64 and 48 positions: windows that are not the same
    assert outcome.differences[0].p is None
    assert any("no paired test" in note for note in outcome.notes)


def test_an_interval_covers_the_value_and_few_documents_draw_windows(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(DOCUMENTS[0], encoding="utf-8")
    with opened_text((str(tmp_path),)) as text:
        model = opened(folder)
        scores = score(model, text)
        outcome = language_outcome(model, text, scores, Resampling(300))
    assert outcome.unit == "windows"
    assert scores.units.sum(0) == pytest.approx(scores.sums)
    figure = outcome.figures[0]
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < figure.value < figure.high


def test_baselines_are_those_of_the_text(folder: Path) -> None:
    with opened_text((str(folder / "documents.jsonl"),)) as text:
        model = opened(folder)
        outcome = language_outcome(model, text, score(model, text), Resampling(100))
    rows = {row.name: row.figures["bits_per_byte"] for row in outcome.yardsticks}
    data, seen, unigram = "".join(DOCUMENTS).encode(), [0] * 257, 0.0
    for t, byte in enumerate(data):
        unigram -= math.log2((seen[byte] + 1) / (t + 257))
        seen[byte] += 1
    assert rows["uniform"] == pytest.approx(math.log2(257))
    assert rows["unigram"] == pytest.approx(unigram / len(data))
    assert outcome.yardsticks[1].figures["loss"] == pytest.approx(unigram * math.log(2) / outcome.counts["tokens"])


def test_what_cannot_be_evaluated_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--context-length must be 1 … 64 .* got 65"):
        opened(folder, context=65)
    Tokenizer.train_bpe([chr(c) * 3 for c in range(97, 123)] * 9 + ["many words here, and more " * 9], 300).save(
        tmp_path
    )
    with pytest.raises(DataError, match=r"the tokenizer has \d+ tokens and the model in .* has 257"):
        open_causal(folder / "llama", str(tmp_path))
    with pytest.raises(InputError, match="--tokenizer must be a folder"):
        open_causal(folder / "llama", "nowhere")
    with pytest.raises(InputError, match="--max-examples must be 1"), opened_text(("x",), limit=0):
        pass
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="no text"), opened_text((str(tmp_path / "empty.txt"),)):
        pass
    with opened_text((str(folder / "documents.jsonl"),), limit=2) as text:
        assert len(text) == 2
        with pytest.raises(InputError, match="--stride must be 1 … 64"):
            score(opened(folder), text, stride=65)


def test_a_masked_model_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    tokenizer = Tokenizer.byte()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForMaskedLM(BertConfig(vocab_size=257, max_position_embeddings=32, **sizes)).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    with pytest.raises(InputError, match="not causal"):
        open_causal(tmp_path)


def test_the_opening_token_is_bos_before_eos(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Backend(models.WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2, "to": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(tmp_path)
    assert start_token(Tokenizer.load(tmp_path), tmp_path) == 0


def test_unknown_tokens_are_counted_and_said(tmp_path: Path, folder: Path) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Backend(models.WordLevel({"<s>": 0, "<unk>": 1, "to": 2, "be": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", unk_token="<unk>").save_pretrained(tmp_path)
    (tmp_path / "a.txt").write_text("to be or not to be", encoding="utf-8")
    model = open_causal(folder / "llama", str(tmp_path))
    with opened_text((str(tmp_path / "a.txt"),)) as text:
        scores = score(model, text)
        outcome = language_outcome(model, text, scores, Resampling(100))
    assert outcome.counts["unknown_tokens"] == 2
    assert scores.sums[TOKENS] == 6
    assert any("unknown token" in note for note in outcome.notes)
