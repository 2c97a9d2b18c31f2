"""lossmith train: text in, model out."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

from lossmith.train.config import TrainConfig


def shown(hint: Any) -> Any:
    """Show `int | None` as INT: None only means "not given", and the help of each option names its default.

    Choices are shown, and any text is taken: of a wrong one our own check says which was meant.
    """
    given = [part for part in get_args(hint) if part is not type(None)]
    if type(None) not in get_args(hint):
        return hint
    name = ",".join(get_args(given[0])) if get_origin(given[0]) is Literal else given[0].__name__.upper()
    name = "COLUMN" if get_origin(given[0]) is tuple else name
    metavar = f"{{{name}}}" if "," in name else name
    if get_origin(given[0]) is Literal:
        hint = str | None
    return Annotated[hint, tyro.conf.arg(metavar=metavar, help_behavior_hint="")]


_HINTS = get_type_hints(TrainConfig)
_Options: Any = make_dataclass(
    "_Options",
    [(f.name, shown(_HINTS[f.name]), field(default=f.default)) for f in fields(TrainConfig)],
    bases=(TrainConfig,),
    frozen=True,
    kw_only=True,
)


@dataclass(frozen=True, kw_only=True)
class Args(_Options):  # type: ignore[misc]
    """Options of a run, and the lists that can be asked for instead."""

    inputs: Annotated[tuple[str, ...], tyro.conf.arg(metavar="INPUT", help_behavior_hint=""), tyro.conf.Positional] = ()
    """Files, folders, globs, "-" for stdin, or built-in corpora (--list-corpora); default: shakespeare."""
    json_lines: Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(name="json")] = False
    """One JSON object a line instead of text for people."""
    list_corpora: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show the built-in corpora and leave."""
    list_models: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show the presets for --objective, with memory and time on this machine, and leave."""

    def config(self) -> TrainConfig:
        """Return the options of the run alone."""
        return TrainConfig(**{field.name: getattr(self, field.name) for field in fields(TrainConfig)})


BARE = {
    "--resume-from-checkpoint": ["latest"],
    "--bf16": ["True"],
    "--learn-temperature": ["True"],
    "--mlp-head": ["True"],
}  # what an option without a value means


def prepare(arguments: list[str]) -> list[str]:
    """Let options of Hugging Face's command line stand without a value, as they may there.

    >>> prepare(["--resume_from_checkpoint", "--no-bf16", "--json"])
    ['--resume_from_checkpoint', 'latest', '--bf16', 'False', '--json']
    """
    out: list[str] = []
    for here, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        name = here.replace("_", "-")
        if name == "--no-bf16":
            out += ["--bf16", "False"]
            continue
        out.append(here)
        if name in BARE and following.startswith("--"):
            out += BARE[name]
    return out


def run(args: Args) -> None:
    """Train, or show what --list-corpora and --list-models ask for."""
    if args.list_corpora or args.list_models:
        from lossmith.cli.listings import show_corpora, show_models

        show = show_corpora if args.list_corpora else show_models
        return show(args)
    from lossmith.train.pretraining import run_training
    from lossmith.train.reporter import make_reporter

    run_training(args.config(), [make_reporter(json_lines=args.json_lines)])
    return None
