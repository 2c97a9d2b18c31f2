"""XGBoost, LightGBM and CatBoost: `[10]\ttrain-logloss:0.31\tvalid-logloss:0.42` and the like."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from lossmith.runs._assemble import Form, runs_of
from lossmith.runs._curve import Run
from lossmith.runs._lines import Line, hinted
from lossmith.runs._names import EVAL, TRAIN, words
from lossmith.runs._table import Builder
from lossmith.runs._text import blocks

# Metrics that fall while a model learns, the ones that are training objectives first.
LOSSES = (
    "logloss", "mlogloss", "binary_logloss", "multi_logloss", "cross_entropy", "xentropy", "nloglik", "poisson-nloglik",
    "gamma-nloglik", "tweedie", "poisson", "gamma", "logcosh", "l2", "mse", "rmse", "rmsle", "l1", "mae", "mphe",
    "quantile", "huber", "fair", "mape", "rank_xendcg", "error", "merror", "binary_error", "multi_error",
)  # fmt: skip

_XGBOOST = Line(
    rb"^[^\n\[]{0,60}(?:\[[\d: -]{5,20}\] ?)?\[<round>\](?P<body>[ \t]+[^\n]{0,1000})",
    b"]",
    rb"([\w@-]+-[\w@.-]+):(<>)",
)
_LIGHTGBM = Line(
    rb"^[^\n]{0,40}?\[<round>\](?P<body>[ \t]+[^\n]{0,1000}'s [^\n]{0,1000})", b"'s ", rb"([\w ]+'s [\w@ -]+): (<>)"
)
_CATBOOST = Line(rb"^<round>:(?P<body>\tlearn: <>[^\n]{0,300})", b"\tlearn: ", rb"\t(learn|test|bestTest): (<>)")


class Boosting:
    """Read the evaluation lines of gradient boosting; a round is a step, the first loss-like metric the loss."""

    name = "boosting"
    rank = 10

    def sniff(self, path: Path) -> bool:
        """Return whether a line of rounds holds a metric."""
        lines = hinted(path, _lines())
        return bool(lines) and any(
            len(row) > 1 for block in blocks(path) for line in lines for _, row in line.rows(block)
        )

    def read(self, path: Path) -> list[Run]:
        """Return the runs of the file."""
        for tool, line in zip(("XGBoost", "LightGBM", "CatBoost"), _lines(), strict=True):
            build = Builder()
            for block in blocks(path):
                build.add_rows([row for _, row in line.rows(block) if len(row) > 1])
            if build.count:
                return boosting_runs(build, str(path), tool)
        return []


def boosting_runs(build: Builder, source: str, tool: str) -> list[Run]:
    """Return the runs of rounds with columns named SET-METRIC, SET's METRIC or, for CatBoost, SET."""
    table = build.table()
    names, notes = loss_names(name for name in table.columns if name != "round")
    return runs_of(table, source, Form(tool, names={**names, "round": "step"}, unit="iteration", notes=notes))


def loss_names(columns: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return which columns are train and eval loss, and a note that names the metric.

    >>> loss_names(["train-auc", "train-logloss", "valid-auc", "valid-logloss"])[0]
    {'train-logloss': 'loss', 'valid-logloss': 'eval_loss'}
    """
    parts = [(name, *_split(name)) for name in columns]
    metrics = [metric for metric in LOSSES if any(metric == found for _, _, found in parts)]
    metric = metrics[0] if metrics else ""
    chosen = [(name, data) for name, data, found in parts if found == metric]
    if not chosen:
        return {}, ()
    train = next((name for name, data in chosen if set(words(data)) & (TRAIN | {"learn"})), None)
    if train is None and len(chosen) > 1:
        train = chosen[0][0]  # scikit-learn's validation_0: by custom the training data come first
    rest = [(name, data) for name, data in chosen if name != train]
    held = next((name for name, data in rest if set(words(data)) & EVAL), rest[0][0] if rest else None)
    names = {name: role for name, role in ((train, "loss"), (held, "eval_loss")) if name}
    return names, (f"the loss is the metric {metric or 'of the objective'!r}",)


def _split(name: str) -> tuple[str, str]:
    """The data set and the metric of a column."""
    if "'s " in name:
        data, _, metric = name.partition("'s ")
        return data.strip(), metric.strip()
    match = re.fullmatch(r"(.*?)-(.*)", name)
    return (match[1], match[2]) if match else (name, "")


def _lines() -> tuple[Line, Line, Line]:
    return _XGBOOST, _LIGHTGBM, _CATBOOST


READER = Boosting()
