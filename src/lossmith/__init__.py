"""lossmith: compute, drive down, read and prove the loss of language-model pre-training.

`import lossmith` imports neither torch nor transformers: every name below is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossmith.diagnosis import compare, diagnose
    from lossmith.diagnosis.forecast import forecast
    from lossmith.evaluate.compress import compress, decompress
    from lossmith.evaluate.surprisal import surprisal
    from lossmith.runs import read
    from lossmith.total import Total
    from lossmith.train import train as train
    from lossmith.train.handle import TrainedRun, load_run

__version__ = "0.1.0"

_HOMES = {
    "Total": "lossmith.total",
    "TrainedRun": "lossmith.train.handle",
    "compare": "lossmith.diagnosis",
    "diagnose": "lossmith.diagnosis",
    "forecast": "lossmith.diagnosis.forecast",
    "load_run": "lossmith.train.handle",
    "compress": "lossmith.evaluate.compress",
    "decompress": "lossmith.evaluate.compress",
    "read": "lossmith.runs",
    "surprisal": "lossmith.evaluate.surprisal",
}

__all__ = [
    "Total",
    "TrainedRun",
    "compare",
    "compress",
    "decompress",
    "diagnose",
    "forecast",
    "load_run",
    "read",
    "surprisal",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "train":  # the room itself, which can be called: importing it would shadow a function of that name
        return import_module("lossmith.train")
    if name not in _HOMES:
        raise AttributeError(f"module 'lossmith' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
