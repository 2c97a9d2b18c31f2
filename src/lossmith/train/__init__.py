"""Training: `lossmith.train("my.txt", max_steps=500)` runs the loop in this room and returns the run.

The room is named like its function, so the module itself can be called.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossmith.train.handle import TrainedRun

__all__ = ["train"]


def train(*inputs: str | Path, json_lines: bool = False, **options: Any) -> TrainedRun:
    """Train a causal language model on text and return the run (`.result`, `.sample()`, `.next()`, `.report`).

    Minimises ``Σ −ln p(token | tokens before it)`` in nats per token. `inputs`: files, folders, globs or names of
    built-in corpora; `options`: the fields of lossmith.train.config.TrainConfig, named as in Hugging Face's
    TrainingArguments.
    Errors: InputError and DataError for what was asked, RunError (NonFiniteError) when the run fails.

    >>> import lossmith
    >>> run = lossmith.train("my.txt", max_steps=500)  # doctest: +SKIP
    >>> run.sample("ROMEO:")  # doctest: +SKIP
    """
    from dataclasses import fields

    from lossmith.errors import InputError, did_you_mean
    from lossmith.train.config import TrainConfig

    known = [field.name for field in fields(TrainConfig)]
    for name in options:
        if name not in known:
            raise InputError(f"train() has no option {name!r}.{did_you_mean(name, known)} All: {', '.join(known)}")
    options = {name: os.fspath(given) if isinstance(given, os.PathLike) else given for name, given in options.items()}
    for name, given in (("inputs", inputs or options.get("inputs", ())), ("eval_file", options.get("eval_file", ()))):
        options[name] = tuple(map(str, (given,) if isinstance(given, str) else given))
    return _run(TrainConfig(**options), json_lines)


def _run(config: Any, json_lines: bool) -> TrainedRun:
    from lossmith.train.handle import load_run
    from lossmith.train.pretraining import run_training
    from lossmith.train.reporter import make_reporter

    return load_run(run_training(config, [make_reporter(json_lines=json_lines)]))


class _Room(ModuleType):
    __call__ = staticmethod(train)


sys.modules[__name__].__class__ = _Room
