"""Models over tables: classification heads, similarity, retrieval, minimal pairs, cloze; each against the plain way."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_model import make

from lossmith.errors import DataError, InputError
from lossmith.evaluate.bootstrap import Resampling
from lossmith.evaluate.cloze import choice_outcome, cloze, minimal_pairs
from lossmith.evaluate.encoders import embeddings, open_encoder
from lossmith.evaluate.opening import open_causal
from lossmith.evaluate.predictions import judge
from lossmith.evaluate.retrieval import distinct, ranks, retrieval_outcome, uniformity
from lossmith.evaluate.scoring import model_answers, pair_embeddings

HOW = Resampling(200)
TEXTS = [
    "good food",
    "bad food",
    "what a long walk that was, with no end to it",
    "so-so",
    "not bad at all",
    "never again",
]
LABELS = ["pos", "neg", "neg", "pos", "pos", "neg"]


@dataclass
class Options:
    text_column: tuple[str, ...] = ("text",)
    label_column: str | None = None
    labels: tuple[str, ...] = ()
    query_column: str = "query"
    document_column: str = "document"
    encoding: str = "utf-8"
    per_device_eval_batch_size: int = 4
    max_examples: int | None = None
    pooling: str = "mean"


def bert(folder: Path, kind: str = "BertForSequenceClassification", vocab: int | None = None, **settings: Any) -> Path:
    """Save a tiny BERT with a tokenizer of single letters."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    sizes |= {"max_position_embeddings": 24, "initializer_range": 0.5, "vocab_size": vocab or len(words)}
    torch.manual_seed(0)
    getattr(transformers, kind)(transformers.BertConfig(**sizes, **settings)).save_pretrained(folder)
    return folder


def table(path: Path, **columns: list[Any]) -> Path:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = {"id2label": {0: "neg", 1: "pos"}, "label2id": {"neg": 0, "pos": 1}}
    return bert(tmp_path_factory.mktemp("bert"), **names)


def plain_logits(folder: Path, texts: list[Any]) -> np.ndarray:
    """One row at a time, no padding, cut to the positions."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    found = []
    for text in texts:
        sides = text if isinstance(text, tuple) else (text,)
        with torch.no_grad():
            inputs = tokenizer(*sides, return_tensors="pt", truncation=True, max_length=24)
            found.append(model(**inputs).logits[0].numpy())
    return np.array(found)


def test_a_classifier_is_scored_as_one_row_at_a_time(classifier: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "t.jsonl", text=TEXTS, label=LABELS)
    answers, notes = model_answers(classifier, data, "classification", Options(), None)
    expected = torch.tensor(plain_logits(classifier, TEXTS)).softmax(-1).numpy()
    assert answers.scores == pytest.approx(expected, abs=1e-5)
    assert answers.classes == ("neg", "pos")
    outcome = judge("classification", answers, HOW)
    assert outcome["accuracy"] == np.mean(
        [["neg", "pos"][i] == y for i, y in zip(expected.argmax(1), LABELS, strict=True)]
    )
    assert notes == ["1 of 6 texts are longer than the context of 24 tokens: cut to it"]


def test_pairs_and_indices_as_labels(classifier: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "t.jsonl", a=TEXTS[:2], b=["x", "y"], label=[1, 0])
    answers, _ = model_answers(classifier, data, "classification", Options(text_column=("a", "b")), None)
    expected = plain_logits(classifier, [("good food", "x"), ("bad food", "y")])
    assert answers.scores == pytest.approx(torch.tensor(expected).softmax(-1).numpy(), abs=1e-5)
    assert answers.true == ["pos", "neg"]


def test_a_head_of_one_output_is_regression(tmp_path: Path) -> None:
    folder = bert(tmp_path / "m", num_labels=1)
    data = table(tmp_path / "t.jsonl", text=TEXTS[:4], label=[0.5, 1, 2, 3.5])
    answers, _ = model_answers(folder, data, "regression", Options(), None)
    assert answers.predicted == pytest.approx(plain_logits(folder, TEXTS[:4])[:, 0].tolist(), abs=1e-5)
    with pytest.raises(InputError, match="needs a head of two outputs or more"):
        model_answers(folder, data, "classification", Options(), None)


def test_bad_tables_and_models(classifier: Path, tmp_path: Path) -> None:
    def fails(message: str, folder: Path = classifier, options: Options | None = None, **columns: list[Any]) -> None:
        data = table(tmp_path / "t.jsonl", **(columns or {"text": TEXTS, "label": LABELS}))
        with pytest.raises((DataError, InputError), match=message):
            model_answers(folder, data, "classification", options or Options(), None)

    fails(
        r"row 2: the label 'poss' is none of the model's classes neg, pos. Did you mean 'pos'",
        text=["a", "b"],
        label=["pos", "poss"],
    )
    fails(r"row 1: 'text' must be text; got ''", text=["", "b"], label=["pos", "neg"])
    fails(r"has no column 'txt' \(--text-column\).*Did you mean 'text'", options=Options(text_column=("txt",)))
    fails(r"takes one column, or two", options=Options(text_column=("a", "b", "c")))
    fails(r"--labels names 3 classes and the model has 2", options=Options(labels=("a", "b", "c")))
    fails(r"has no classification head", folder=bert(tmp_path / "mlm", "BertForMaskedLM"))
    fails(r"the tokenizer has 30 tokens and the model in .* has 20", folder=bert(tmp_path / "small", vocab=20))
    fails(
        r"several labels to a text: say --task multi_label",
        folder=bert(tmp_path / "m", problem_type="multi_label_classification"),
    )
    fails(r"--per-device-eval-batch-size must be 1", options=replace(Options(), per_device_eval_batch_size=0))


def test_weights_of_another_model_are_refused_and_a_pooler_is_not_missed(tmp_path: Path) -> None:
    folder = bert(tmp_path / "model", "BertForMaskedLM")  # saved without a pooler
    assert embeddings(open_encoder(folder, "AutoModel"), TEXTS[:1], 1).shape == (1, 16)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["BertForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(DataError, match=r"not those of a BertForSequenceClassification: 4 of its .*random numbers"):
        open_encoder(folder, "AutoModelForSequenceClassification")
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}), encoding="utf-8")
    with pytest.raises(DataError, match=r"hold layers that its config\.json does not tell of, .*encoder\.layer\.1"):
        open_encoder(folder, "AutoModel")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("encoder"), "BertModel")


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_embeddings_do_not_depend_on_the_batch(encoder: Path, pooling: str) -> None:
    opened = open_encoder(encoder, "AutoModel")
    together, alone = (embeddings(opened, TEXTS, size, pooling) for size in (6, 1))
    assert together == pytest.approx(alone, abs=1e-5)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(6))
    with torch.no_grad():
        ids = opened.tokenizer("so-so", return_tensors="pt")
        states = opened.model(**ids).last_hidden_state[0].double().numpy()
    plain = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
    assert together[3] == pytest.approx(plain / np.linalg.norm(plain), abs=1e-5)


def test_similarity_is_the_cosine(encoder: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "t.jsonl", a=TEXTS[:3], b=TEXTS[3:], label=[0, 0.5, 1])
    answers, _ = model_answers(encoder, data, "similarity", Options(text_column=("a", "b")), None)
    vectors = embeddings(open_encoder(encoder, "AutoModel"), TEXTS, 1)
    assert answers.predicted == pytest.approx((vectors[:3] * vectors[3:]).sum(1).tolist(), abs=1e-5)


def test_retrieval_counts_ties_and_repeated_documents(encoder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    documents = rng.normal(size=(40, 5))
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    queries = documents + 0.3 * rng.normal(size=(40, 5))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    outcome, _ = retrieval_outcome(queries, documents, range(40), HOW)
    order = np.argsort(-(queries @ documents.T), axis=1)
    place = np.array([list(row).index(i) for i, row in enumerate(order)])
    for k in (1, 5, 10):
        assert outcome[f"recall_at_{k}"] == pytest.approx((place < k).mean())
    assert outcome["mrr"] == pytest.approx((1 / (place + 1)).mean())
    assert outcome["alignment"] == pytest.approx(((queries - documents) ** 2).sum(1).mean())
    every = np.concatenate([queries, documents])
    apart = [math.exp(-2 * ((u - v) ** 2).sum()) for i, u in enumerate(every) for v in every[:i]]
    assert outcome["uniformity"] == pytest.approx(math.log(np.mean(apart)))
    # an encoder that says the same of everything finds nothing but by chance
    assert (ranks(np.ones((9, 1)), np.ones((9, 1)), range(9)) == 4).all()
    assert uniformity(np.ones((9, 1))) == pytest.approx(0)
    data = table(tmp_path / "t.jsonl", query=["a", "b", "c"], document=["x y", "x y", "z"])
    found = pair_embeddings(encoder, data, Options(), None)
    assert found[2] == [0, 0, 1] == distinct(["x y", "x y", "z"])[1]
    outcome, _ = retrieval_outcome(*found[:3], HOW)
    assert any("more than once" in note for note in outcome.notes)
    with pytest.raises(DataError, match="two different documents"):
        retrieval_outcome(np.ones((1, 2)), np.ones((1, 2)), [0], HOW)


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("causal"), "llama")


def cost(folder: Path, text: str, after: str = "") -> float:
    """−ln p of the bytes of `text`, by the model's logits."""
    model = open_causal(folder)
    before = [model.prefix, *after.encode()]
    ids = torch.tensor([[*before, *text.encode()]])
    with torch.no_grad():
        log_p = model.model(input_ids=ids[:, :-1]).logits[0].double().log_softmax(-1)
    return -float(log_p.gather(-1, ids[0, 1:, None])[len(before) - 1 :].sum())


def test_minimal_pairs_are_chosen_by_loss(causal: Path, tmp_path: Path) -> None:
    good, bad = ["she runs", "he ran home", "床前"], ["she run", "he runned home", "床后"]
    data = table(tmp_path / "t.jsonl", good=good, bad=bad)
    options: dict[str, Any] = {"batch_size": 2, "encoding": "utf-8", "limit": None}
    found = minimal_pairs(open_causal(causal), data, ("good", "bad"), **options)
    costs = [[cost(causal, text) for text in pair] for pair in zip(good, bad, strict=True)]
    assert found.nats == [pytest.approx(pair, rel=1e-5) for pair in costs]
    outcome = choice_outcome("minimal_pairs", found, HOW)
    assert outcome["accuracy"] == pytest.approx(np.mean([g < b for g, b in costs]))
    assert outcome["margin"] == pytest.approx(np.mean([b - g for g, b in costs]), rel=1e-4)
    rates = [(costs[i][0] / len(good[i].encode()), costs[i][1] / len(bad[i].encode())) for i in range(3)]
    assert outcome["accuracy_per_byte"] == pytest.approx(np.mean([g < b for g, b in rates]))
    assert [row.figures["accuracy"] for row in outcome.yardsticks] == pytest.approx([0.5, (0 + 1 + 0.5) / 3])
    long = table(tmp_path / "long.jsonl", good=["a" * 70, "b"], bad=["a" * 69, "c"])
    found = minimal_pairs(open_causal(causal), long, ("good", "bad"), **options)
    assert found.longer == 1
    assert "1 rows are longer" in choice_outcome("minimal_pairs", found, HOW).notes[0]
    same = table(tmp_path / "same.jsonl", good=["a"], bad=["a"])
    tie = choice_outcome("minimal_pairs", minimal_pairs(open_causal(causal), same, ("good", "bad"), **options), HOW)
    assert tie["accuracy"] == 0.5
    with pytest.raises(DataError, match=r"row 2: 'bad' must be text; got ' '"):
        minimal_pairs(
            open_causal(causal),
            table(tmp_path / "e.jsonl", good=["a", "b"], bad=["c", " "]),
            ("good", "bad"),
            **options,
        )


def test_cloze_scores_candidates_after_their_prompt(causal: Path, tmp_path: Path) -> None:
    prompts = ["The sky is", "x" * 70]
    data = table(
        tmp_path / "t.jsonl", prompt=prompts, candidates=[[" blue", " green", " a"], ["y", "zz"]], answer=[" green", 1]
    )
    options: dict[str, Any] = {"batch_size": 3, "encoding": "utf-8", "limit": None}
    columns = ("prompt", "candidates", "answer")
    found = cloze(open_causal(causal), data, columns, **options)
    assert found.nats[0] == pytest.approx(
        [cost(causal, text, "The sky is") for text in (" blue", " green", " a")], rel=1e-5
    )
    assert found.right == [1, 1]
    assert found.sizes == [[5, 6, 2], [1, 2]]
    assert found.longer == 1
    outcome = choice_outcome("cloze", found, HOW)
    assert outcome.yardsticks[0].figures["accuracy"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    (tmp_path / "t.csv").write_text('prompt,candidates,answer\nThe,"[""a"", ""b""]",b\n', encoding="utf-8")
    assert cloze(open_causal(causal), tmp_path / "t.csv", columns, **options).right == [1]
    for candidates, answer, message in (
        (["a"], 0, "two texts or more"),
        (["a", "b"], "c", "the answer 'c' is none of the candidates"),
        (["a", "b"], 2, "nor an index 0 … 1"),
        (["a", "b" * 65], 0, "a candidate has 65 tokens and the model sees 64"),
    ):
        bad = table(tmp_path / "bad.jsonl", prompt=["p"], candidates=[candidates], answer=[answer])
        with pytest.raises(DataError, match=message):
            cloze(open_causal(causal), bad, columns, **options)
