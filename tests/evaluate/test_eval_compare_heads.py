"""--compare for several labels, tags and written text: figures as of each alone, the same rows drawn for both."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import sacrebleu
from harness_model import make
from sacrebleu.significance import PairedTest
from sklearn import metrics as sk
from test_eval_models import bert, table

from lossmith import cli
from lossmith.evaluate.bootstrap import Resampling
from lossmith.evaluate.generating import write_all
from lossmith.evaluate.generation import compare_generation
from lossmith.evaluate.multi_label import compare_multi_label
from lossmith.evaluate.outcome import Difference
from lossmith.evaluate.tagging import compare_tagging

HOW = Resampling(2000)
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "eval.json").read_text(encoding="utf-8"))


def flipped(true: np.ndarray, rate: float, seed: int) -> np.ndarray:
    return true ^ (np.random.default_rng(seed).random(true.shape) < rate)


def plain_bootstrap(score: Callable[[np.ndarray], float], n: int, samples: int = 400) -> np.ndarray:
    """The difference on rows drawn again and again, computed from the rows themselves."""
    rng = np.random.default_rng(1)
    return np.array([score(rng.integers(n, size=n)) for _ in range(samples)])


def agrees(row: Difference, drawn: np.ndarray) -> None:
    """The interval is that of the plain bootstrap, within what so few resamples vary."""
    assert row.low is not None
    assert row.high is not None
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (row.low, row.high) == pytest.approx((low, high), abs=0.2 * (high - low))


def test_several_labels_are_compared_by_rows_drawn_for_both() -> None:
    true = np.random.default_rng(0).random((150, 3)) < [0.5, 0.2, 0.1]
    ours, other = flipped(true, 0.1, 1), flipped(true, 0.15, 2)
    rows = {row.name: row for row in compare_multi_label(true, ours, other, HOW)}
    for average in ("micro", "macro"):

        def score(drawn: Any, average: str = average) -> float:
            sides = (sk.f1_score(true[drawn], side[drawn], average=average) for side in (ours, other))
            return float(next(sides) - next(sides))

        assert rows[f"f1_{average}"].difference == pytest.approx(score(slice(None)))
        agrees(rows[f"f1_{average}"], plain_bootstrap(score, len(true)))
    same = compare_multi_label(true, ours, ours, HOW)
    assert {(row.difference, row.low, row.high, row.p) for row in same} == {(0, 0, 0, 1)}


def tags(n: int, wrong: float, seed: int) -> list[list[str]]:
    draw, kinds = np.random.default_rng(seed), ("PER", "LOC")
    return [
        ["O" if draw.random() < wrong else f"B-{kind}", "O", f"B-{kind}", f"I-{kind}"][: 3 + i % 2]
        for i, kind in enumerate(kinds * (n // 2))
    ]


def test_tags_are_compared_by_sentences_drawn_for_both() -> None:
    true, ours, other = tags(120, 0, 0), tags(120, 0.2, 1), tags(120, 0.5, 2)
    rows = {row.name: row for row in compare_tagging(true, ours, other, HOW)}
    firsts = [np.array([row[0] != "O" for row in side]) for side in (ours, other)]

    def score(drawn: Any) -> float:
        """Two entities a sentence; a missed first one is missing from what was predicted."""
        f1 = [2 * (hit[drawn].sum() + hit[drawn].size) / (hit[drawn].sum() + 3 * hit[drawn].size) for hit in firsts]
        return float(f1[0] - f1[1])

    assert rows["entity_f1"].difference == pytest.approx(score(slice(None)))
    agrees(rows["entity_f1"], plain_bootstrap(score, len(true)))
    assert rows["entity_precision"].difference == 0
    assert rows["entity_f1"].p is not None
    assert rows["entity_f1"].p < 0.05


def test_corpus_scores_are_those_of_the_drawn_rows() -> None:
    """As in sacrebleu's paired bootstrap: counts of sentences are summed, then scored; no mean of BLEUs."""
    draw = np.random.default_rng(0)
    words = np.array(list("abcdefghijklmn"))
    references = [" ".join(draw.choice(words, draw.integers(4, 20))) for _ in range(60)]

    def written(rate: float) -> list[str]:
        pairs = ([(word, str(draw.choice(words))) for word in row.split()] for row in references)
        return [" ".join(word if draw.random() > rate else other for word, other in row) for row in pairs]

    sides = written(0.25), written(0.35)
    rows = {row.name: row for row in compare_generation(references, *sides, HOW)}
    for name, metric in (("bleu", sacrebleu.BLEU()), ("chrf", sacrebleu.CHRF())):

        def score(drawn: Any, metric: Any = metric) -> float:
            *pair, wanted = ([side[i] for i in drawn] for side in (*sides, references))
            return float(np.subtract(*(metric.corpus_score(side, [wanted]).score for side in pair)))

        assert rows[name].difference == pytest.approx(score(range(60)))
        agrees(rows[name], plain_bootstrap(score, 60, 300))
    assert all(row.p is not None and row.p < 0.05 for row in rows.values())
    theirs = PairedTest(
        [("ours", sides[0]), ("other", sides[1])], {"BLEU": sacrebleu.BLEU()}, [references], "bs", n_samples=500
    )()[1]["BLEU"]
    assert (rows["bleu"].ours, rows["bleu"].other) == pytest.approx(tuple(result.score for result in theirs))
    assert theirs[1].p_value < 0.05


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of each kind, of one body, whose classes stand in another order, and a table for each task."""
    folder = tmp_path_factory.mktemp("heads")
    for name, order in (("a", "xyz"), ("b", "zxy")):
        names: dict[str, Any] = {"id2label": dict(enumerate(order)), "label2id": {k: i for i, k in enumerate(order)}}
        several = "multi_label_classification"
        bert(folder / f"multi_label-{name}", problem_type=several, **names)
        bert(folder / f"tagging-{name}", "BertForTokenClassification", **names)
    (folder / "generation-a").symlink_to(make(folder, "llama"))
    (folder / "generation-b").symlink_to(make(folder, "gpt2"))
    texts = ["good food", "bad food", "so-so", "not bad at all", "never again", "a walk"] * 4
    labels = [list("xyz"[: i % 4]) for i in range(24)]
    table(folder / "multi_label.jsonl", text=texts, label=labels)
    words = [text.split() for text in texts]
    table(
        folder / "tagging.jsonl",
        tokens=words,
        tags=[["xyz"[(i + j) % 3] for j in range(len(w))] for i, w in enumerate(words)],
    )
    said, _ = write_all(folder / "generation-a", texts, tokenizer=None, batch_size=8, max_new_tokens=6)
    target = [
        text[::-1] if i % 2 or not told.strip() else told
        for i, (text, told) in enumerate(zip(texts, said, strict=True))
    ]
    table(folder / "generation.jsonl", source=texts, target=target)
    return folder


def evaluated(capsys: pytest.CaptureFixture[str], *call: Any) -> dict[str, Any]:
    assert cli.run(["eval", *map(str, call), "--json", "--bootstrap-samples", "200", "--max-new-tokens", "6"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    jsonschema.validate(told, SCHEMA)
    return told


def figures(told: dict[str, Any]) -> dict[str, float]:
    return {figure["name"]: figure["value"] for figure in told["figures"]}


def rows_of(found: Sequence[dict[str, Any]], key: str) -> dict[str, float]:
    return {row["name"]: row[key] for row in found}


@pytest.mark.parametrize("task", ["multi_label", "tagging", "generation"])
def test_models_are_compared_as_each_is_judged_alone(desk: Path, task: str, capsys: pytest.CaptureFixture[str]) -> None:
    ours, other, data = desk / f"{task}-a", desk / f"{task}-b", desk / f"{task}.jsonl"
    alone = [figures(evaluated(capsys, folder, data, "--task", task)) for folder in (ours, other)]
    both = evaluated(capsys, ours, data, "--task", task, "--compare", other)
    found = both["differences"]
    assert figures(both) == alone[0] == pytest.approx(rows_of(found, "ours"))
    assert alone[1] == pytest.approx(rows_of(found, "other"))
    assert alone[0] != alone[1]
    assert all(row["low"] <= row["difference"] <= row["high"] and 0 < row["p"] <= 1 for row in found)
    backwards = evaluated(capsys, other, data, "--task", task, "--compare", ours)["differences"]
    assert rows_of(backwards, "difference") == pytest.approx({k: -v for k, v in rows_of(found, "difference").items()})
    itself = evaluated(capsys, ours, data, "--task", task, "--compare", ours)["differences"]
    assert {(row["difference"], row["p"]) for row in itself} == {(0, 1)}


def test_the_comparison_is_printed(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = desk / "multi_label.jsonl"
    call = ["eval", *map(str, (desk / "multi_label-a", data)), "--task", "multi_label", "--bootstrap-samples", "200"]
    assert cli.run([*call, "--compare", str(desk / "multi_label-b")]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("paired"))
    assert lines[head].split() == ["paired", "this", "other", "difference", "95%", "interval", "p"]
    assert lines[head + 1].startswith("F1 micro")


def test_what_another_model_does_not_have_is_said(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["eval", str(desk / "tagging-a"), str(desk / "tagging.jsonl"), "--task", "tagging", "--compare"]
    assert cli.run([*call, str(desk / "multi_label-a")]) == 2
    assert "has no tagging head" in capsys.readouterr().err
    assert cli.run([*call, str(desk / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
