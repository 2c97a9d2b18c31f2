"""readers: one small file per log format; ours come in by the same door as plugins."""

from __future__ import annotations

from functools import cache

from lossmith import plugins
from lossmith.runs.readers._reader import Reader

__all__ = ["Reader", "readers"]

_BUILTIN = (
    "curve_json", "trainer_state", "hf_dicts", "notebook", "tensorboard", "wandb_file", "trackio",
    "mlflow_sqlite", "mlflow_files", "megatron_golden", "nanogpt", "llmc", "modded_nanogpt", "nanochat",
    "megatron", "torchtitan", "litgpt", "olmo", "nanotron", "fairseq", "caffe", "boosting", "mmengine_text",
    "keras_text", "clearml", "evals_result", "history_json", "rows_json", "wandb_csv", "tidy_csv", "jsonl",
    "ultralytics", "table_csv", "plain_text",
)  # fmt: skip


@cache
def readers() -> tuple[list[Reader], dict[str, str]]:
    """Return all readers, special formats first, and why a plugin could not be loaded, by its name.

    >>> "trainer_state" in [reader.name for reader in readers()[0]]
    True
    """
    loaded, broken = plugins.load("lossmith.readers", [f"lossmith.runs.readers.{name}:READER" for name in _BUILTIN])
    found = []
    for name, reader in loaded.items():
        made = reader() if isinstance(reader, type) else reader
        if isinstance(made, Reader):
            found.append(made)
        else:
            broken[name] = "expected a reader with name, sniff(path) and read(path)"
    return sorted(found, key=lambda reader: getattr(reader, "rank", 0)), broken
