"""lossmith finetune: a model and labelled rows in, a model for the task out."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

from lossmith.cli.train import prepare as prepare
from lossmith.cli.train import shown
from lossmith.train.finetune_config import FinetuneConfig

_HINTS = get_type_hints(FinetuneConfig)
METAVARS = {"text_column": "COLUMN [COLUMN …]", "loss_options": "KEY=VALUE [KEY=VALUE …]"}


def _shown(name: str, hint: Any) -> Any:
    if get_origin(hint) is tuple and get_args(hint)[-1] is Ellipsis:
        return Annotated[hint, tyro.conf.arg(metavar=METAVARS[name], help_behavior_hint="")]
    return shown(hint)


_Options: Any = make_dataclass(
    "_Options",
    [(f.name, _shown(f.name, _HINTS[f.name]), field(default=f.default)) for f in fields(FinetuneConfig)],
    bases=(FinetuneConfig,),
    frozen=True,
    kw_only=True,
)


@dataclass(frozen=True, kw_only=True)
class Args(_Options):  # type: ignore[misc]
    """Fine-tune a model on labelled rows (docs/finetuning.md)."""

    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL", help_behavior_hint=""), tyro.conf.Positional] = None
    """A run folder, a checkpoint, a Hugging Face folder, or a preset (nano, …: from scratch)."""
    train_data: Annotated[str | None, tyro.conf.arg(metavar="DATA", help_behavior_hint=""), tyro.conf.Positional] = None
    """Training rows: .jsonl, .csv, .tsv or .parquet."""
    json_lines: Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(name="json")] = False
    """One JSON object a line instead of text for people."""

    def config(self) -> FinetuneConfig:
        """Return the options of the run alone."""
        return FinetuneConfig(**{field.name: getattr(self, field.name) for field in fields(FinetuneConfig)})


def run(args: Args) -> None:
    """Fine-tune."""
    from lossmith.train.finetune import run_finetuning
    from lossmith.train.reporter import make_reporter

    run_finetuning(args.config(), [make_reporter(json_lines=args.json_lines)])
