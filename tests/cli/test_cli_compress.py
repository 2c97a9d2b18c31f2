from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from warm_python import pid_of

from lossmith import cli
from lossmith.cli._write import write_whole
from lossmith.data import Tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    path = tmp_path_factory.mktemp("models") / "tiny model"
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=257, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, bos_token_id=256, eos_token_id=256,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(path / "model")
    Tokenizer.byte().save(path / "model")
    return path


def test_another_process_with_other_threads_brings_it_back(folder: Path, python: str, tmp_path: Path) -> None:
    def lossmith(*arguments: object, threads: int) -> subprocess.CompletedProcess[str]:
        start = python if threads == 1 else sys.executable  # the stand-in has one
        command = [start, "-m", "lossmith", *map(str, arguments)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)

    data = "床前明月光\r\nplain text\n".encode() * 5 + b"\xff\0\xfe" * 9
    (tmp_path / "in").write_bytes(data)
    for there, back in ((1, 2), (2, 1)):
        done = lossmith("compress", tmp_path / "in", "--model", folder, "-o", tmp_path / "c", "--json", threads=there)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["bytes"] == (tmp_path / "c").stat().st_size
        assert told["original_bytes"] == len(data)
        assert set(told["others"]) >= {"gzip -9", "xz -9e", "zstd -19"}
        done = lossmith("decompress", tmp_path / "c", "--model", folder, "-o", tmp_path / "out", threads=back)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out").read_bytes() == data
        (tmp_path / "out").unlink()


def test_the_table_and_the_default_names(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be", encoding="utf-8")
    assert (
        cli.run(
            [
                "compress",
                str(tmp_path / "a.txt"),
                "--model",
                str(folder),
                "--jobs",
                "2",
                "--given",
                str(tmp_path / "a.txt"),
            ]
        )
        == 0
    )
    out = " ".join(capsys.readouterr().out.split())
    assert "decoded and compared" in out
    for said in (
        "gzip -9",
        "xz -9e, given",
        "the model's loss",
        "with the model",
        "2 jobs cost",
        "bytes above the loss",
    ):
        assert said in out
    (tmp_path / "a.txt").unlink()
    assert cli.run(["decompress", str(tmp_path / "a.txt.lsz"), "--model", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == 18
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "to be or not to be"


def test_a_kill_leaves_nothing_that_looks_finished(folder: Path, python: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"a long text, for which there will be no time. " * 3000)
    command = [python, "-m", "lossmith", "compress", str(tmp_path / "in"), "--model", str(folder)]
    (tmp_path / "in.lsz").write_bytes(b"the file of yesterday")
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(4)  # into the coding: there is work for minutes
    assert child.poll() is None
    os.kill(pid_of(child), signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert (tmp_path / "in.lsz").read_bytes() == b"the file of yesterday"
    # and where the kill falls into the writing, only the name of a temporary file is left
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".lsz"] == ["in.lsz"]


KILLED_IN_THE_WRITING = """
import os, sys
from lossmith import cli
from lossmith.cli._write import write_whole
os.fsync = lambda descriptor: os.kill(os.getpid(), 9)  # the temporary file is there, and has no name yet
cli.run(sys.argv[1:])
"""


def test_after_a_kill_in_the_writing_a_later_run_clears_up_and_works(folder: Path, python: str, tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(KILLED_IN_THE_WRITING, encoding="utf-8")
    (tmp_path / "a [1].txt").write_bytes("何も 中 plain\r\n".encode() * 9)
    packed, restored, model = tmp_path / "a.lsz", tmp_path / "out", ["--model", str(folder)]
    compress = ["compress", str(tmp_path / "a [1].txt"), *model, "-o", str(packed)]
    decompress = ["decompress", str(packed), *model, "-o", str(restored)]
    for command, output in ((compress, packed), (decompress, restored)):
        killed = subprocess.run([python, str(tmp_path / "killed.py"), *command], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert not output.exists()
        assert len(list(tmp_path.glob(".*.tmp"))) == 1
        assert cli.run(command) == 0
        assert not list(tmp_path.glob(".*.tmp"))
    assert restored.read_bytes() == (tmp_path / "a [1].txt").read_bytes()


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        theirs = tmp_path / f".out.{sleeper.pid}.tmp"
        others = [theirs, tmp_path / ".out.more.tmp", tmp_path / ".outer.999999999.tmp", tmp_path / ".out.1.tmp"]
        for path in others:
            path.write_bytes(b"x")
        write_whole(tmp_path / "out", b"data")
        assert all(path.exists() for path in others)
    finally:
        sleeper.kill()
        sleeper.wait()
    write_whole(tmp_path / "out", b"data")
    assert not theirs.exists()
    assert (tmp_path / "out").read_bytes() == b"data"


def test_nothing_is_written_where_anything_is_wrong(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").write_text("text")
    model = ["--model", str(folder)]
    assert cli.run(["compress", str(tmp_path / "in"), *model]) == 0
    packed = tmp_path / "in.lsz"
    broken = bytearray(packed.read_bytes())
    broken[-7] ^= 4
    (tmp_path / "broken").write_bytes(broken)
    capsys.readouterr()
    calls = {
        "is damaged or cut off": ["decompress", str(tmp_path / "broken"), *model, "-o", str(tmp_path / "out")],
        "-o is needed": ["decompress", str(tmp_path / "broken"), *model],
        "cannot be read": ["compress", str(tmp_path / "no"), *model],
        "-o must be a file in a folder that exists": [
            "compress", str(tmp_path / "in"), *model, "-o", str(tmp_path / "no" / "out"),
        ],
        "does not exist": ["compress", str(tmp_path / "in"), "--model", str(tmp_path / "nowhere")],
    }  # fmt: skip
    for message, call in calls.items():
        assert cli.run(call) == 2, call
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
