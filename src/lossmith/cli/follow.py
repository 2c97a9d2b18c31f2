"""lossmith read --follow: a log that is being written; new findings as they arise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lossmith.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from lossmith.cli.read import Args
    from lossmith.diagnosis import Finding
    from lossmith.runs import Run


def follow(args: Args) -> int:
    """Look at the logs again and again; say each warning and error once; 1 at an error that no command handles.

    Ends with the standard input that is followed, with Ctrl-C, or at an error. A log need not exist yet.
    """
    if args.interval <= 0:
        raise InputError(f"--interval must be above 0 seconds; got {args.interval:g}")
    if args.compare or args.html or args.png or args.svg or args.steps or args.target:
        raise InputError("--follow goes with --json, --lang, --interval and --on-error only")
    from rich.console import Console

    from lossmith.diagnosis import Watch

    console = Console(highlight=False)
    watch = Watch()
    with tempfile.TemporaryDirectory(prefix="lossmith-follow-") as folder:
        paths, ended = _sources(args.paths, Path(folder))
        for runs in _looks(paths, args.interval, ended):
            for source, finding in [(run, finding) for run in runs for finding in watch.look(run)]:
                _say(source, finding, args, console)
                if finding.severity == "error" and not _handled(finding, source, args):
                    return 1
            if not args.json and console.is_terminal:
                console.print(_state(runs), end="\r", markup=False, soft_wrap=True)
    return 0


def _sources(paths: list[str], folder: Path) -> tuple[list[str], threading.Event | None]:
    """Return the paths to read; standard input becomes a file that grows, and an event that says when it has ended."""
    if "-" not in paths:
        return paths, None
    copy, ended = folder / "stdin", threading.Event()
    copy.touch()

    def pump() -> None:
        with copy.open("ab", buffering=0) as out:
            while chunk := os.read(sys.stdin.fileno(), 1 << 16):
                out.write(chunk)
        ended.set()

    threading.Thread(target=pump, daemon=True).start()
    return [str(copy) if path == "-" else path for path in paths], ended


def _looks(paths: list[str], interval: float, ended: threading.Event | None) -> Iterator[list[Run]]:
    """Yield the runs each time a file has changed; once more at the end of standard input."""
    from lossmith.errors import DataError
    from lossmith.runs import read

    before: object = None
    while True:
        last = ended is not None and ended.is_set()
        state = _state_of(paths)
        if state != before or last:
            before = state
            try:
                yield read(*paths).runs
            except DataError:  # not there yet
                yield []
        if last:
            return
        if ended is not None:
            ended.wait(interval)
        else:
            time.sleep(interval)


def _state_of(paths: list[str]) -> object:
    """Return what changes when a file does: names, sizes and times."""
    found = []
    for path in map(Path, paths):
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            try:
                stat = file.stat()
            except OSError:
                continue
            found.append((str(file), stat.st_size, stat.st_mtime_ns))
    return found


def _say(run: Run, finding: Finding, args: Args, console: Console) -> None:
    if args.json:
        print(json.dumps({"source": run.source, **finding.to_json(args.lang)}, ensure_ascii=False), flush=True)
        return
    from lossmith.cli._findings import show_finding

    console.print(f"{run.source}:", style="dim", markup=False, soft_wrap=True)
    show_finding(finding, console, args.lang)


def _handled(finding: Finding, run: Run, args: Args) -> bool:
    """Run the command for errors, where there is one, with the finding in its environment."""
    if not args.on_error:
        return False
    told = json.dumps({"source": run.source, **finding.to_json(args.lang)}, ensure_ascii=False)
    done = subprocess.run(args.on_error, shell=True, env={**os.environ, "LOSSMITH_FINDING": told}, check=False)
    if done.returncode:
        print(f"lossmith: --on-error {args.on_error!r} ended with exit code {done.returncode}", file=sys.stderr)
    return True


def _state(runs: list[Run]) -> str:
    parts = []
    for run in runs[:3]:
        curve = run.curves.get("loss") or run.curves.get("eval_loss")
        if curve is not None and len(curve):
            parts.append(f"{Path(run.source).name}: step {curve.step[-1]:,}, {curve.name} {curve.value[-1]:.4g}")
    return " · ".join(parts) or "waiting for a log"
