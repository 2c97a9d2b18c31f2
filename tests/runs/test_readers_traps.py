"""What real files do: several runs in one, ranks, resumes, NaN in disguise, odd encodings, cut-off ends."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from reader_files import CSV, csv_of, curve, write

from lossmith.errors import DataError, InputError
from lossmith.runs import read

# Several runs in one file, and resumes


def test_a_step_that_goes_back_to_the_beginning_is_another_run(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", csv_of([(1, 5.0), (10, 4.0), (20, 3.0), (10, 4.1), (20, 3.1), (10, 4.2)]))
    reading = read(path)
    assert [run.source for run in reading.runs] == [str(path), f"{path}#2", f"{path}#3"]
    assert curve(reading, run=1) == [(10, 4.1), (20, 3.1)]
    assert any("3 runs in one file" in note for note in reading.notes)


def test_a_step_that_goes_back_a_little_is_a_resume_and_keeps_its_points(tmp_path: Path) -> None:
    points = [(10 * i, 5.0 - i / 10) for i in range(1, 20)] + [(10 * i, 4.9 - i / 10) for i in range(15, 25)]
    reading = read(write(tmp_path, "a.csv", csv_of(points)))
    assert curve(reading) == points
    assert any("the step goes back from 190 to 150: a resume" in note for note in reading.notes)


def test_evaluations_between_two_runs_stay_with_their_own(tmp_path: Path) -> None:
    lines = ["step:1/2 train_loss:5.0", "step:2/2 train_loss:4.0", "step:2/2 val_loss:4.1"]
    lines += ["step:0/2 val_loss:9.0", "step:1/2 train_loss:5.5", "step:2/2 train_loss:4.5", "step:2/2 val_loss:4.6"]
    reading = read(write(tmp_path, "log.txt", "\n".join(lines)))
    assert curve(reading, "eval_loss", 0) == [(2, 4.1)]
    assert curve(reading, "eval_loss", 1) == [(0, 9.0), (2, 4.6)]


def test_rows_out_of_order_are_sorted_and_said_so(tmp_path: Path) -> None:
    order = [(i * 37) % 100 for i in range(100)]
    reading = read(write(tmp_path, "a.csv", csv_of([(i, i / 8) for i in order])))
    assert curve(reading) == [(i, i / 8) for i in range(100)]
    assert any("sorted by step" in note for note in reading.notes)


def test_steps_that_begin_anew_every_epoch_are_counted_on(tmp_path: Path) -> None:
    rows = "".join(
        f"{epoch},{step},{loss}\n" for epoch, step, loss in [(0, 50, 5), (0, 100, 4), (1, 50, 3), (1, 100, 2)]
    )
    reading = read(write(tmp_path, "a.csv", "epoch,batch,loss\n" + rows))
    assert curve(reading) == [(50, 5.0), (100, 4.0), (150, 3.0), (200, 2.0)]
    assert any("begins anew with every epoch: counted on by 100 an epoch" in note for note in reading.notes)


# Ranks


def test_rows_of_each_rank_count_once(tmp_path: Path) -> None:
    lines = [f"rank{rank}: step: {step} loss: {9 - step}.5 tps: {rank}00" for step in (1, 2, 3) for rank in range(4)]
    reading = read(write(tmp_path, "log.txt", "\n".join(lines)))
    assert curve(reading) == [(1, 8.5), (2, 7.5), (3, 6.5)]
    assert any("9 duplicates removed" in note for note in reading.notes)


def test_rows_of_each_rank_count_once_without_steps(tmp_path: Path) -> None:
    lines = [f"10.0.0.{host}: {{'loss': {9 - i}.5, 'epoch': 0.0{i}}}" for i in (1, 2, 3, 4, 5) for host in (1, 2)]
    assert [value for _, value in curve(read(write(tmp_path, "log.txt", "\n".join(lines))))] == [
        8.5,
        7.5,
        6.5,
        5.5,
        4.5,
    ]


def test_a_run_that_stands_still_is_no_duplicate(tmp_path: Path) -> None:
    lines = ["{'loss': 1.5, 'epoch': 0.53}"] + ["{'loss': 0.0, 'epoch': 0.53}"] * 3 + ["{'loss': 0.5, 'epoch': 0.54}"]
    assert len(curve(read(write(tmp_path, "log.txt", "\n".join(lines))))) == 5


# NaN


def test_zero_loss_with_nan_gradients_is_nan(tmp_path: Path) -> None:
    state = {
        "log_history": [{"step": 1, "loss": 1.5, "grad_norm": 2.0}, {"step": 2, "loss": 0.0, "grad_norm": math.nan}]
    }
    reading = read(write(tmp_path, "trainer_state.json", json.dumps(state)))
    assert curve(reading)[0] == (1, 1.5)
    assert math.isnan(curve(reading)[1][1])
    assert any("1 points made NaN" in note for note in reading.notes)


def test_a_loss_that_is_truly_zero_stays(tmp_path: Path) -> None:
    reading = read(
        write(
            tmp_path,
            "a.jsonl",
            '{"step": 1, "loss": 1.0, "grad_norm": 1.0}\n{"step": 2, "loss": 0.0, "grad_norm": 0.0}\n',
        )
    )
    assert curve(reading) == [(1, 1.0), (2, 0.0)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "step,loss\n1,nan\n2,inf\n3,-inf\n4,1.5\n"),
        (
            "a.jsonl",
            '{"step":1,"loss":NaN}\n{"step":2,"loss":Infinity}\n{"step":3,"loss":-Infinity}\n{"step":4,"loss":1.5}\n',
        ),
        (
            "b.jsonl",
            '{"step":1,"loss":"nan"}\n{"step":2,"loss":"inf"}\n{"step":3,"loss":"-inf"}\n{"step":4,"loss":1.5}\n',
        ),
        ("a.txt", "step 1 loss nan\nstep 2 loss inf\nstep 3 loss -inf\nstep 4 loss 1.5\n"),
        ("a.json", '{"loss": [NaN, Infinity, -Infinity, 1.5]}'),
    ],
)
def test_nan_and_inf_are_data(tmp_path: Path, name: str, text: str) -> None:
    values = [value for _, value in curve(read(write(tmp_path, name, text)))]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf, 1.5]


def test_nan_strings_of_megatron_mean_not_run(tmp_path: Path) -> None:
    data = {"lm loss": {"start_step": 1, "end_step": 4, "step_interval": 1, "values": {"1": "nan", "2": 5.5, "3": 5.0}}}
    reading = read(write(tmp_path, "golden.json", json.dumps(data)))
    assert curve(reading) == [(2, 5.5), (3, 5.0)]
    listed = {"lm loss": {"start_step": 0, "end_step": 100, "step_interval": 5, "values": [10.5, 10.25]}}
    assert curve(read(write(tmp_path, "old.json", json.dumps(listed)))) == [(0, 10.5), (5, 10.25)]


# Encodings, packing, ends


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, ends: str) -> None:
    path = write(tmp_path, "a.csv", CSV.replace("\n", ends).encode(encoding))
    assert curve(read(path)) == [(10, 5.0), (20, 4.0), (30, 3.5)]
    assert curve(read(path), "eval_loss") == [(20, 4.5)]


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("gz", gzip.compress), ("xz", lzma.compress), ("bz2", bz2.compress), ("zst", zstandard.compress)],
)
def test_packed_files(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path, f"trainer_state.json.{suffix}", pack(b'{"log_history": [{"step": 1, "loss": 5.0}]}'))
    reading = read(path)
    assert curve(reading) == [(1, 5.0)]
    assert reading.runs[0].source == str(path)
    assert reading.taken[0].reader == "trainer_state"


def test_a_packed_file_that_is_cut_off_gives_what_is_whole(tmp_path: Path) -> None:
    text = csv_of([(i, 5.0 + i % 7 / 16) for i in range(20_000)])
    whole = gzip.compress(text.encode())
    assert 1000 < len(curve(read(write(tmp_path, "a.csv.gz", whole[: len(whole) // 2])))) < 20_000


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_last_line_cut_in_half(tmp_path: Path, cut: int) -> None:
    reading = read(
        write(
            tmp_path,
            "a.jsonl",
            '{"step": 1, "loss": 5.0}\n{"step": 2, "loss": 4.0}\n' + '{"step": 30, "loss": 3.0, "x": 1}'[:cut],
        )
    )
    assert curve(reading)[:2] == [(1, 5.0), (2, 4.0)]


def test_json_cut_in_half(tmp_path: Path) -> None:
    state = json.dumps({"log_history": [{"step": i, "loss": 5.0 - i} for i in range(5)]})
    reading = read(write(tmp_path, "trainer_state.json", state[:-30]))
    assert curve(reading)[:3] == [(0, 5.0), (1, 4.0), (2, 3.0)]


def test_source_code_before_the_log(tmp_path: Path) -> None:
    code = "import torch\nprint('step 1: loss', loss)\n{'loss': loss, 'lr': lr}\n" * 20_000
    reading = read(write(tmp_path, "log.txt", code + "step:1/10 train_loss:9.5\nstep:2/10 train_loss:9.0\n"))
    assert curve(reading) == [(1, 9.5), (2, 9.0)]


# Where things are


def test_standard_input() -> None:
    reading = read("-", stdin=io.BytesIO(gzip.compress(CSV.encode())))
    assert curve(reading) == [(10, 5.0), (20, 4.0), (30, 3.5)]
    assert reading.taken[0].path == "-"


def test_folders_patterns_and_files_each_once(tmp_path: Path) -> None:
    for name in ("a/x.csv", "a/b/y.csv", "a/b/model.safetensors", "a/.git/z.csv", "a/empty.log", "a/notes.md"):
        write(tmp_path, name, "" if "empty" in name else "nothing here" if name.endswith("md") else CSV)
    reading = read(tmp_path / "a", tmp_path / "a" / "**" / "*.csv", str(tmp_path / "a" / "x.csv"))
    assert sorted(Path(run.source).name for run in reading.runs) == ["x.csv", "y.csv"]
    why = {Path(skipped.path).name: skipped.why for skipped in reading.skipped}
    assert sorted(why) == [".git", "empty.log", "model.safetensors", "notes.md"]
    assert why["empty.log"] == "empty file"


def test_a_folder_of_thousands_of_files(tmp_path: Path) -> None:
    for i in range(2000):
        write(tmp_path, f"{i % 20}/run-{i}.csv", CSV)
    assert len(read(tmp_path).runs) == 2000


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    write(tmp_path, "metrics.csv", CSV)
    with pytest.raises(DataError, match=r"there is nothing of this name. Did you mean 'metrics.csv'\?"):
        read(tmp_path / "metrics.cvs")
    with pytest.raises(DataError, match="no file matches"):
        read(tmp_path / "*.log")
    with pytest.raises(InputError, match="name a file"):
        read()


def test_a_file_without_a_run_says_why(tmp_path: Path) -> None:
    reading = read(write(tmp_path, "a.jsonl", '{"name": "x", "age": 3}\n{"name": "y", "age": 4}\n'))
    assert reading.runs == []
    assert reading.skipped[0].why == "jsonl: no loss in it"


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    import os
    import threading

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(CSV))
    writer.start()
    assert curve(read(pipe)) == [(10, 5.0), (20, 4.0), (30, 3.5)]
    writer.join()


def test_a_hole_of_zeros_before_a_log_that_was_truncated(tmp_path: Path) -> None:
    reading = read(write(tmp_path, "log.txt", bytes(100_000) + b"\nstep:1/9 train_loss:5.5\nstep:2/9 train_loss:5.0\n"))
    assert curve(reading) == [(1, 5.5), (2, 5.0)]


def test_binary_files_are_not_searched(tmp_path: Path) -> None:
    reading = read(
        write(tmp_path, "weights", bytes(range(256)) * 300 + b"\nstep:1/9 train_loss:5.5\nstep:2/9 train_loss:5.0\n")
    )
    assert [skipped.why for skipped in reading.skipped] == ["a binary file of no known format"]


def test_chinese_names(tmp_path: Path) -> None:
    log = "轮次 1 训练损失：5.1 验证损失：5.0\n轮次 2 训练损失：4.1 验证损失：4.0\n轮次 3 训练损失：3.1 验证损失：3.0\n"
    (tmp_path / "日志.log").write_text(log, encoding="utf-8")
    (tmp_path / "表.csv").write_text(
        "步数,损失,验证损失,学习率\n1,5.1,5.0,0.1\n2,4.1,4.0,0.1\n3,3.1,3.0,0.1\n", encoding="utf-8"
    )
    for run in read(tmp_path):
        assert run.curves["loss"].value.tolist() == [5.1, 4.1, 3.1]
        assert run.curves["eval_loss"].value.tolist() == [5.0, 4.0, 3.0]
        assert run.curves["loss"].step.tolist() == [1, 2, 3]
