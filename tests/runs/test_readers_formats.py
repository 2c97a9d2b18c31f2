"""Folders of trackers, tables and histories: what each tool leaves behind, small enough to be read here."""

# ruff: noqa: E501  (log lines)

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from reader_files import curve, write

from lossmith.runs import read

# Folders of trackers


def test_our_own_run_folder(tmp_path: Path) -> None:
    write(
        tmp_path,
        "metrics.jsonl",
        '{"step": 1, "epoch": 0.1, "loss": 5.0, "learning_rate": 1e-3}\n{"step": 2, "eval_loss": 4.5}\n',
    )
    write(tmp_path, "run.json", '{"status": "finished"}')
    write(tmp_path, "samples.jsonl", '{"step": 1, "prompt": "a", "text": "loss 3"}\n')
    reading = read(tmp_path)
    assert [(run.tool, run.config["status"]) for run in reading.runs] == [("lossmith", "finished")]
    assert curve(reading, "eval_loss") == [(2, 4.5)]


def test_notebook_outputs(tmp_path: Path) -> None:
    table = "<table><tr><th>Epoch</th><th>Training Loss</th><th>Validation Loss</th></tr>" + (
        "<tr><td>1</td><td>0.5000</td><td>0.4</td></tr><tr><td>2</td><td>0.25</td><td>0.45</td></tr></table>"
    )
    text = [
        "Epoch 1/2\n",
        "10/10 - 1s - loss: 2.5 - val_loss: 2.25\n",
        "Epoch 2/2\n",
        "10/10 - 1s - loss: 2.0 - val_loss: 2.5\n",
    ]
    cells = [
        {"cell_type": "markdown", "source": "loss 1\nloss 2"},
        {"cell_type": "code", "outputs": [{"output_type": "display_data", "data": {"text/html": [table]}}]},
        {"cell_type": "code", "outputs": [{"output_type": "stream", "text": text}]},
    ]
    path = write(tmp_path, "a.ipynb", json.dumps({"cells": cells, "nbformat": 4}))
    reading = read(path)
    assert [run.source for run in reading.runs] == [str(path), f"{path}#2"]
    assert curve(reading) == [(1, 0.5), (2, 0.25)]
    assert curve(reading, "eval_loss", 1) == [(1, 2.25), (2, 2.5)]


def test_a_trackio_database_with_two_runs(tmp_path: Path) -> None:
    path = tmp_path / "project.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "create table metrics (id integer primary key, timestamp, run_name text, step integer, metrics text)"
        )
        for run, start in (("a", 5.0), ("b", 6.0)):
            for step in range(3):
                metrics = json.dumps({"train": {"loss": start - step}, "note": "x"})
                database.execute("insert into metrics (run_name, step, metrics) values (?, ?, ?)", (run, step, metrics))
        database.commit()
    reading = read(path)
    assert [(run.config["run_name"], curve(reading, run=i)[0]) for i, run in enumerate(reading.runs)] == [
        ("a", (0, 5.0)),
        ("b", (0, 6.0)),
    ]


# Tables


def test_wandb_export_has_a_run_for_each_column_set(tmp_path: Path) -> None:
    header = '"Step","red-sun-1 - train/loss","red-sun-1 - train/loss__MIN","red-sun-1 - train/loss__MAX","b - train/loss","b - train/loss__MIN","b - train/loss__MAX"'
    reading = read(
        write(
            tmp_path,
            "wandb.csv",
            header + '\n"1","5.0","5.0","5.0","","",""\n"2","4.0","4.0","4.0","6.0","6.0","6.0"\n',
        )
    )
    assert [run.config["run_name"] for run in reading.runs] == ["red-sun-1", "b"]
    assert curve(reading) == [(1, 5.0), (2, 4.0)]
    assert curve(reading, run=1) == [(2, 6.0)]


def test_tidy_tables(tmp_path: Path) -> None:
    tall = "run,tag,step,value\na,train/loss,1,5.0\na,train/loss,2,4.0\na,eval/loss,2,4.5\nb,train/loss,1,6.0\n"
    reading = read(write(tmp_path, "tb.csv", tall))
    assert [run.config["run_name"] for run in reading.runs] == ["a", "b"]
    assert curve(reading, "eval_loss") == [(2, 4.5)]
    aim = "run.name,metric.name,metric.context.subset,step,value\na,loss,train,1,5.0\na,loss,val,1,5.5\na,loss,train,2,4.0\n"
    reading = read(write(tmp_path, "aim.csv", aim))
    assert (curve(reading), curve(reading, "eval_loss")) == ([(1, 5.0), (2, 4.0)], [(1, 5.5)])


def test_a_download_from_tensorboard(tmp_path: Path) -> None:
    path = write(tmp_path, "run-validation-tag-epoch_loss.csv", "Wall time,Step,Value\n1.7e9,1,5.0\n1.7e9,2,4.0\n")
    assert curve(read(path), "eval_loss") == [(1, 5.0), (2, 4.0)]


@pytest.mark.parametrize(
    "text",
    [
        "step;loss\n1;5,5\n2;4,5\n",
        "# step loss\n1 5.5\n2 4.5\n",
        "step\tloss\n1\t5.5\n2\t4.5\n",
        '"step", "loss", "note"\n1, 5.5, "a, b"\n2, 4.5, c\n',
        "made by hand\n\nstep,loss\n1,5.5\n2,4.5\n",
        "step,loss\n1,5.5\nstep,loss\n2,4.5\n",
        "  step,   train/loss\n     1,          5.5\n     2,          4.5\n",
    ],
)
def test_tables_of_every_kind(tmp_path: Path, text: str) -> None:
    assert curve(read(write(tmp_path, "a.csv", text))) == [(1, 5.5), (2, 4.5)]


def test_rows_of_another_width_are_counted(tmp_path: Path) -> None:
    reading = read(write(tmp_path, "a.csv", "step,loss\n1,5.5\n2,4.5,9\n3,4.0\n"))
    assert curve(reading) == [(1, 5.5), (3, 4.0)]
    assert any("1 rows have another number of cells" in note for note in reading.notes)


def test_clearml_scalars(tmp_path: Path) -> None:
    scalars = {"loss": {"train": {"name": "train", "x": [1, 2], "y": [5.0, 4.0]}, "validation": {"x": [2], "y": [4.5]}}}
    reading = read(write(tmp_path, "scalars.json", json.dumps(scalars)))
    assert (curve(reading), curve(reading, "eval_loss")) == ([(1, 5.0), (2, 4.0)], [(2, 4.5)])


def test_a_shorter_list_is_spread_over_the_longest(tmp_path: Path) -> None:
    reading = read(write(tmp_path, "h.json", json.dumps({"train_loss": [6.0, 5.0, 4.0, 3.0], "val_loss": [5.5, 3.5]})))
    assert curve(reading, "eval_loss") == [(1, 5.5), (3, 3.5)]
    assert any("spread evenly" in note for note in reading.notes)


def test_mmengine_scalars(tmp_path: Path) -> None:
    lines = [
        '{"lr": 0.01, "data_time": 0.1, "loss": 1.5, "time": 0.2, "epoch": 1, "iter": 50, "step": 50}',
        '{"accuracy/top1": 55.5, "step": 1}',
    ]
    lines += ['{"lr": 0.01, "data_time": 0.1, "loss": 1.25, "time": 0.2, "epoch": 2, "iter": 100, "step": 100}']
    assert curve(read(write(tmp_path, "vis_data/scalars.json", "\n".join(lines)))) == [(50, 1.5), (100, 1.25)]


def test_boosting_results(tmp_path: Path) -> None:
    data = {"validation_0": {"logloss": [0.6, 0.5]}, "validation_1": {"logloss": [0.65, 0.6]}}
    reading = read(write(tmp_path, "evals.json", json.dumps(data)))
    assert (curve(reading), curve(reading, "eval_loss")) == ([(0, 0.6), (1, 0.5)], [(0, 0.65), (1, 0.6)])


@pytest.mark.parametrize(
    ("data", "want"),
    [
        ({"epochs": [1, 2], "train_losses": [3.0, 2.0], "val_losses": [3.5, 2.5]}, [[(1, 3.0), (2, 2.0)]]),
        ({"history": {"loss": [3.0, 2.0]}, "params": {"lr": 0.1}}, [[(0, 3.0), (1, 2.0)]]),
        ({"a": {"loss": [3.0, 2.0]}, "b": {"loss": [4.0, 3.0]}}, [[(0, 3.0), (1, 2.0)], [(0, 4.0), (1, 3.0)]]),
        ({"train_loss": [[0, 3.0], [10, 2.0]], "val_loss": [[10, 2.5]]}, [[(0, 3.0), (10, 2.0)]]),
        ({"train": {"cross_entropy": [3.0, 2.0]}, "val": {"cross_entropy": [3.5, 3.0]}}, [[(0, 3.0), (1, 2.0)]]),
    ],
)
def test_histories_in_json(tmp_path: Path, data: object, want: list[list[tuple[int, float]]]) -> None:
    reading = read(write(tmp_path, "h.json", json.dumps(data)))
    assert [curve(reading, run=i) for i in range(len(reading.runs))] == want


def test_the_first_of_several_evaluation_sets_stands_for_all(tmp_path: Path) -> None:
    state = {
        "log_history": [{"step": 1, "loss": 5.0}, {"step": 1, "eval_a_loss": 4.0}, {"step": 1, "eval_b_loss": 3.0}]
    }
    reading = read(write(tmp_path, "trainer_state.json", json.dumps(state)))
    assert (curve(reading, "eval_loss"), curve(reading, "eval_b_loss")) == ([(1, 4.0)], [(1, 3.0)])
    assert any("the eval loss is 'eval_a_loss'" in note for note in reading.notes)
