"""A `python` that starts with torch and transformers already imported, for tests that start many processes.

A cold `python -m lossmith train` of two steps takes six seconds of CPU time on two cores, and five of them are imports
of other people's packages. Here one process per test worker imports those once, and forks a child for each command. The
child is a process like any other: its own folder, environment, arguments, standard streams, signals and exit code.
lossmith itself is never imported before the fork, so that what a command forgets to import is still found.

What starts a command is a small client, which passes on its standard streams, then SIGINT and SIGTERM, and ends as the
child ends, by exit code or by signal; to kill the child itself, ask `pid_of`. Limits of resources, and what Python and
libraries read from the environment as they start (PYTHONIOENCODING, PYTHONHASHSEED, OMP_NUM_THREADS), are those of the
first process: a test of these, or of imports, needs `sys.executable`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess

PRELOADED = (
    "accelerate",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "orjson",
    "rich.live",
    "rich.table",
    "safetensors.torch",
    "scipy.optimize",
    "scipy.stats",
    "tokenizers",
    "torch._dynamo",
    "torch.distributed.run",
    "torch.distributed.tensor",
    "transformers.models.apertus.modeling_apertus",
    "transformers.models.auto.modeling_auto",
    "tyro",
)


def ask(address: str, arguments: list[str]) -> None:
    """The client: have the arguments run as `python` would run them, and end in the same way."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.connect(address)
    request = {"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    socket.send_fds(line, [json.dumps(request).encode()], [0, 1, 2])
    child = int(line.recv(64))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda told, _: os.kill(child, told))
    Path(f"{address}.{os.getpid()}").write_text(str(child))
    code = os.waitstatus_to_exitcode(int(line.recv(64)))
    if code < 0:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def serve(listener: socket.socket) -> list[str]:
    """Fork a child for each client until the tests are gone; return, in the child alone, what it has to run."""
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # keepers that are done, and the time that their children took
                pass
        if sys.stdin in ready:  # its other end is closed: the tests have gone
            sys.exit()
        line, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return keep(line)
        line.close()


def keep(line: socket.socket) -> list[str]:
    """Between client and child: say the child's number, and how it ended; a client that dies takes it along."""
    message, streams, _, _ = socket.recv_fds(line, 2**20, 3)
    child = os.fork()
    if child == 0:
        line.close()
        return settle(streams, **json.loads(message))
    for stream in streams:
        os.close(stream)
    line.send(str(child).encode())
    orphaned = line in select.select([line, os.pidfd_open(child)], [], [])[0]
    if orphaned:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not orphaned:
        line.send(str(status).encode())
    os._exit(0)


def settle(streams: list[int], arguments: list[str], folder: str, environment: dict[str, str]) -> list[str]:
    """Take the streams, the folder and the environment of the client."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return arguments


def run(arguments: list[str]) -> None:
    """Do what `python ARGUMENTS` does: -u (which changes nothing here), then -m MODULE or a file."""
    import runpy

    first, *rest = arguments[1:] if arguments[0] == "-u" else arguments
    if first == "-m":
        sys.argv, sys.path[0] = rest, str(Path.cwd())
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = [first, *rest], str(Path(first).parent)
        runpy.run_path(first, run_name="__main__")


def preload() -> None:
    """Import what commands import; a thread would not survive the fork, and its locks would."""
    import gc
    from importlib import import_module

    for name in PRELOADED:
        import_module(name)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "threads before the fork"
    assert not any(name.startswith("lossmith") for name in sys.modules), "lossmith before the fork"
    gc.freeze()  # a collection in a child would copy every page of what it shares


@contextlib.contextmanager
def standing_by(environment: dict[str, str]) -> Iterator[str]:
    """The path of the stand-in for `python`; on a system without pidfd_open it is python itself."""
    if not hasattr(os, "pidfd_open"):
        yield sys.executable
        return
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory(prefix="warm-") as folder:  # not pytest's: an address has 107 bytes at most
        address, stand_in = f"{folder}/python.socket", Path(folder, "python")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(address)
        listener.listen(64)
        stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{__file__}" ask "{address}" "$@"\n')
        stand_in.chmod(0o755)
        call = [sys.executable, __file__, "serve", str(listener.fileno())]
        with subprocess.Popen(
            call, env=environment, stdin=subprocess.PIPE, pass_fds=[listener.fileno()], start_new_session=True
        ) as server:
            listener.close()
            yield str(stand_in)
            assert server.stdin is not None
            server.stdin.close()


def pid_of(client: subprocess.Popen[Any]) -> int:
    """The process that does what a client was started for; where there is no stand-in, the client itself."""
    note = Path(f"{client.args[0]}.socket.{client.pid}")
    return int(note.read_text()) if note.exists() else client.pid


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        ask(sys.argv[2], sys.argv[3:])
    preload()
    run(serve(socket.socket(fileno=int(sys.argv[2]))))
