"""Our checks on the labelled real curves: as shipped, cross-validated by source, and beside the published rules.

    python benchmarks/diagnosis_curves.py [--curves ../shared/curves]

Figures are F1 over runs for a check, and their mean over the six checks that matter most. "cross-validated": for each
source (repository) the thresholds are chosen anew, from a grid, on the curves of all other sources. "false alarms":
runs labelled normal with any warning or error that their label does not name. No time is measured.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from published_rules import RULES
from rich.progress import track
from rows import keep

from lossmith.diagnosis import CHECKS, Finding, diagnose, resolved
from lossmith.runs import Run, from_curve_json

KEY = ("overfit", "lr_too_large", "diverged", "nan", "spike", "plateau")
ALIAS = {"oscillating": "lr_too_large"}
GRID: dict[str, dict[str, tuple[float, ...]]] = {
    "overfit": {"rise": (0.02, 0.03, 0.045, 0.06, 0.08, 0.12)},
    "lr_too_large": {"swing": (0.3, 0.5, 0.8), "rise": (0.1, 0.2, 0.4)},
    "diverged": {"rise": (0.08, 0.15, 0.25, 0.4)},
    "spike": {"sigmas": (8.0, 14.0, 20.0, 28.0), "tail": (3.0, 4.5, 6.0)},
    "plateau": {"fall": (0.005, 0.01, 0.015, 0.025), "unproven": (0.05, 0.1, 0.15, 0.25)},
}
Case = tuple[str, set[str], Run]


def load(folder: Path, files: str = "dev") -> list[Case]:
    """Return (source, labels, run) of every labelled curve."""
    cases = []
    with (folder / "labels.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            path = folder / files / row["file"]
            if path.is_file():
                data = json.loads(path.read_text(encoding="utf-8"))
                labels = {ALIAS.get(name, name) for name in row["label"].replace("/", "+").split("+")}
                cases.append((str(data["source"].get("repo", "")), labels, from_curve_json(data)))
    return cases


def f1(pairs: Iterable[tuple[bool, bool]]) -> float:
    """Return F1 of (truth, verdict) pairs; 0 where there is neither."""
    both = [(truth, said) for truth, said in pairs if truth or said]
    hits = sum(truth and said for truth, said in both)
    return 2 * hits / (hits + len(both)) if both else 0.0


def combinations(check: str) -> Iterator[dict[str, float]]:
    """Yield every choice of thresholds of a check from the grid."""
    names = list(GRID[check])
    yield from (dict(zip(names, values, strict=True)) for values in product(*GRID[check].values()))


def cross_validated(cases: list[Case]) -> tuple[list[set[str]], int]:
    """Return the verdicts of each case with thresholds chosen on the other sources, and how many choices differed."""
    verdicts = {
        check: [(choice, [any(CHECKS[check](run, **choice)) for _, _, run in cases]) for choice in combinations(check)]
        for check in track(GRID, "grid")
    }
    chosen: dict[str, dict[str, dict[str, float]]] = {}
    for source in {source for source, _, _ in cases}:
        chosen[source] = {check: _best(check, options, cases, source) for check, options in verdicts.items()}
    out = []
    for source, _, run in cases:
        checks = CHECKS | {name: partial(CHECKS[name], **choice) for name, choice in chosen[source].items()}
        out.append({found.check for found in resolved(f for check in checks.values() for f in check(run))})
    return out, len({json.dumps(choice, sort_keys=True) for choice in chosen.values()})


def _best(check: str, options: list[Any], cases: list[Case], source: str) -> dict[str, float]:
    """Return the choice with the best F1 on the other sources; of equal ones the one in the middle."""
    scores = [
        f1((check in labels, said) for (where, labels, _), said in zip(cases, said_of, strict=True) if where != source)
        for _, said_of in options
    ]
    best = [i for i, score in enumerate(scores) if score == max(scores)]
    choice: dict[str, float] = options[best[len(best) // 2]][0]
    return choice


def scores(cases: list[Case], verdicts: list[set[str]]) -> dict[str, float]:
    """Return F1 by check, and their mean as "macro"."""
    found = {
        check: round(
            f1((check in labels, check in said) for (_, labels, _), said in zip(cases, verdicts, strict=True)), 3
        )
        for check in KEY
    }
    return found | {"macro": round(sum(found.values()) / len(found), 3)}


def false_alarms(cases: list[Case], findings: list[list[Finding]]) -> int:
    """Return how many runs labelled normal have a warning or an error that their label does not name."""
    return sum(
        "normal" in labels and any(f.severity != "info" and f.check not in labels for f in found)
        for (_, labels, _), found in zip(cases, findings, strict=True)
    )


def main() -> None:
    """Score, and keep the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curves", type=Path, default=Path(__file__).parents[2] / "shared" / "curves")
    options = parser.parse_args()
    cases = load(options.curves)
    findings = [diagnose(run) for _, _, run in cases]
    ours = scores(cases, [{found.check for found in each} for each in findings])
    normal = sum("normal" in labels for _, labels, _ in cases)
    basis = {"runs": len(cases), "sources": len({source for source, _, _ in cases}), "normal_runs": normal}
    row = {"what": "lossmith", "f1": ours, "false_alarms": false_alarms(cases, findings)}
    keep("diagnosis_curves", basis | row)
    made = load(Path(__file__).parents[1] / "tests" / "runs" / "pathological", "")
    said = [diagnose(run) for _, _, run in made]
    row = {"what": "lossmith, on runs trained badly on purpose (tests/runs/pathological)", "runs": len(made)}
    row |= {"f1": scores(made, [{found.check for found in each} for each in said])}
    keep("diagnosis_curves", row | {"false_alarms": false_alarms(made, said)})
    verdicts, choices = cross_validated(cases)
    held_out = {
        "what": "lossmith, thresholds chosen on the other sources",
        "f1": scores(cases, verdicts),
        "choices": choices,
    }
    keep("diagnosis_curves", basis | held_out)
    for name, rule in RULES.items():
        theirs = [rule(run) for _, _, run in cases]
        claimed = {
            check: score for check, score in scores(cases, theirs).items() if any(check in found for found in theirs)
        }
        against = {check: ours[check] for check in claimed}
        keep("diagnosis_curves", basis | {"what": name, "f1": claimed, "lossmith": against})


if __name__ == "__main__":
    main()
