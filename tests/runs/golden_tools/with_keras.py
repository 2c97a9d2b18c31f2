"""Keras 3 on torch: History as JSON, CSVLogger, and the text of both kinds of progress output."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from golden_common import CONTEXT, Seen, captured, text_bytes

ABOUT = {"packages": ("keras", "torch"), "note": "one point an epoch; Keras counts from 0 in the CSV, from 1 in print"}


def fit(folder: Path, callbacks: list[Any], verbose: int) -> Seen:
    """Train five epochs and print, as `verbose` says, into stdout.txt."""
    import keras
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    tokens = np.lib.stride_tricks.sliding_window_view(np.frombuffer(text_bytes(), np.uint8), CONTEXT + 1).astype(
        "int32"
    )
    embedding = keras.layers.Embedding(256, 16)
    model = keras.Sequential([embedding, keras.layers.Flatten(), keras.layers.Dense(256, activation="softmax")])
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"])
    train, held = tokens[:2048], tokens[-1024:]
    rate = keras.callbacks.LearningRateScheduler(lambda epoch, _: 1e-2 * 0.5**epoch)
    with captured(folder / "stdout.txt"):
        history = model.fit(
            train[:, :-1],
            train[:, -1],
            batch_size=64,
            epochs=5,
            verbose=verbose,
            validation_data=(held[:, :-1], held[:, -1]),
            callbacks=[rate, *callbacks],
        )
    seen = Seen()
    for epoch in range(5):
        for name, key in (("loss", "loss"), ("eval_loss", "val_loss"), ("learning_rate", "learning_rate")):
            seen.add(name, epoch, history.history[key][epoch])
    (folder / "history.json").write_text(json.dumps(history.history), encoding="utf-8")
    return seen


def main(root: Path) -> None:
    """Make a folder a format."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    out = root / "keras_csv"
    out.mkdir(parents=True, exist_ok=True)
    seen = fit(out, [keras.callbacks.CSVLogger(str(out / "training.csv"))], 0)
    (out / "stdout.txt").unlink()
    (out / "history.json").replace(_folder(root, "keras_history") / "history.json")
    seen.write(out, file="training.csv", **ABOUT)
    seen.write(root / "keras_history", file="history.json", steps_in_log=False, **ABOUT)
    for name, verbose in (("keras_progress", 1), ("keras_lines", 2)):
        seen = fit(root / name, [], verbose)
        (root / name / "history.json").unlink()
        seen.write(root / name, file="stdout.txt", rtol=1e-3, steps_in_log=False, **ABOUT)


def _folder(root: Path, name: str) -> Path:
    (root / name).mkdir(parents=True, exist_ok=True)
    return root / name


if __name__ == "__main__":
    main(Path(sys.argv[1]))
