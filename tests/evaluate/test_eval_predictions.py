"""Figures of predictions against scikit-learn, scipy and sacrebleu; intervals against theory; bad input."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
from scipy import stats
from sklearn import metrics as sk

from lossmith.errors import DataError, InputError
from lossmith.evaluate.bootstrap import Resampling, p_value, sums_of_cells, sums_of_units
from lossmith.evaluate.calibration import calibration_error, reliability
from lossmith.evaluate.classification import classes_of, classification_outcome, compare_classification, indices
from lossmith.evaluate.generation import compare_generation, generation_outcome
from lossmith.evaluate.predictions import Columns, compare, judge, read_predictions
from lossmith.evaluate.regression import compare_regression, regression_outcome

HOW = Resampling(400)
CLASSES = ["neg", "neutral", "pos"]


def labelled(n: int = 500, seed: int = 0, right: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.choice(3, n, p=[0.6, 0.1, 0.3])
    return true, np.where(rng.random(n) < right, true, rng.choice(3, n))


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def test_classification_agrees_with_scikit_learn() -> None:
    true, predicted = labelled()
    outcome = classification_outcome(true, predicted, CLASSES, HOW)
    for average in ("macro", "weighted"):
        precision, recall, f1, _ = sk.precision_recall_fscore_support(true, predicted, average=average)
        assert outcome[f"precision_{average}"] == pytest.approx(precision)
        assert outcome[f"recall_{average}"] == pytest.approx(recall)
        assert outcome[f"f1_{average}"] == pytest.approx(f1)
    assert outcome["accuracy"] == pytest.approx(sk.accuracy_score(true, predicted))
    assert outcome["f1_micro"] == pytest.approx(sk.f1_score(true, predicted, average="micro"))
    each = sk.precision_recall_fscore_support(true, predicted, average=None)
    for place, name in enumerate(("precision", "recall", "f1", "labelled")):
        assert [row[name] for row in outcome.per_class] == pytest.approx(list(each[place]))
    assert outcome.confusion is not None
    assert outcome.confusion.matrix.tolist() == sk.confusion_matrix(true, predicted).tolist()
    assert outcome.yardsticks[0].figures["accuracy"] == pytest.approx((true == 0).mean())


def test_a_class_without_predictions_or_labels_is_zero_and_said() -> None:
    outcome = classification_outcome(np.array([0, 1, 0, 1]), np.array([0, 0, 0, 0]), CLASSES, HOW)
    assert [row["f1"] for row in outcome.per_class] == pytest.approx([2 / 3, 0, 0])
    assert outcome["f1_macro"] == pytest.approx(1 / 3)  # of the two classes that occur, as scikit-learn
    assert any("no label is pos" in note for note in outcome.notes)


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    """Accuracy: p ± 1.96·√(p(1−p)/n); and as often as promised an interval covers the truth."""
    true, predicted = labelled(2000)
    figure = classification_outcome(true, predicted, CLASSES, Resampling(4000)).figures[0]
    half = 1.96 * math.sqrt(figure.value * (1 - figure.value) / 2000)
    assert figure.low == pytest.approx(figure.value - half, abs=0.003)
    assert figure.high == pytest.approx(figure.value + half, abs=0.003)
    rng, covered = np.random.default_rng(1), 0
    for seed in range(200):
        units = np.stack([rng.exponential(size=60), np.ones(60)], 1)
        low, high = Resampling(samples=300, seed=seed).interval(
            sums_of_units(units, Resampling(300, seed=seed))[:, 0] / 60
        )
        covered += low <= 1 <= high
    assert 0.86 <= covered / 200 <= 0.98  # percentile intervals of a skewed mean cover a little less than 95 %


def test_many_units_are_grouped_without_changing_the_spread() -> None:
    units = np.random.default_rng(0).normal(size=(50_000, 1))
    drawn = sums_of_units(units, Resampling(500))
    assert drawn.std() == pytest.approx(units.std() * math.sqrt(50_000), rel=0.15)
    assert drawn.mean() == pytest.approx(units.sum(), abs=4 * units.std() * math.sqrt(50_000 / 500))
    cells = sums_of_cells(np.array([10, 0, 30]), Resampling(500))
    assert set(cells.sum(1)) == {40.0}
    assert cells.mean(0) == pytest.approx([10, 0, 30], abs=1)


def test_paired_tests_find_what_unpaired_intervals_cannot() -> None:
    """Two classifiers that differ in 1.5 % of the examples, always one way: certain, and within either interval."""
    true, ours = labelled(1000)
    other = ours.copy()
    right = np.flatnonzero(true == ours)[:15]
    other[right] = (true[right] + 1) % 3
    row = compare_classification(true, ours, other, CLASSES, HOW)[0]
    outcome = classification_outcome(true, ours, CLASSES, HOW).figures[0]
    assert row.difference == pytest.approx(0.015)
    assert row.p is not None
    assert row.p < 0.01
    assert outcome.low is not None
    assert outcome.low < row.other
    assert row.other == pytest.approx((true == other).mean())


def test_p_of_no_difference_is_spread_evenly() -> None:
    found = []
    for seed in range(120):
        true, ours = labelled(200, seed)
        _, other = labelled(200, seed + 1000)
        other = np.where(np.random.default_rng(seed).random(200) < 0.7, true, other)
        row = compare_classification(true, ours, other, CLASSES, Resampling(200, seed=seed))[0]
        found.append(row.p)
    assert 0.3 < np.median(found) < 0.8
    assert sum(p < 0.05 for p in found) <= 14
    assert p_value(np.array([np.nan])) != p_value(np.array([1.0]))


def test_calibration() -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 20_000)
    honest = rng.random(20_000) < sure
    assert calibration_error(reliability(sure, honest)) < 0.015
    assert calibration_error(reliability(sure, rng.random(20_000) < sure - 0.2)) == pytest.approx(0.2, abs=0.02)
    table = reliability(np.array([1.0, 0.0]), np.array([True, False]))
    assert table.counts.sum() == 2
    assert calibration_error(table) == 0


def test_regression_agrees_with_scikit_learn_and_scipy() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=300) + 1e6  # a large mean may not eat the digits
    predicted = true + rng.normal(size=300).round(1)
    outcome = regression_outcome(true, predicted, HOW)
    assert outcome["mse"] == pytest.approx(sk.mean_squared_error(true, predicted))
    assert outcome["mae"] == pytest.approx(sk.mean_absolute_error(true, predicted))
    assert outcome["r2"] == pytest.approx(sk.r2_score(true, predicted))
    assert outcome["pearson"] == pytest.approx(stats.pearsonr(true, predicted).statistic)
    assert outcome["spearman"] == pytest.approx(stats.spearmanr(true, predicted).statistic)
    assert all(f.low < f.value < f.high for f in outcome.figures if f.low is not None and f.high is not None)
    rows = compare_regression(true, predicted, true + rng.normal(size=300) * 2, HOW)
    assert all(row.p is not None and row.p < 0.02 for row in rows)
    assert [f.name for f in regression_outcome(true, predicted, HOW, "similarity").figures] == ["pearson", "spearman"]


def test_bleu_and_chrf_are_sacrebleus() -> None:
    references = ["the cat sat on the mat today", "a dog ran away from home"] * 20
    good = ["the cat sat on a mat today", "a dog ran away from home"] * 20
    bad = ["cat mat the on", "dog home a"] * 20
    sources = ["die Katze saß heute auf der Matte", "ein Hund lief von zu Hause weg"] * 20
    outcome = generation_outcome(references, good, HOW, sources=sources)
    assert outcome["bleu"] == pytest.approx(sacrebleu.corpus_bleu(good, [references]).score)
    assert outcome["chrf"] == pytest.approx(sacrebleu.corpus_chrf(good, [references]).score)
    copied = outcome.yardsticks[0].figures
    assert copied["chrf"] == pytest.approx(sacrebleu.corpus_chrf(sources, [references]).score)
    for row in compare_generation(references, good, bad, HOW):
        assert row.difference > 0
        assert row.p is not None
        assert row.p < 0.02
    chinese = generation_outcome(["床前明月光，疑是地上霜"] * 3, ["床前明月光，疑是地上雪"] * 3, HOW)
    assert any("'zh'" in note for note in chinese.notes)
    expected = sacrebleu.corpus_bleu(["床前明月光，疑是地上雪"] * 3, [["床前明月光，疑是地上霜"] * 3], tokenize="zh")
    assert chinese["bleu"] == pytest.approx(expected.score)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet", "jsonl.gz"])
def test_predictions_files_of_every_kind(tmp_path: Path, kind: str) -> None:
    import gzip

    import pandas as pd

    true, predicted = labelled(60)
    rows = pd.DataFrame({"label": [CLASSES[i] for i in true], "guess": [CLASSES[i] for i in predicted]})
    path = tmp_path / f"p.{kind}"
    if kind == "parquet":
        rows.to_parquet(path)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(rows.to_json(orient="records", lines=True).encode()))
    elif kind == "jsonl":
        rows.to_json(path, orient="records", lines=True)
    else:
        rows.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    answers = read_predictions(path, "classification", Columns(prediction="guess"), encoding="utf-8")
    assert judge("classification", answers, HOW)["accuracy"] == pytest.approx((true == predicted).mean())


def test_probabilities_in_all_their_forms_say_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    true, _ = labelled(80)
    logits = rng.normal(size=(80, 3))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rows: list[dict[str, object]] = [
        {"label": CLASSES[t], "p": a.tolist(), "d": dict(zip(CLASSES, a.tolist(), strict=True)), "z": z.tolist()}
        | dict(zip(CLASSES, a.tolist(), strict=True))
        for t, a, z in zip(true, p, logits, strict=True)
    ]
    path = write(tmp_path / "p.jsonl", rows)
    forms = (
        Columns(probabilities=("p",), labels=tuple(CLASSES)),
        Columns(probabilities=("d",)),
        Columns(probabilities=tuple(CLASSES)),
        Columns(logits=("z",), labels=tuple(CLASSES)),
    )
    found = [judge("classification", read_predictions(path, "classification", f, encoding="utf-8"), HOW) for f in forms]
    assert found[0]["cross_entropy"] == pytest.approx(sk.log_loss(true, p))
    brier = ((p - np.eye(3)[true]) ** 2).sum(1).mean()
    for outcome in found:
        assert outcome["brier"] == pytest.approx(brier)
        assert outcome["accuracy"] == pytest.approx((p.argmax(1) == true).mean())
        assert outcome["calibration_error"] == pytest.approx(found[0]["calibration_error"])


ROWS: list[dict[str, object]] = [
    {"label": "a", "prediction": "b", "p": [0.5, 0.5]},
    {"label": "b", "prediction": "b", "p": [2, 3]},
]


@pytest.mark.parametrize(
    ("task", "columns", "message"),
    [
        ("classification", Columns(label="lable"), r"has no column 'lable' \(--label-column\).* Did you mean 'label'"),
        ("classification", Columns(labels=("b", "c")), r"the label 'a' in row 1 is none of the classes b, c"),
        ("classification", Columns(probabilities=("p",), labels=("a", "b")), r"row 2: the scores .* --logit-columns"),
        ("classification", Columns(logits=("p",), labels=("a", "b", "c")), r"row 1 has 2 scores for the 3 classes"),
        ("regression", Columns(), r"row 1: 'label' must be a number; got 'a'"),
        ("generation", Columns(), r"has no column 'reference' \(--label-column\)"),
    ],
)
def test_bad_columns(tmp_path: Path, task: str, columns: Columns, message: str) -> None:
    path = write(tmp_path / "p.jsonl", ROWS)
    with pytest.raises(DataError, match=message):
        judge(task, read_predictions(path, task, columns, encoding="utf-8"), HOW)


def test_bad_rows_and_files(tmp_path: Path) -> None:
    def read(rows: list[dict[str, object]], task: str = "classification") -> object:
        answers = read_predictions(write(tmp_path / "p.jsonl", rows), task, Columns(), encoding="utf-8")
        return judge(task, answers, HOW)

    with pytest.raises(DataError, match=r"all 2 labels are 'a'"):
        read([{"label": "a", "prediction": "b"}] * 2)
    with pytest.raises(DataError, match=r"row 2 has no 'prediction'"):
        read([{"label": "a", "prediction": "b"}, {"label": "b", "prediction": None}])
    with pytest.raises(DataError, match=r"all 2 labels are 3: R²"):
        read([{"label": 3, "prediction": 1}, {"label": 3, "prediction": 2}], "regression")
    with pytest.raises(DataError, match=r"the prediction in row 2 is nan"):
        read([{"label": 3, "prediction": 1}, {"label": 4, "prediction": float("nan")}], "regression")
    (tmp_path / "broken.jsonl").write_text('{"label": 1}\n{"label"', encoding="utf-8")
    (tmp_path / "short.csv").write_text("label,prediction\na\n", encoding="utf-8")
    (tmp_path / "none.csv").write_text("label,prediction\n", encoding="utf-8")
    for name, message in (
        ("broken.jsonl", "line 2 .* no JSON"),
        ("short.csv", "does not have the 2 cells"),
        ("none.csv", "has no rows"),
        ("p.jsn", "no such file.*Did you mean"),
    ):
        with pytest.raises(DataError, match=message):
            read_predictions(
                tmp_path / name, "classification", Columns(label="label", prediction="label"), encoding="utf-8"
            )
    with pytest.raises(InputError, match="--bleu-tokenize must be one of"):
        generation_outcome(["a"], ["b"], HOW, tokenize="xx")
    with pytest.raises(DataError, match="the reference in row 2 is empty"):
        generation_outcome(["a", " "], ["b", "c"], HOW)


def test_other_rows_cannot_be_compared(tmp_path: Path) -> None:
    def read(name: str, labels: str) -> object:
        path = write(tmp_path / name, [{"label": x, "prediction": "a"} for x in labels])
        return read_predictions(path, "classification", Columns(), encoding="utf-8")

    ours = read("a.jsonl", "abab")
    outcome = judge("classification", ours, HOW)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="row 2 has another label"):
        compare(outcome, ours, read("b.jsonl", "aaab"), HOW)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="4 and 3 rows"):
        compare(outcome, ours, read("b.jsonl", "aba"), HOW)  # type: ignore[arg-type]


def test_classes_are_ordered_as_people_do_and_names_of_any_script() -> None:
    assert classes_of(["10", "9", "2"], ["9"]) == ["2", "9", "10"]
    assert indices(["好", "差"], classes_of(["好", "差"], [])).tolist() == [0, 1]
    for wrong in ({"samples": 5}, {"confidence": 1.0}):
        with pytest.raises(InputError, match="must be"):
            Resampling(**wrong)  # type: ignore[arg-type]
