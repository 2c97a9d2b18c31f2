"""`lossmith eval` as a user meets it: a run made by lossmith train, JSON by its schema, tables, pictures, messages."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import lossmith
from lossmith import cli

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "eval.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, english: str, tiny_options: dict[str, Any]) -> Path:
    """Two runs (two steps and twenty), text they have not seen, tables."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "text.txt").write_text(english[:50_000], encoding="utf-8")
    rows = [json.dumps({"id": i, "text": english[i : i + 300]}) for i in range(50_000, 55_000, 300)]
    (folder / "new.jsonl").write_text("\n".join(rows), encoding="utf-8")
    for name, steps in (("short", 2), ("long", 20)):
        lossmith.train(str(folder / "text.txt"), output_dir=str(folder / name), max_steps=steps, **tiny_options)
    rng = np.random.default_rng(0)
    for name, right in (("a", 0.9), ("b", 0.5)):
        said = [(i % 3, i % 3 if rng.random() < right else rng.integers(3)) for i in range(200)]
        lines = [f"{'猫狗鸟'[t]},{'猫狗鸟'[p]}" for t, p in said]
        (folder / f"{name}.csv").write_text("\n".join(["label,prediction", *lines]), encoding="utf-8")
    return folder


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.run(["eval", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def found(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    code, out, err = call(capsys, *arguments, "--json", "--bootstrap-samples", 200)
    assert code == 0, err
    told: dict[str, Any] = json.loads(out)
    jsonschema.validate(told, SCHEMA)
    return told


def value(told: dict[str, Any], name: str) -> float:
    return float(next(figure["value"] for figure in told["figures"] if figure["name"] == name))


def test_a_run_is_measured_and_compared(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = found(capsys, desk / "long", desk / "new.jsonl", "--text-field", "text", "--compare", desk / "short")
    assert told["unit"] == "documents"
    assert told["counts"]["documents"] == told["examples"] == 17
    assert told["counts"]["context"] == 16
    names = [row["name"] for row in told["baselines"]]
    assert names[:6] == ["uniform", "unigram", "bigram", "gzip", "xz", "zstd"]
    assert {"unigram_given", "bigram_given", "gzip_given", "xz_given", "zstd_given"} <= set(names)
    assert told["worth"]["given_from"] == "the run's training text"
    assert told["worth"]["given"] == told["worth"]["given_of"] < 50_000
    row = told["differences"][0]
    assert row["name"] == "bits_per_byte"
    assert row["difference"] == pytest.approx(row["ours"] - row["other"])
    assert row["high"] < 0  # more training is better, for sure
    assert row["p"] < 0.05
    more = found(capsys, desk / "long", desk / "new.jsonl", "--text-field=text", "--stride", 4)
    assert more["counts"]["windows"] > 3 * told["counts"]["windows"]
    assert value(more, "loss") != value(told, "loss")
    assert more["counts"]["tokens"] == told["counts"]["tokens"]


def test_tables_say_what_json_says(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, desk / "long" / "model", desk / "text.txt", "--max-examples", 1)
    assert code == 0
    assert "bits per byte" in out
    assert "95% interval, windows drawn" in out
    assert "zstd -19" in out
    assert "scored in windows, every token once" in " ".join(out.split())
    _, out, _ = call(capsys, desk / "long", desk / "text.txt")
    assert "is what this run was trained on" in " ".join(out.split())


def test_the_model_is_counted_and_rivals_can_be_left_out(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (desk / "long" / "model", desk / "new.jsonl", "--text-field", "text")
    told = found(capsys, *options, "--given", desk / "new.jsonl", "--max-examples", 3)["worth"]
    assert told["given_from"] == str(desk / "new.jsonl")
    assert told["compressed"] == told["text_bytes"] >= 900
    size = sum((desk / "long" / "model" / name).stat().st_size for name in (
        "model.safetensors", "config.json", "tokenizer.json", "lossmith_tokenizer.json"))  # fmt: skip
    assert told["model_bytes"] == size
    assert told["bits_per_byte_with_model"] == pytest.approx(told["bits_per_byte"] + 8 * size / told["text_bytes"])
    plain = found(capsys, *options, "--no-rivals")
    assert plain["worth"] is None
    assert [row["name"] for row in plain["baselines"]] == ["uniform", "unigram"]
    code, out, _ = call(capsys, *options)
    assert code == 0
    out = " ".join(out.split())
    for text in ("bytes counted:", "pays for itself", "larger than", "given the training text"):
        assert text in out


def test_standard_input_is_read_once_for_all(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = "to be, 或不存在\r\n".encode() * 40
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    told = found(capsys, desk / "long", "-", "--compare", desk / "short")
    (desk / "same.txt").write_bytes(data)
    same = found(capsys, desk / "long", desk / "same.txt", "--compare", desk / "short")
    assert told["data"] == ["-"]
    assert told["counts"] == same["counts"]
    assert told["counts"]["bytes"] == len(data)
    assert value(told, "bits_per_byte") == value(same, "bits_per_byte")


def test_code_length_of_one_run_and_of_two(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "code_length.json").read_text("utf-8"))
    code, out, _ = call(capsys, desk / "long", "--as-code-length", "--json")
    assert code == 0
    told = json.loads(out)
    jsonschema.validate(told, schema)
    rows = [json.loads(line) for line in (desk / "long" / "metrics.jsonl").read_text().splitlines()]
    logged = [(row["tokens"], row["loss"]) for row in rows if "loss" in row]
    before = [0] + [tokens for tokens, _ in logged[:-1]]
    nats = sum((tokens - start) * loss for (tokens, loss), start in zip(logged, before, strict=True))
    assert told["code_length"]["nats"] == pytest.approx(nats)
    code, out, _ = call(capsys, desk / "long", "--as-code-length", "--compare", desk / "short", "--json")
    race = json.loads(out)["race"]
    jsonschema.validate(json.loads(out), schema)
    assert race["same_text"] is True
    assert race["ours"]["text_bytes"] == race["other"]["text_bytes"] == 2 * 4 * 16  # what the short one has sent
    # the same first two steps; the long one has logged the first alone, and the second in the mean of ten
    assert race["difference_bytes"] == pytest.approx((race["ours"]["nats"] - race["other"]["nats"]) / math.log(2) / 8)
    code, out, _ = call(capsys, desk / "long", "--as-code-length", "--compare", desk / "short")
    out = " ".join(out.split())
    assert code == 0
    assert "would have sent it shorter, by" in out
    assert "weights are not sent" in out


def test_predictions_with_pictures(desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--predictions", desk / "a.csv", "--task", "classification")
    told = found(capsys, *options, "--compare", desk / "b.csv", "--pictures", tmp_path / "pictures")
    assert told["model"] is None
    assert told["confusion"]["labels"] == sorted("猫狗鸟")
    assert [Path(path).name for path in told["pictures"]] == ["confusion.png"]
    assert Path(told["pictures"][0]).read_bytes().startswith(b"\x89PNG")
    assert told["differences"][0]["difference"] > 0.2
    code, out, _ = call(capsys, *options)
    assert code == 0
    for text in ("accuracy", "F1 macro", "always ", "precision", "鸟"):
        assert text in out


def test_reliability_is_drawn_where_there_are_probabilities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    rows = [{"label": int(rng.random() < p), "p0": 1 - p, "p1": p} for p in rng.random(200)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    options = ("--probability-columns", "p0", "p1", "--labels", 0, 1, "--pictures", tmp_path)
    told = found(capsys, "--predictions", tmp_path / "p.jsonl", "--task", "classification", *options)
    assert [Path(path).name for path in told["pictures"]] == ["confusion.png", "reliability.png"]
    assert sum(told["reliability"]["counts"]) == 200
    assert value(told, "calibration_error") < 0.15


def test_choices_of_a_run(desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"good": f"the word {i}", "bad": f"teh wrod {i}"} for i in range(12)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    told = found(
        capsys, desk / "long", tmp_path / "pairs.jsonl", "--task", "minimal_pairs", "--compare", desk / "short"
    )
    assert told["counts"]["examples"] == 12
    assert [row["name"] for row in told["differences"]] == ["accuracy", "accuracy_per_byte", "margin"]
    rows = [{"prompt": "the w", "candidates": ["ord", "zzz"], "answer": "ord"}] * 3
    (tmp_path / "cloze.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    told = found(capsys, desk / "long", tmp_path / "cloze.jsonl", "--task", "cloze")
    assert told["baselines"][0]["figures"]["accuracy"] == 0.5


def test_a_causal_model_also_gives_embeddings(desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"query": f"the {w}", "document": f"{w} and more"} for w in ("cat", "list", "return", "exec")]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    told = found(capsys, desk / "long", tmp_path / "pairs.jsonl", "--task", "retrieval", "--compare", desk / "short")
    assert 0 <= value(told, "recall_at_1") <= value(told, "recall_at_5") == 1
    assert value(told, "uniformity") < 0
    rows = [
        {"a": "cat", "b": "cats", "label": 1},
        {"a": "cat", "b": "exec", "label": 0},
        {"a": "x", "b": "y", "label": 0},
    ]
    (tmp_path / "sim.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    told = found(capsys, desk / "long", tmp_path / "sim.jsonl", "--task", "similarity", "--text-column", "a", "b")
    assert -1 <= value(told, "spearman") <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "needs MODEL and DATA"),
        (("long",), "needs MODEL and DATA"),
        (("lung", "text.txt"), "lung does not exist"),
        (("long", "txt.txt"), "no such file, folder or corpus: 'txt.txt'"),
        (("long", "new.jsonl", "--text-field", "txt"), "has no column 'txt' (--text-field); it has id, text."),
        (("long", "new.jsonl", "--text-field=text", "--given", "-"), "--given reads files"),
        (("long", "new.jsonl", "--given", "text.txt", "--no-rivals"), "--given is for the compressors"),
        (("long", "text.txt", "--as-code-length"), "without DATA, --predictions and --given; got long text.txt"),
        (("new.jsonl", "--as-code-length"), "expected the folder of a run of lossmith train"),
        (("long", "--as-code-length", "--compare", "nowhere"), "expected the folder of a run of lossmith train"),
        (("long", "a.csv", "--predictions", "a.csv"), "with --predictions there is no MODEL"),
        (("--predictions", "a.csv"), "--predictions needs --task classification"),
        (("long", "a.csv", "--task", "generation"), "has no column 'source' (--source-column)"),
        (("long", "a.csv", "b.csv", "--task", "cloze"), "takes one table; got 2"),
        (("long", "a.csv", "--task", "minimal_pairs"), "has no column 'good' (--good-column)"),
        (("long", "a.csv", "--task", "classification", "--text-column", "label"), "has no classification head"),
        (("long", "text.txt", "--pictures", "x"), "--pictures draws classifications"),
        (("long", "text.txt", "--max-examples", "0"), "--max-examples must be 1 or more"),
        (("long", "text.txt", "--bootstrap-samples", "9"), "--bootstrap-samples must be 100 or more"),
        (("--predictions", "a.csv", "--task", "regression"), "row 1: 'label' must be a number; got '猫'"),
        (("--predictions", "a.csv", "--task", "classification", "--label-column", "lable"), "Did you mean 'label'"),
    ],
)
def test_a_wrong_call_is_a_message(
    desk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(desk)
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_as_a_process_with_an_error_in_json(desk: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "lossmith", "eval", "long", "nothing.txt", "--json"]
    result = subprocess.run(
        command, cwd=desk, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 2
    assert json.loads(result.stdout)["event"] == "error"
