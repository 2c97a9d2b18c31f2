"""The command line: parse, call, print. A file per command, imported when it is called."""

from __future__ import annotations

import io
import json
import os
import sys
from importlib import import_module

from lossmith.errors import LossmithError, did_you_mean

COMMANDS = {
    "train": "train a language model on text, and report what its loss means",
    "finetune": "fine-tune a model on labelled rows, and report what its figures mean",
    "preview": "show what a model would see and must guess, before training",
    "sample": "let a trained model write",
    "read": "read any training log: what it says, what is wrong, what to change",
    "next": "show the most likely next tokens, with probability and surprisal",
    "eval": "measure a model or a file of predictions: figures, intervals, baselines, paired tests",
    "losses": "list the losses, or show one in full, with a picture",
    "surprise": "show what each token of a text costs a model",
    "compress": "compress a file to the size of a model's loss on it",
    "decompress": "bring back a compressed file, with the same model",
}


def main() -> None:
    """Run the command line; exit code 0: done, 1: the run failed, 2: the call was wrong."""
    # How long a thread of OpenMP waits by spinning; by libgomp's default threads take the cores from each other as soon
    # as anything else runs. Measured on two cores: no change while they are free, 1.3–1.8 × the speed beside two other
    # busy processes.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a character shows a question mark
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return the exit code; a user's mistake is a message on stderr, never a traceback."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from lossmith import __version__

        print(f"lossmith {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        hint = " Options belong to a command." if name.startswith("-") else did_you_mean(name, COMMANDS)
        return _complain(f"lossmith has no command {name!r}.{hint}\n\n{usage()}", 2)
    try:
        return _call(name, rest)
    except LossmithError as error:
        if "--json" in rest:
            print(json.dumps({"event": "error", "message": str(error), "exit_code": error.exit_code}))
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted", 1)
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def usage() -> str:
    """Return the list of commands."""
    lines = "\n".join(f"  {name:<10} {what}" for name, what in COMMANDS.items())
    return f"usage: lossmith COMMAND [options]\n\n{lines}\n\nlossmith COMMAND --help shows the options of a command."


def _call(name: str, arguments: list[str]) -> int:
    import tyro

    command = import_module(f"lossmith.cli.{name}")
    prepared = getattr(command, "prepare", lambda given: given)(arguments)
    args = tyro.cli(command.Args, args=prepared, prog=f"lossmith {name}", description=COMMANDS[name].capitalize() + ".")
    return command.run(args) or 0


def _complain(message: str, code: int) -> int:
    """Say what went wrong; under torchrun a wrong call is the same on every rank, and said once."""
    sys.stdout.flush()
    if code == 1 or os.environ.get("RANK", "0") == "0":
        print(f"lossmith: {message}", file=sys.stderr)
    return code
