"""Hide the last half of real curves, forecast their end, and count how often the 80 % interval holds it.

    python benchmarks/forecast_backtest.py [--curves ../shared/curves] [--calibrate]

Truth is the level at the end: the median of the last fiftieth of the points (of the last 3 at least, where there are
24). A curve is left out when its label says diverged, nan, lr_too_large or resume_jump (no law of a falling loss holds
then), and when fewer than 16 of its points are finite or fewer than 8 lie in the part that is shown.
Beside it, on the same points: the last level (the same median);
straight lines in log-log through all that is shown and through its last half; L0 + A·s^−α fitted to the last 90 %.
Cross-validated: for each source, the fading of the exponent, the expected annealing and the quantiles of the errors are
chosen on the curves of the other sources. "as logged": learning rates are seen up to the cut; "plan": to the end.
--calibrate prints the quantiles over all curves, cut at 1/4, 1/2 and 3/4, that forecast.py holds.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rows import keep

from lossmith.diagnosis import _laws
from lossmith.diagnosis.forecast import ERRORS, QUANTILES, forecast
from lossmith.runs import Curve, Run, from_curve_json

Floats = NDArray[np.float64]
SKIPPED = {"diverged", "nan", "lr_too_large", "oscillating", "resume_jump", "resume_discontinuity"}
CURVES = Path(__file__).resolve().parents[2] / "shared" / "curves"
FADES, GAINS = (0.0001, 0.15, 0.3, 0.45), (0.03, 0.045, 0.06)


@dataclass(frozen=True)
class Case:
    """A curve of which a part is shown, and its level at the end."""

    source: str
    name: str
    shown: Run
    plan: Curve | None
    curve: str
    end: int
    truth: float


def level_at_end(value: Floats) -> float:
    """Return the median of the last fiftieth of the points."""
    return float(np.median(value[-max(1, round(0.02 * len(value)), min(3, len(value) // 8)) :]))


def cases(folder: Path, part: float) -> list[Case]:
    """Return the curves with what comes after the first `part` of their steps hidden."""
    with (folder / "labels.tsv").open(encoding="utf-8") as file:
        labels = {
            row["file"]: set(row["label"].replace("/", "+").split("+")) for row in csv.DictReader(file, delimiter="\t")
        }
    found = []
    for path in sorted((folder / "dev").glob("*.json")):
        if labels[path.name] & SKIPPED:
            continue
        run = from_curve_json(json.loads(path.read_text(encoding="utf-8")))
        found += [case for name in ("loss", "eval_loss") if (case := _case(path.name, run, name, part))]
    return found


def _case(file: str, run: Run, name: str, part: float) -> Case | None:
    if name not in run.curves:
        return None
    latest = run.curves[name].latest()
    good = np.isfinite(latest.value)
    step, value = latest.step[good], latest.value[good]
    if len(step) < 16:
        return None
    cut = step[0] + part * (step[-1] - step[0])
    shown = step <= cut
    if shown.sum() < 8:
        return None
    curves = {name: Curve(name, step[shown], value[shown])}
    rates = run.curves.get("learning_rate")
    if rates is not None:
        early = rates.step <= cut
        curves["learning_rate"] = Curve("learning_rate", rates.step[early], rates.value[early])
    source = file.split("__")[0].split("_nanoGPT")[0]
    return Case(source, file, Run(file, "", curves), rates, name, int(step[-1]), level_at_end(value))


def ours(case: Case, rates: str) -> tuple[float, float, float]:
    """Return forecast, error over scale, and scale; rates: "as logged", "plan" or "none"."""
    curves = {case.curve: case.shown.curves[case.curve]}
    if rates == "as logged" and "learning_rate" in case.shown.curves:
        curves["learning_rate"] = case.shown.curves["learning_rate"]
    if rates == "plan" and case.plan is not None:
        curves["learning_rate"] = case.plan
    found = forecast(Run(case.name, "", curves), curve=case.curve, steps=case.end)
    scale = found.parameters["spread"]
    logarithmic = found.value > 0 and case.truth > 0
    unit = scale * max(abs(found.value), 1e-12)
    error = np.log(case.truth / found.value) / scale if logarithmic else (case.truth - found.value) / unit
    return found.value, float(error), scale


def line(step: Floats, value: Floats, end: float) -> float:
    """Extrapolate a straight line in log-log; the last level where values are not above 0."""
    if (value <= 0).any():
        return level_at_end(value)
    slope, base = np.polyfit(np.log(step), np.log(value), 1)
    return float(np.exp(base + slope * np.log(end)))


def floor(step: Floats, value: Floats, end: float) -> float:
    """Extrapolate L0 + A·s^−α, fitted by least squares with A and L0 not below 0."""
    tail = step >= 0.1 * step[-1]
    x, y = step[tail] / step[-1], value[tail]
    best = np.inf, level_at_end(value)
    for alpha in np.geomspace(0.05, 3.0, 40):
        basis = np.stack([np.ones_like(x), x**-alpha], axis=1)
        (low, size), *_ = np.linalg.lstsq(basis, y, rcond=None)
        if low < 0:
            low, size = 0.0, float(basis[:, 1] @ y / (basis[:, 1] @ basis[:, 1]))
        size = max(size, 0.0)
        error = float(((low + size * x**-alpha - y) ** 2).sum())
        if error < best[0]:
            best = error, float(low + size * (end / step[-1]) ** -alpha)
    return best[1]


def naive(case: Case) -> dict[str, float]:
    """Return what the plain ways of forecasting say."""
    seen = case.shown.curves[case.curve]
    shift = 0.0 if seen.step[0] > 0 else float(np.median(np.diff(seen.step))) - seen.step[0]
    step, end = seen.step + shift, case.end + shift
    late = step >= step[-1] / 2 if (step >= step[-1] / 2).sum() >= 4 else np.ones(len(step), bool)
    return {
        "last level": level_at_end(seen.value),
        "log-log line": line(step, seen.value, end),
        "log-log line, last half": line(step[late], seen.value[late], end),
        "L0 + A·s^−α": floor(step, seen.value, end),
    }


def relative(forecasts: Floats, truth: Floats) -> Floats:
    """Return |forecast − truth| / |truth|."""
    return np.asarray(np.abs(forecasts - truth) / np.abs(truth))


def quantiles(errors: Floats, sources: NDArray[np.str_], at: tuple[float, ...]) -> Floats:
    """Return weighted quantiles; the curves of a source weigh together the root of their number."""
    _, index, counts = np.unique(sources, return_inverse=True, return_counts=True)
    order = np.argsort(errors)
    weight = (1 / np.sqrt(counts))[index][order]
    return np.interp(at, (np.cumsum(weight) - weight / 2) / weight.sum(), errors[order])


def with_constants(fade: float, gain: float, run: Callable[[], list[Any]]) -> list[Any]:
    """Call with other constants of the law."""
    kept = _laws.FADE, _laws.GAIN
    _laws.FADE, _laws.GAIN = fade, gain
    try:
        return run()
    finally:
        _laws.FADE, _laws.GAIN = kept


def cross_validated(half: list[Case], every: list[Case], rates: str) -> tuple[Floats, NDArray[np.bool_]]:
    """Return forecasts, and whether the 80 % interval held the truth, with nothing chosen on the curve's own source."""
    grid = list(product(FADES, GAINS))
    tables = [np.array(with_constants(*pair, lambda: [ours(case, rates) for case in every])) for pair in grid]
    truth, sources = np.array([case.truth for case in every]), np.array([case.source for case in every])
    mine = np.array([case in half for case in every])
    forecasts, held = np.empty(len(every)), np.empty(len(every), bool)
    for source in np.unique(sources):
        out = sources == source
        scores = [_score(table[mine & ~out, 0], truth[mine & ~out], sources[mine & ~out]) for table in tables]
        table = tables[int(np.argmin(scores))]
        low, high = quantiles(table[~out, 1], sources[~out], (0.1, 0.9))
        forecasts[out], held[out] = table[out, 0], (table[out, 1] >= low) & (table[out, 1] <= high)
    return forecasts[mine], held[mine]


def _score(forecasts: Floats, truth: Floats, sources: NDArray[np.str_]) -> float:
    return float(quantiles(relative(forecasts, truth), sources, (0.5,))[0])


def report(half: list[Case], every: list[Case]) -> dict[str, Any]:
    """Return the figures of a row."""
    truth, sources = np.array([case.truth for case in half]), np.array([case.source for case in half])
    plain = [naive(case) for case in half]
    errors = {name: relative(np.array([row[name] for row in plain]), truth) for name in plain[0]}
    coverage: dict[str, Any] = {}
    for rates in ("as logged", "plan", "none"):
        forecasts, held = cross_validated(half, every, rates)
        errors[f"ours, rates {rates}"] = relative(forecasts, truth)
        coverage[rates] = _by_source(held.astype(float), sources, np.mean)
    return {
        "unit": "|forecast − truth| / |truth|, at twice the steps shown",
        "curves": len(half),
        "median_error": {name: round(float(np.median(error)), 4) for name, error in errors.items()},
        "by_source": {name: _by_source(error, sources, np.median) for name, error in errors.items()},
        "coverage_of_80": coverage,
    }


def _by_source(values: Floats, sources: NDArray[np.str_], center: Callable[[Floats], Any]) -> dict[str, float]:
    names, counts = np.unique(sources, return_counts=True)
    large = [str(name) for name, count in zip(names, counts, strict=True) if count >= 7]
    parts = {name: values[sources == name] for name in large} | {"others": values[~np.isin(sources, large)]}
    rows = {name: round(float(center(part)), 4) for name, part in parts.items()}
    return {
        "all": round(float(center(values)), 4),
        "mean over sources": round(float(np.mean(list(rows.values()))), 4),
    } | rows


def seconds_of_long_curve() -> float:
    """Return the time of one forecast of 10,000 points with a learning rate and a target."""
    step = np.arange(1, 10_001)
    value = 2 + 5 * step**-0.3 + np.random.default_rng(0).normal(0, 0.05, len(step))
    rate = np.interp(step, (0, 500, 20_000), (0, 1e-3, 0))
    run = Run("", "", {"loss": Curve("loss", step, value), "learning_rate": Curve("learning_rate", step, rate)})
    start = time.perf_counter()
    forecast(run, target=2.2)
    return time.perf_counter() - start


def main() -> None:
    """Keep one row, or print the quantiles."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curves", type=Path, default=CURVES)
    parser.add_argument("--calibrate", action="store_true")
    options = parser.parse_args()
    half = cases(options.curves, 0.5)
    every = half + cases(options.curves, 0.25) + cases(options.curves, 0.75)
    if options.calibrate:
        errors = np.array([ours(case, "as logged")[1] for case in every])
        new = quantiles(errors, np.array([case.source for case in every]), QUANTILES)
        print("QUANTILES =", QUANTILES, "\nERRORS =", tuple(round(float(x), 2) for x in new), "\nin use:", ERRORS)
        return
    keep("forecast_backtest", report(half, every) | {"seconds_10000_points": round(seconds_of_long_curve(), 3)})


if __name__ == "__main__":
    main()
