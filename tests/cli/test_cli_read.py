"""`lossmith read` as a user meets it: real processes, exit codes, JSON, pages, a log that is being written."""

from __future__ import annotations

import functools
import json
import math
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "read.json"
Result = subprocess.CompletedProcess[str]


def read(*arguments: str | Path, cwd: Path, stdin: str | None = None) -> Result:
    command = [sys.executable, "-m", "lossmith", "read", *map(str, arguments)]
    return subprocess.run(command, input=stdin, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def found(result: Result) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(result.stdout)
    jsonschema.validate(told, json.loads(SCHEMA.read_text(encoding="utf-8")))
    return told


def checks(result: Result) -> list[str]:
    return [finding["check"] for run in found(result)["runs"] for finding in run["findings"]]


def csv_of(losses: list[float]) -> str:
    return "step,loss\n" + "".join(f"{step},{loss}\n" for step, loss in enumerate(losses, 1))


FALLING = [2 + 8 * step**-0.5 + 0.02 * math.sin(step * 12.9898) for step in range(1, 400)]
BROKEN = [*FALLING, math.nan, math.nan]
OVERFIT = "epoch,loss,val_loss\n" + "".join(f"{e},{1 / (e + 1):.4f},{1 + abs(e - 8) / 20:.4f}\n" for e in range(30))


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "good.csv").write_text(csv_of(FALLING), encoding="utf-8")
    (tmp_path / "坏.csv").write_text(csv_of(BROKEN), encoding="utf-8")
    (tmp_path / "overfit.csv").write_text(OVERFIT, encoding="utf-8")
    return tmp_path


def test_json_holds_runs_findings_and_what_was_skipped(logs: Path) -> None:
    (logs / "notes.txt").write_text("nothing to see here", encoding="utf-8")
    result = read(".", "--json", cwd=logs)
    told = found(result)
    assert sorted(Path(run["source"]).name for run in told["runs"]) == ["good.csv", "overfit.csv", "坏.csv"]
    assert [skipped["path"] for skipped in told["skipped"]] == ["notes.txt"]
    assert {"nan", "overfit", "normal"} <= set(checks(result))
    assert result.returncode == 1  # there are errors


def test_a_good_run_ends_well_and_is_drawn(logs: Path) -> None:
    result = read("good.csv", cwd=logs)
    assert result.returncode == 0, result.stderr
    assert "converges normally" in result.stdout
    assert any("⠀" <= char <= "⣿" for char in result.stdout)


def test_what_a_missing_column_would_settle_is_said(logs: Path) -> None:
    good, overfit = (found(read(name, "--json", cwd=logs))["runs"][0] for name in ("good.csv", "overfit.csv"))
    assert "overfit" in good["unsettled"]["eval_loss"]
    assert "eval_loss" not in overfit["unsettled"]
    assert "eval_loss was not logged" in read("good.csv", cwd=logs).stdout


def test_chinese(logs: Path) -> None:
    result = read("坏.csv", "--lang", "zh", cwd=logs)
    assert "不是数" in result.stdout
    assert result.returncode == 1


def test_standard_input(logs: Path) -> None:
    result = read("-", "--json", cwd=logs, stdin=csv_of(FALLING))
    assert found(result)["runs"][0]["source"] == "-"
    assert checks(result)[0] == "normal"


def test_target_and_steps_are_forecast(logs: Path) -> None:
    ahead = found(read("good.csv", "--json", "--steps", "1600", "--target", "2.3", cwd=logs))["runs"][0]["forecast"]
    assert ahead["at_step"] == 1600
    assert ahead["low"] <= ahead["value"] <= ahead["high"]
    assert ahead["low"] < 2 + 8 * 1600**-0.5 < ahead["high"]
    assert ahead["reach_step"] > 399


class Page(HTMLParser):
    """Collect what a page loads, and check that its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_and_pictures_stand_alone(logs: Path) -> None:
    (logs / "<b>evil.csv").write_text(csv_of(FALLING), encoding="utf-8")
    files = [str(path.name) for path in sorted(logs.glob("*.csv"))]
    result = read(*files, "--compare", "--html", "all.html", "--png", "all.png", "--svg", "all.svg", cwd=logs)
    assert result.returncode == 1, result.stderr
    text = (logs / "all.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert (page.loads, page.open) == ([], [])
    assert "<b>evil" not in text
    assert text.count("<svg") >= len(files)
    assert "overfit" in text
    assert (logs / "all.png").read_bytes().startswith(b"\x89PNG")
    assert (logs / "all.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_compare_says_who_leads(logs: Path) -> None:
    (logs / "fast.csv").write_text(csv_of([loss - 0.3 for loss in FALLING[:200]]), encoding="utf-8")
    told = found(read("good.csv", "fast.csv", "--compare", "--json", cwd=logs))["compare"]
    assert [(standing["axis"], standing["leader"], standing["at"]) for standing in told] == [
        ("step", "fast.csv", 200.0)
    ]
    assert told[0]["lead"] == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no_such.csv"], "there is nothing of this name"),
        (["empty.csv"], "empty.csv: empty file"),
        (["noise.bin"], "a binary file of no known format"),
        (["good.csv", "--compare"], "to compare takes two runs or more; got 1"),
        (["good.csv", "overfit.csv", "--png", "x.png"], "--png and --svg draw one run, or several with --compare"),
        (["good.csv", "--html", "no/such/folder/x.html"], "must be a file that can be written"),
        (["good.csv", "--png", "no/such/folder/x.png"], "must be a file that can be written"),
        (["good.csv", "--steps", "3"], "steps must be at or after the last step"),
        (["good.csv", "--on-error", "true"], "--on-error needs --follow"),
        (["good.csv", "--follow", "--interval", "0"], "--interval must be above 0 seconds; got 0"),
    ],
)
def test_a_wrong_call_is_a_message(logs: Path, arguments: list[str], said: str) -> None:
    (logs / "empty.csv").write_text("", encoding="utf-8")
    (logs / "noise.bin").write_bytes(bytes(range(256)) * 20)
    result = read(*arguments, cwd=logs)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def following(*arguments: str | Path, cwd: Path, stdin: int | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lossmith", "read", *map(str, arguments), "--follow", "--interval", "0.1"]
    hears = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # as started from a terminal
    return subprocess.Popen(
        command, cwd=cwd, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hears
    )


def test_follow_ends_at_an_error(tmp_path: Path) -> None:
    log = tmp_path / "live.csv"
    process = following(log, "--json", cwd=tmp_path)  # the log is not there yet
    time.sleep(1.0)
    log.write_text(csv_of(FALLING), encoding="utf-8")
    time.sleep(1.5)
    assert process.poll() is None
    with log.open("a", encoding="utf-8") as file:
        file.write("400,nan\n")
    out, error = process.communicate(timeout=60)
    assert process.returncode == 1, error
    assert [json.loads(line)["check"] for line in out.splitlines()] == ["nan"]


def test_follow_runs_the_command_and_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "live.csv"
    log.write_text(csv_of(BROKEN), encoding="utf-8")
    process = following(log, "--on-error", 'printf %s "$LOSSMITH_FINDING" > told.json', cwd=tmp_path)
    for _ in range(300):
        if (tmp_path / "told.json").exists() and (tmp_path / "told.json").stat().st_size:
            break
        time.sleep(0.1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted" in error
    assert json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))["check"] == "nan"


def test_follow_a_pipe_to_its_end(tmp_path: Path) -> None:
    process = following("-", cwd=tmp_path, stdin=subprocess.PIPE)
    out, error = process.communicate(csv_of(FALLING), timeout=60)
    assert (process.returncode, error) == (0, "")
    assert "nan" not in out


def test_training_ends_with_its_findings(
    tmp_path: Path, text_file: Path, environment: dict[str, str], python: str
) -> None:
    options = ["--tokenizer", "byte", "--block-size", "16", "--max-steps", "40", "--logging-steps", "1", "--json"]
    options += ["--per-device-train-batch-size", "4", "--eval-max-tokens", "512", "--sample-tokens", "0"]
    command = [python, "-m", "lossmith", "train", str(text_file), *options, "--output-dir", "run"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment, timeout=300
    )
    last = json.loads(done.stdout.splitlines()[-1])
    again = found(read("run/metrics.jsonl", "--json", cwd=tmp_path))["runs"][0]
    assert [f["message"] for f in last["findings"]] == [f["message"] for f in again["findings"]]
    assert last["findings"]
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "What the curves say" in report
    assert "## What the curves say" in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
