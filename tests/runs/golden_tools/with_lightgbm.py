"""LightGBM: the eval lines it prints and evals_result as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from golden_common import Seen, captured


def main(root: Path) -> None:
    """Boost trees on the digits of scikit-learn."""
    import lightgbm
    from sklearn.datasets import load_digits

    text, table = root / "lightgbm_stdout", root / "lightgbm_json"
    for folder in (text, table):
        folder.mkdir(parents=True, exist_ok=True)
    x, y = load_digits(return_X_y=True)
    train = lightgbm.Dataset(x[:1200], y[:1200])
    held = lightgbm.Dataset(x[1200:], y[1200:], reference=train)
    result: dict[str, dict[str, list[Any]]] = {}
    options = {"objective": "multiclass", "num_class": 10, "num_leaves": 7, "num_threads": 1, "seed": 0}
    with captured(text / "stdout.txt"):
        watch = [lightgbm.log_evaluation(1), lightgbm.record_evaluation(result)]
        lightgbm.train(options, train, 40, valid_sets=[train, held], callbacks=watch)
    (table / "evals_result.json").write_text(json.dumps(result), encoding="utf-8")
    seen, names = Seen(), ("training", "valid_1")
    for i, pair in enumerate(zip(*(result[name]["multi_logloss"] for name in names), strict=True), 1):
        seen.add_row(i, {"loss": pair[0], "eval_loss": pair[1]})
    seen.write(text, packages=("lightgbm",), file="stdout.txt", rtol=1e-4)
    seen.write(table, packages=("lightgbm",), file="evals_result.json", steps_in_log=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
