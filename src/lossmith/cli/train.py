"""lossmith train: text in, model out."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import tyro

from lossmith.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Args(TrainConfig):
    """Options of a run, and the lists that can be asked for instead."""

    inputs: tyro.conf.Positional[tuple[str, ...]] = ("shakespeare",)
    """Files, folders, globs, "-" for stdin, or the name of a built-in corpus (--list-corpora)."""
    json_lines: Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(name="json")] = False
    """One JSON object a line instead of text for people."""
    list_corpora: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show the built-in corpora and leave."""
    list_models: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show the model presets, with memory and time on this machine, and leave."""

    def config(self) -> TrainConfig:
        """Return the options of the run alone."""
        return TrainConfig(**{field.name: getattr(self, field.name) for field in fields(TrainConfig)})


def prepare(arguments: list[str]) -> list[str]:
    """Let --resume-from-checkpoint stand without a value: the newest complete checkpoint.

    >>> prepare(["--resume-from-checkpoint", "--json"])
    ['--resume-from-checkpoint', 'latest', '--json']
    """
    out: list[str] = []
    for here, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        out.append(here)
        if here.replace("_", "-") == "--resume-from-checkpoint" and following.startswith("--"):
            out.append("latest")
    return out


def run(args: Args) -> None:
    """Train, or show what --list-corpora and --list-models ask for."""
    if args.list_corpora or args.list_models:
        from lossmith.cli.listings import show_corpora, show_models

        show = show_corpora if args.list_corpora else show_models
        return show(args)
    from lossmith.train.reporter import make_reporter
    from lossmith.train.session import run_training

    run_training(args.config(), [make_reporter(json_lines=args.json_lines)])
    return None
