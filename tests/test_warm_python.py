"""The stand-in for `python`: what starts through it is a process like any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from warm_python import pid_of

TELLS = """
import json, os, sys
print(json.dumps([sys.argv, os.getcwd(), os.environ["SAID"], sys.stdin.read(), "torch" in sys.modules, __name__]))
print([name for name in sys.modules if name.startswith("lossmith")], file=sys.stderr)
sys.exit(7)
"""
WAITS = """
import sys, time
try:
    print("waiting", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(5)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "脚 本.py"


def test_all_that_python_would_pass_on_is_passed_on(python: str, script: Path, tmp_path: Path) -> None:
    script.write_text(TELLS, encoding="utf-8")
    told = [
        subprocess.run(
            [start, str(script), "a b", "-m", "光"], input="in\n", cwd=tmp_path, env=os.environ | {"SAID": "'x'\n"},
            capture_output=True, text=True, check=False,
        )
        for start in (python, sys.executable)
    ]  # fmt: skip
    warm, cold = told
    assert warm.returncode == cold.returncode == 7
    assert warm.stdout == cold.stdout.replace("false", "true")  # torch is there before the script asks for it
    assert warm.stderr == cold.stderr == "[]\n"  # and lossmith is not


def test_what_one_child_does_no_other_sees(python: str, script: Path) -> None:
    script.write_text("import os, torch; print(hasattr(torch, 'mark'), os.getpid()); torch.mark = 1", encoding="utf-8")
    told = [subprocess.check_output([python, "-u", str(script)], text=True).split() for _ in range(2)]
    assert [mark for mark, _ in told] == ["False", "False"]
    assert told[0] != told[1]


def test_an_error_is_a_traceback_and_a_failure(python: str, script: Path) -> None:
    script.write_text("1 / 0", encoding="utf-8")
    done = subprocess.run([python, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 5), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_signals_arrive_and_are_seen(python: str, script: Path, number: signal.Signals, code: int) -> None:
    script.write_text(WAITS, encoding="utf-8")
    with subprocess.Popen([python, str(script)], stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "waiting\n"
        child = pid_of(client)
        assert child != client.pid
        os.kill(child if number == signal.SIGKILL else client.pid, number)
        assert client.wait(60) == code
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_a_child_goes_with_its_client(python: str, script: Path) -> None:
    script.write_text(WAITS, encoding="utf-8")
    with subprocess.Popen([python, str(script)], stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        client.stdout.readline()
        client.kill()
        assert client.stdout.read() == ""  # the child had it open too: it is gone
