"""The real files of many tools in ../shared/logs, each against a parse of its own that knows nothing of the readers."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lossmith.runs import Run, read

SHARED = Path(__file__).resolve().parents[3] / "shared"
LOGS = SHARED / "logs"
Points = list[tuple[float, float]]
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason="the shared logs are not here")


def rows(*names: str) -> Callable[[Path], dict[str, Points]]:
    """Columns of a CSV: (curve, column, step column) given as "curve=column@step"."""

    def parse(path: Path) -> dict[str, Points]:
        table = list(csv.DictReader(path.read_text().splitlines()))
        out = {}
        for name in names:
            curve, _, rest = name.partition("=")
            column, _, step = rest.partition("@")
            out[curve] = [(float(row[step]), float(row[column])) for row in table if row[column]]
        return out

    return parse


def dictionaries(
    entries: Callable[[Path], list[dict[str, float]]], step: str, **names: str
) -> Callable[..., dict[str, Points]]:
    def parse(path: Path) -> dict[str, Points]:
        found = entries(path)
        return {curve: [(row[step], row[key]) for row in found if key in row] for curve, key in names.items()}

    return parse


def log_history(path: Path) -> list[dict[str, float]]:
    return json.loads(path.read_text())["log_history"]


def json_lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def json_list(path: Path) -> list[dict[str, float]]:
    return json.loads(path.read_text())


def regex(**patterns: str) -> Callable[[Path], dict[str, Points]]:
    def parse(path: Path) -> dict[str, Points]:
        text = path.read_text(errors="replace")
        return {curve: [(float(a), float(b)) for a, b in re.findall(p, text, re.M)] for curve, p in patterns.items()}

    return parse


def golden(path: Path) -> dict[str, Points]:
    values = json.loads(path.read_text())["lm loss"]["values"]
    return {"loss": [(float(step), value) for step, value in values.items() if value != "nan"]}


def lists(path: Path) -> dict[str, Points]:
    data = json.loads(path.read_text())
    train = "train_loss" if "train_loss" in data else "loss"
    return {name: list(enumerate(data[key])) for name, key in (("loss", train), ("eval_loss", "val_loss"))}


def printed(path: Path) -> dict[str, Points]:
    """Printed dictionaries of one run; the step is not looked at (nan)."""
    text = path.read_text()
    out = {}
    for curve, key in (("loss", "loss"), ("eval_loss", "eval_loss")):
        out[curve] = [(float("nan"), float(value)) for value in re.findall(rf"\{{'{key}': ([-\d.e]+)", text)]
    return out


def ultralytics(path: Path) -> dict[str, Points]:
    table = list(csv.DictReader(path.read_text().splitlines()))
    sums = {"loss": "train", "eval_loss": "val"}
    return {
        curve: [(float(r["epoch"]), float(r[f"{side}/box_loss"]) + float(r[f"{side}/cls_loss"])) for r in table]
        for curve, side in sums.items()
    }


PARSERS: dict[str, Callable[[Path], dict[str, Points]]] = {
    "Megatron_DeepSpeed_stdout": regex(
        loss=r"iteration +(\d+)/.*lm loss: (\S+)", grad_norm=r"iteration +(\d+)/.*grad norm: (\S+)"
    ),
    "csv": rows("loss=loss@step"),
    "hf_trainer_state": dictionaries(
        log_history, "step", loss="loss", eval_loss="eval_loss", learning_rate="learning_rate"
    ),
    "hf_trainer_stdout_step_epoch": printed,
    "history_json/Andy": dictionaries(json_list, "step", loss="train/loss", eval_loss="eval/loss"),
    "history_json/Isom": lists,
    "jsonl_llamafactory_trainer_log": dictionaries(json_lines, "current_steps", loss="loss", eval_loss="eval_loss"),
    "keras_csvlogger_like/ruap": rows("loss=loss@step", "eval_loss=val_loss@step"),
    "keras_csvlogger_like": rows("loss=loss@epoch", "eval_loss=val_loss@epoch"),
    "lightning_metrics_csv": rows("loss=train_loss_step@step", "eval_loss=val_loss@step"),
    "llm_c_main_log": regex(loss=r"^s:(\d+) trl:(\S+)", eval_loss=r"^s:(\d+) tel:(\S+)"),
    "megatron_golden_json": golden,
    "modded_nanogpt_log": regex(loss=r"^step:(\d+)/\d+ train_loss:(\S+)", eval_loss=r"^step:(\d+)/\d+ val_loss:(\S+)"),
    "overfitguard_history_json": lists,
    "ultralytics_results_csv": ultralytics,
}
FILES = sorted(path.relative_to(LOGS).as_posix() for path in LOGS.glob("*/*"))


def parser_of(name: str) -> Callable[[Path], dict[str, Points]]:
    return PARSERS[max((key for key in PARSERS if name.startswith(key)), key=len)]


def pooled(runs: list[Run], curve: str) -> Points:
    found = [run.curves[curve] for run in runs if curve in run.curves]
    return [pair for one in found for pair in zip(one.step.tolist(), one.value.tolist(), strict=True)]


@needs_logs
@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("tensorboard")])
def test_the_right_curves_come_out(name: str) -> None:
    path = LOGS / name
    reading = read(path)
    assert not reading.skipped, reading.skipped
    for curve, want in parser_of(name)(path).items():
        got = pooled(reading.runs, curve)
        if "EshaUbale" in name and curve == "eval_loss":
            want = want[:-1]  # the last evaluation is printed twice
        assert len(got) == len(want), (curve, len(got), len(want))
        assert [value for _, value in got] == pytest.approx([value for _, value in want])
        if want and want[0][0] == want[0][0]:
            assert [step for step, _ in got] == [step for step, _ in want]


@needs_logs
@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("tensorboard")])
def test_event_files_as_tensorboard_itself_reads_them(name: str) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    want: dict[str, Points] = {}
    for event in accumulator.LegacyEventFileLoader(str(LOGS / name)).Load():
        for value in event.summary.value:
            if value.HasField("simple_value"):
                want.setdefault(value.tag, []).append((event.step, value.simple_value))
    (run,) = read(LOGS / name).runs
    for curve, tag in (("loss", "train/loss"), ("eval_loss", "eval/loss"), ("learning_rate", "train/learning_rate")):
        assert pooled([run], curve) == want[tag]


@needs_logs
def test_the_whole_folder_at_once() -> None:
    reading = read(LOGS)
    assert [Path(skipped.path).name for skipped in reading.skipped] == ["MANIFEST.tsv"]
    assert {Path(taken.path).relative_to(LOGS).as_posix() for taken in reading.taken} == set(FILES)


@pytest.mark.skipif(not (SHARED / "curves").is_dir(), reason="the shared curves are not here")
def test_all_labelled_curves_are_read() -> None:
    files = sorted((SHARED / "curves" / "dev").glob("*.json"))
    reading = read(SHARED / "curves" / "dev")
    assert {taken.path for taken in reading.taken} == set(map(str, files))
    assert len(reading.runs) == len(files)
    assert not reading.skipped
    for run in reading.runs:
        data = json.loads(Path(run.source).read_text())
        for curve, key in (("loss", "train"), ("eval_loss", "eval"), ("learning_rate", "lr")):
            want = [float(value) for _, value in data.get(key) or []]
            assert [value for _, value in pooled([run], curve)] == pytest.approx(want, nan_ok=True)
