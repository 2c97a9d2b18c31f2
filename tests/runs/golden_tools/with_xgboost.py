"""XGBoost: the eval lines it prints and evals_result as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from golden_common import Seen, captured


def main(root: Path) -> None:
    """Boost trees on the digits of scikit-learn."""
    import xgboost
    from sklearn.datasets import load_digits

    text, table = root / "xgboost_stdout", root / "xgboost_json"
    for folder in (text, table):
        folder.mkdir(parents=True, exist_ok=True)
    x, y = load_digits(return_X_y=True)
    train, held = xgboost.DMatrix(x[:1200], y[:1200]), xgboost.DMatrix(x[1200:], y[1200:])
    result: dict[str, dict[str, list[Any]]] = {}
    options = {"objective": "multi:softprob", "num_class": 10, "eta": 0.3, "nthread": 1, "seed": 0, "max_depth": 3}
    with captured(text / "stdout.txt"):
        evals = [(train, "train"), (held, "valid")]
        xgboost.train(options, train, 40, evals=evals, evals_result=result, verbose_eval=True)
    (table / "evals_result.json").write_text(json.dumps(result), encoding="utf-8")
    seen = Seen()
    for i, (a, b) in enumerate(zip(result["train"]["mlogloss"], result["valid"]["mlogloss"], strict=True)):
        seen.add_row(i, {"loss": a, "eval_loss": b})
    seen.write(text, packages=("xgboost",), file="stdout.txt", rtol=1e-3)
    seen.write(table, packages=("xgboost",), file="evals_result.json", steps_in_log=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
