"""What no figure may be made of: lost digits, scores of unknown classes, broken weights, sources that do not fit."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_model import make
from scipy import stats
from sklearn import metrics as sk
from test_eval_models import TEXTS, Options, bert, table

from lossmith import cli
from lossmith.errors import DataError, InputError
from lossmith.evaluate.bootstrap import Resampling
from lossmith.evaluate.generating import fitted, source_ids, write_all
from lossmith.evaluate.predictions import Columns, compare, judge, read_predictions
from lossmith.evaluate.regression import compare_regression, regression_outcome
from lossmith.evaluate.scoring import model_answers

HOW = Resampling(300)
RNG = np.random.default_rng(0)
STEPS = np.arange(1, 201) * 1e6 + 0.25
NOISE = RNG.normal(size=200)


@pytest.mark.parametrize(
    ("true", "predicted"),
    [
        (STEPS, STEPS + RNG.choice([-0.01, 0.01], 200)),
        (RNG.normal(0, 1e9, 200).round(), RNG.normal(0, 1e9, 200).round()),
        (np.arange(1.0, 7), 6e7 + np.arange(1.0, 7)),
        (NOISE, 1e8 + NOISE + RNG.normal(size=200)),
        (NOISE, 0.99 + 1e-7 * (NOISE + RNG.normal(size=200))),
    ],
)
def test_large_numbers_keep_their_digits(true: np.ndarray, predicted: np.ndarray) -> None:
    outcome = regression_outcome(true, predicted, HOW)
    assert outcome["mse"] == pytest.approx(sk.mean_squared_error(true, predicted), rel=1e-6)
    assert outcome["r2"] == pytest.approx(sk.r2_score(true, predicted), rel=1e-6)
    assert outcome["pearson"] == pytest.approx(stats.pearsonr(true, predicted)[0], abs=1e-6)
    ranges = {figure.name: (figure.low, figure.high) for figure in outcome.figures}
    assert ranges["mse"][0] is not None
    assert ranges["mse"][0] >= 0
    assert all(low is not None and low >= -1 for low, _ in [ranges["pearson"]])
    assert all(high is not None and high <= 1 for _, high in [ranges["pearson"]])
    moved = {row.name: row.difference for row in compare_regression(true, predicted, true, HOW)}
    assert moved["mse"] == pytest.approx(outcome["mse"], rel=1e-6)


def test_resamples_of_one_label_have_no_r2() -> None:
    outcome = regression_outcome(np.array([0.3, 0.1]), np.array([0.4, 0.2]), HOW)
    (low, high) = next((figure.low, figure.high) for figure in outcome.figures if figure.name == "r2")
    assert low is not None
    assert high is not None
    assert math.isfinite(low)
    assert math.isfinite(high)


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def accuracy(path: Path, columns: Columns) -> float:
    return judge("classification", read_predictions(path, "classification", columns, encoding="utf-8"), HOW)["accuracy"]


ONE_HOT = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("names", [("negative", "neutral", "positive"), (-1, 0, 1), (0.0, 0.5, 1.0)])
def test_a_list_of_scores_needs_the_names_of_its_classes(tmp_path: Path, names: tuple[Any, ...]) -> None:
    rows = [{"label": name, "p": p} for name, p in zip(names, ONE_HOT, strict=True)]
    path, wanted = written(tmp_path / "p.jsonl", rows), tuple(str(name).removesuffix(".0") for name in names)
    with pytest.raises(InputError, match="in the order of the scores with --labels"):
        accuracy(path, Columns(probabilities=("p",)))
    assert accuracy(path, Columns(probabilities=("p",), labels=wanted)) == 1


def test_a_list_of_scores_of_numbered_classes(tmp_path: Path) -> None:
    path = written(tmp_path / "p.jsonl", [{"label": i, "p": p} for i, p in enumerate(ONE_HOT[:2])])
    assert accuracy(path, Columns(probabilities=("p",))) == 1


def test_scores_by_name(tmp_path: Path) -> None:
    rows = [{"label": "a", "p": {"a": 1.0}}, {"label": "b", "p": {"b": 0.6, "a": 0.4}}]
    assert accuracy(written(tmp_path / "p.jsonl", rows), Columns(probabilities=("p",))) == 1  # left out: nothing


INF = float("inf")


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([{"a": -5, "b": -9}, {"b": -2}], r"row 2: 'p' has scores of b; expected one of each of a, b"),
        ([{"a": -5, "b": -9}, {"a": 1, "b": -2, "c": 50}], r"row 1: 'p' has scores of a, b"),
        ([{"a": -5, "b": -9}, [1, 2]], r"row 2: 'p' must be \{label: score\}"),
        ([[0, 1], [float("nan"), 1]], r"row 2: the logits \[nan, 1.0\] have no softmax"),
        ([[0, 1], [INF, 1]], r"row 2: the logits \[inf, 1.0\] have no softmax"),
        ([[0, 1], ["x", 1]], r"row 2: 'p' must be a number; got 'x'"),
        ([[0, 1], "[0.8, 0.2"], r"row 2: 'p' must be a list or .* as JSON; got '\[0.8, 0.2'"),
        ([0.2, 0.8], r"row 1: 'p' must be a list .*; got 0.2. Numbers need a column for each class"),
    ],
)
def test_broken_scores(tmp_path: Path, scores: list[Any], message: str) -> None:
    rows = [{"label": label, "p": p} for label, p in zip("ab", scores, strict=True)]
    labels = () if isinstance(scores[0], dict) else ("a", "b")
    with pytest.raises(DataError, match=message):
        accuracy(written(tmp_path / "p.jsonl", rows), Columns(logits=("p",), labels=labels))


def test_scores_are_compared_too(tmp_path: Path) -> None:
    sides = []
    for name, (yes, no) in (("one", (0.9, 0.2)), ("two", (0.6, 0.45))):
        rows = [{"label": "ab"[i % 2], "a": p, "b": 1 - p} for i, p in enumerate([yes, no] * 20)]
        columns = Columns(probabilities=("a", "b") if name == "one" else ("b", "a"))  # each in an order of its own
        sides.append(read_predictions(written(tmp_path / name, rows).rename(tmp_path / f"{name}.jsonl"),
                                      "classification", columns, encoding="utf-8"))  # fmt: skip
    outcome = judge("classification", sides[0], HOW)
    compare(outcome, sides[0], sides[1], HOW)
    moved = {row.name: row for row in outcome.differences}
    assert moved["accuracy"].difference == 0
    expected = np.mean(-np.log([0.9, 0.8])) - np.mean(-np.log([0.6, 0.55]))
    assert moved["cross_entropy"].difference == pytest.approx(expected)
    assert moved["cross_entropy"].p is not None
    assert moved["cross_entropy"].p < 0.05
    assert moved["brier"].ours == pytest.approx(np.mean([2 * 0.1**2, 2 * 0.2**2]))


def test_a_reference_is_one_text(tmp_path: Path) -> None:
    path = written(tmp_path / "g.jsonl", [{"reference": ["one", "two"], "prediction": "one"}])
    with pytest.raises(DataError, match="row 1: 'reference' must be one text"):
        read_predictions(path, "generation", Columns(), encoding="utf-8")


def test_names_that_never_agree_are_told(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("label,prediction\n1,1.0\n2,2.0\n", encoding="utf-8")
    outcome = judge("classification", read_predictions(path, "classification", Columns(), encoding="utf-8"), HOW)
    assert any("are they the same names" in note for note in outcome.notes)


def refused(capsys: pytest.CaptureFixture[str], *call: Any) -> str:
    assert cli.run(["eval", *map(str, call)]) in (1, 2)
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return told.err


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier and a causal model all of whose weights are NaN, and one whose file ends in the middle."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    folder = tmp_path_factory.mktemp("broken")
    bert(folder / "classifier", id2label={0: "neg", 1: "pos"}, label2id={"neg": 0, "pos": 1})
    for kind, path in ((AutoModelForSequenceClassification, folder / "classifier"),
                       (AutoModelForCausalLM, make(folder, "llama"))):  # fmt: skip
        model = kind.from_pretrained(path)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(math.nan)
        model.save_pretrained(path)
    half = make(folder / "half", "llama") / "model.safetensors"
    os.truncate(half, half.stat().st_size // 2)
    return folder


def test_broken_weights_make_no_figures(broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(tmp_path / "t.jsonl", text=TEXTS, label=["pos", "neg"] * 3, good=TEXTS, bad=TEXTS[::-1])
    text = tmp_path / "t.txt"
    text.write_text("To be, or not to be. " * 20, encoding="utf-8")
    assert "not finite" in refused(capsys, broken / "classifier", rows, "--task", "classification")
    for call in ((text, "--no-rivals"), (rows, "--task", "minimal_pairs")):
        assert "its weights are broken" in refused(capsys, broken / "llama", *call)
    assert "cannot be loaded" in refused(capsys, broken / "half" / "llama", text, "--no-rivals")


def test_calls_that_cannot_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path / "p.jsonl", label=["a", "b"], prediction=["a", "b"], p=[0.5, 0.5])
    calls = (
        (("--predictions", path, "--task", "classification", "--encoding", "klingon"), "--encoding must be"),
        (("--predictions", path, "--task", "classification", "--labels", "a", "a", "b"), "names a class twice"),
        (("--predictions", path, "--task", "classification", "--logit-columns", "p", "p"), "names a column twice"),
        ((path, path), "is a file"),
    )
    for call, message in calls:
        assert message in refused(capsys, *call)


def test_equal_texts_are_a_tie_in_every_batch(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert", "BertModel")
    score = [float(i) for i in range(len(TEXTS))]
    path = table(tmp_path / "s.jsonl", a=TEXTS, b=TEXTS, label=score)
    for size in (1, 4):
        options = Options(text_column=("a", "b"), per_device_eval_batch_size=size)
        answers, _ = model_answers(folder, path, "similarity", options, None)
        assert set(answers.predicted) == {1.0}
        outcome = judge("similarity", answers, HOW)
        assert math.isnan(outcome["pearson"])
        assert math.isnan(outcome["spearman"])
        assert any("all predictions are the same" in note for note in outcome.notes)


def test_sources_that_do_not_fit_are_cut_before_their_end_and_counted(tmp_path: Path) -> None:
    folder = make(tmp_path, "gpt2")  # 48 positions
    sources = ["short", "a long source " * 10]
    texts, notes = write_all(folder, sources, tokenizer=None, batch_size=2, max_new_tokens=8)
    assert len(texts) == 2
    assert notes[1] == "1 of 2 sources are longer than 40 tokens: cut to them"
    from transformers import AutoTokenizer

    ids = source_ids(AutoTokenizer.from_pretrained(folder), sources[1], two_sided=False)
    assert ids[-1] == fitted(ids, 40)[-1] == ord("\n")
    assert len(fitted(ids, 40)) == 40
    with pytest.raises(InputError, match="--max-new-tokens 48 leaves none of them to the source"):
        write_all(folder, sources, tokenizer=None, batch_size=2, max_new_tokens=48)


def test_rows_without_text_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bert(tmp_path / "m", problem_type="multi_label_classification", id2label={0: "x", 1: "y"},
                  label2id={"x": 0, "y": 1})  # fmt: skip
    path = table(tmp_path / "t.jsonl", text=["", "good", "bad"], label=[["x"], ["y"], ["x"]])
    assert cli.run(["eval", str(folder), str(path), "--task", "multi_label"]) == 0
    assert "1 rows without text are left out" in capsys.readouterr().out


def test_a_tokenizer_of_other_tokens_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lossmith.data import Tokenizer

    folder, text = make(tmp_path, "llama"), tmp_path / "t.txt"
    text.write_text("To be, or not to be. " * 20, encoding="utf-8")
    other = tmp_path / "other"
    Tokenizer.char("To be, or not to be. ").save(other)
    padded = tmp_path / "padded"
    Tokenizer.load(folder).with_special(["pad"]).save(padded)
    for tokenizer, told in ((folder, False), (padded, None), (other, True)):
        done = cli.run(["eval", str(folder), str(text), "--no-rivals", "--tokenizer", str(tokenizer)])
        assert done == (2 if told is None else 0)  # one token more than the model has embeddings
        assert ("has other tokens than" in " ".join(capsys.readouterr().out.split())) == bool(told)


def test_scores_by_name_out_of_parquet(tmp_path: Path) -> None:
    from pyarrow import Table, parquet

    rows = [{"label": "a", "p": {"a": 1.0}}, {"label": "b", "p": {"b": 0.6, "a": 0.4}}]  # a struct names b in both
    parquet.write_table(Table.from_pylist(rows), tmp_path / "p.parquet")
    assert accuracy(tmp_path / "p.parquet", Columns(probabilities=("p",))) == 1


def test_a_rival_without_scores_of_a_label(tmp_path: Path) -> None:
    full = [{"label": "a", "p": {"a": 1.0, "b": 0.0}}, {"label": "b", "p": {"a": 0.3, "b": 0.7}}]
    poor = [{"label": "a", "p": {"a": 1.0}}, {"label": "b", "p": {"a": 1.0}}]
    sides = [
        read_predictions(written(tmp_path / f"{i}.jsonl", rows), "classification", Columns(probabilities=("p",)),
                         encoding="utf-8")
        for i, rows in enumerate((full, poor))
    ]  # fmt: skip
    with pytest.raises(DataError, match="the label 'b' in row 2 is none of the classes a"):
        compare(judge("classification", sides[0], HOW), sides[0], sides[1], HOW)
