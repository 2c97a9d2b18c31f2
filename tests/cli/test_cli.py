"""The command line as a user meets it: real processes, exit codes, messages, JSON."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
TINY = ["--tokenizer", "byte", "--block-size", "16", "--max-steps", "10", "--sample-tokens", "8"]
TINY += ["--per-device-train-batch-size", "4", "--eval-max-tokens", "512", "--validation-fraction", "0.02"]
Result = subprocess.CompletedProcess[str]


@pytest.fixture
def lossmith(environment: dict[str, str], python: str, tmp_path: Path) -> Callable[..., Result]:
    def call(*arguments: str | Path, stdin: str | bytes | None = None, start: str = python, **more: str) -> Result:
        command = [start, "-m", "lossmith", *map(str, arguments)]
        given = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            command, input=given, env=environment | {"LOSSMITH_CACHE": os.environ["LOSSMITH_CACHE"]} | more,
            cwd=tmp_path, capture_output=True, check=False, timeout=300,
        )  # fmt: skip
        return Result(command, done.returncode, done.stdout.decode(), done.stderr.decode())

    return call


def check(name: str, value: Any) -> None:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(value, schema)


def test_schemas_can_fail() -> None:
    with pytest.raises(jsonschema.ValidationError):
        check("train-event", {"event": "metrics", "step": 1, "loss": None})


def test_train_sample_next_in_json(lossmith: Callable[..., Result], text_file: Path, tmp_path: Path) -> None:
    done = lossmith("train", text_file, *TINY, "--output_dir", "run", "--json", start=sys.executable)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    for event in events:
        check("train-event", event)
    assert {event["event"] for event in events} - {"epoch", "finding"} == {
        "metrics",
        "sample",
        "saved",
        "message",
        "done",
    }
    last = events[-1]
    assert last["event"] == "done"
    assert all((tmp_path / path).exists() for path in last["files"].values())
    assert any(row["name"] == "gzip" for row in last["baselines"])
    sampled = lossmith("sample", "run", "--prompt", "The ", "--max-new-tokens", "5", "--num-samples", "2", "--json")
    check("sample", json.loads(sampled.stdout))
    asked = lossmith("next", "run", "The ", "--candidates", "name", "光", "--json")
    check("next", json.loads(asked.stdout))


@pytest.mark.parametrize(("option", "schema"), [("--list-corpora", "corpora"), ("--list_models", "models")])
def test_lists(lossmith: Callable[..., Result], option: str, schema: str) -> None:
    told = lossmith("train", option, "--json")
    check(schema, json.loads(told.stdout))
    names = [row["name"] for row in json.loads(told.stdout)]
    shown = lossmith("train", option, COLUMNS="160").stdout
    assert all(name in shown for name in names)


def test_plain_output_when_not_a_terminal(lossmith: Callable[..., Result], text_file: Path) -> None:
    done = lossmith("train", text_file, *TINY, "--num-train-epochs", "1")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert re.search(r"step 10/10  loss \d\.\d{4} nats/token  smoothed .* tokens/s  ETA 0:00", done.stdout)
    assert re.search(r"validation loss \d\.\d{4} nats/token  perplexity [\d.]+  \d\.\d{4} bits/byte", done.stdout)
    for words in ("gzip -9", "this model", "report.html", "sample at step 10"):
        assert words in done.stdout
    assert done.stderr == ""


def test_epochs_get_a_bar_each(lossmith: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("so it goes, and so it goes on. " * 40, encoding="utf-8")
    done = lossmith(
        "train", "short.txt", *TINY[:-4], "--validation-fraction", "0.1", "--max-steps", "20", "--logging-steps", "1"
    )
    assert re.search(r"epoch 1  █+ .* nats/token \(ln V = 5\.5491\)", done.stdout), done.stdout + done.stderr


def test_a_terminal_gets_one_live_line(
    environment: dict[str, str], python: str, text_file: Path, tmp_path: Path
) -> None:
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [python, "-m", "lossmith", "train", str(text_file), *TINY, "--logging-steps", "1"],
        stdout=follower, stderr=follower, env=environment | {"TERM": "xterm", "COLUMNS": "150"}, cwd=tmp_path,
    )  # fmt: skip
    os.close(follower)
    seen = b""
    while child.poll() is None or select.select([leader], [], [], 0.2)[0]:
        try:
            seen += os.read(leader, 65536)
        except OSError:
            break
    os.close(leader)
    assert child.wait() == 0
    text = seen.decode()
    assert "step 10/10" in text
    assert "smoothed" in text
    assert "\x1b[2K" in text  # the line is drawn again in place
    assert "bits/byte" in text


def test_standard_input(lossmith: Callable[..., Result], tmp_path: Path) -> None:
    done = lossmith("train", "-", *TINY, "--output-dir", "run", stdin="床前明月光，疑是地上霜。\n" * 100)
    assert done.returncode == 0, done.stderr
    resumed = lossmith("train", "--output-dir", "run", "--resume-from-checkpoint", "--max-steps", "22")
    assert resumed.returncode == 0, resumed.stderr


MISTAKES: list[tuple[list[str], str]] = [
    (["trian"], r"no command 'trian'. Did you mean 'train'\?"),
    (["train", "nothing.txt"], "nothing.txt"),
    (["train", "empty.txt"], "'empty.txt' holds 0 characters"),
    (["train", "one.txt", "--tokenizer", "byte"], "one.txt|token|character"),
    (["train", "bad.txt"], r"bad\.txt.*(byte|offset) .*--encoding"),
    (["train", "torn.gz"], "torn.gz"),
    (["train", "torn.txt.gz"], r"torn\.txt\.gz"),
    (["train", "broken.json"], r"broken\.json"),
    (["train", "rows.jsonl", "--text-field", "txet"], r"Did you mean 'text'\?"),
    (["train", "shakespear"], r"Did you mean '?shakespeare"),
    (["train", "good.txt", "--optim", "adamww"], r"muon; got 'adamww'\. Did you mean 'adamw'\?"),
    (["train", "good.txt", "--lr-scheduler-type", "cosin"], r"Did you mean 'cosine'\?"),
    (["train", "good.txt", "--block-size", "0"], "--block-size must be at least 1; got 0"),
    (["train", "good.txt", "--min-lr-rate", "3"], r"--min-lr-rate must be in \[0, 1\]; got 3"),
    (["train", "good.txt", "--text-field", "q"], "--text-field 'q' names a column"),
    (["train", "good.txt", "--model", "bert"], r"--model bert \(BertLMHeadModel\) is not causal"),
    (["sample", "bert"], r"bert holds a config\.json and no weights"),
    (["train", "good.txt", "--learning-rate", "fast"], "learning-rate"),
    (["train", "good.txt", "--max-step", "3"], "max-steps"),
    (["train", "good.txt", "--tokenizer", "bpe:10"], "bpe:10"),
    (["train", "good.txt", "--tokenizer", "wordpiece"], "wordpiece"),
    (["train", "good.txt", "--encoding", "utf-9"], "utf-9"),
    (["train", "good.txt", "--model", "nanoo"], r"Did you mean 'nano'\?"),
    (["train", "good.txt", "--block-size", "100000"], "100,?000"),
    (["train", "--resume-from-checkpoint"], "--output-dir"),
    (["train", "--output-dir", "nowhere", "--resume-from-checkpoint"], "nowhere is not a run folder"),
    (["sample", "nowhere"], "nowhere does not exist"),
    (["next", "nowhere", "x"], "nowhere does not exist"),
]


@pytest.fixture
def bad_inputs(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "one.txt").write_text("a", encoding="utf-8")
    (tmp_path / "good.txt").write_text("all is well that ends well. " * 200, encoding="utf-8")
    (tmp_path / "bad.txt").write_bytes("天地".encode("gb18030") + b" and so on")
    (tmp_path / "torn.txt.gz").write_bytes(gzip.compress(os.urandom(4000))[:2000])
    (tmp_path / "broken.json").write_text('{"text": ', encoding="utf-8")
    (tmp_path / "bert").mkdir()
    shape = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    (tmp_path / "bert" / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text('{"text": "a b c"}\n{"text": "d e f"}\n', encoding="utf-8")


@pytest.mark.usefixtures("bad_inputs")
@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_a_users_mistake_is_a_message(lossmith: Callable[..., Result], arguments: list[str], words: str) -> None:
    done = lossmith(
        *arguments, *(["--max-steps", "2"] if arguments[0] == "train" and "--max-step" not in arguments else [])
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(words, re.sub(r"[│╭╮╰╯─\n ]+", " ", done.stderr)), done.stderr


def test_help_version_and_nothing(lossmith: Callable[..., Result]) -> None:
    assert lossmith("--version").stdout.startswith("lossmith ")
    assert "train" in lossmith("--help").stdout
    assert lossmith().returncode == 2
    shown = lossmith("train", "--help").stdout
    assert "--learning-rate" in shown
    assert "--list-corpora" in shown


def test_output_into_a_closed_pipe(environment: dict[str, str], python: str, tmp_path: Path) -> None:
    command = f"{python} -m lossmith train --list-corpora --json | head -c 1"
    done = subprocess.run(
        command, shell=True, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "["
    assert "Traceback" not in done.stderr


def test_a_terminal_that_cannot_show_chinese(lossmith: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "诗.txt").write_text("床前明月光，疑是地上霜。\n" * 100, encoding="utf-8")
    done = lossmith("train", "诗.txt", *TINY, start=sys.executable, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr


def test_a_call_that_failed_early_does_not_take_the_folder(lossmith: Callable[..., Result], text_file: Path) -> None:
    assert lossmith("train", "tpyo.txt", "--output-dir", "run").returncode == 2
    done = lossmith("train", text_file, *TINY, "--output-dir", "run")
    assert done.returncode == 0, done.stderr
    again = lossmith("train", text_file, *TINY, "--output-dir", "run")
    assert again.returncode == 2
    assert "already holds a run" in again.stderr


def test_training_outlives_its_reader(
    environment: dict[str, str], python: str, text_file: Path, tmp_path: Path
) -> None:
    options = " ".join(TINY)
    command = f"{python} -m lossmith train {text_file} {options} --output-dir run --json | head -1"
    done = subprocess.run(
        command, shell=True, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["status"] == "finished"
