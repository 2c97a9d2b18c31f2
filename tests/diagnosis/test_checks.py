"""Each check on curves made to show it and on curves that look like it, and all of them on real labelled ones."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lossmith.diagnosis import CHECKS, Finding, diagnose
from lossmith.diagnosis._words_en import ENGLISH
from lossmith.diagnosis._words_zh import CHINESE
from lossmith.errors import InputError
from lossmith.runs import Curve, Run, from_curve_json
from lossmith.train.findings import FindingsReporter
from lossmith.train.reporter import Reporter
from lossmith.train.scale import Scale

SHARED = Path(__file__).resolve().parents[3] / "shared" / "curves"
PATHOLOGICAL = Path(__file__).resolve().parents[1] / "runs" / "pathological"
STEPS = np.arange(1, 1001)
Floats = np.ndarray[Any, np.dtype[np.float64]]


def power(low: float = 2.0, noise: float = 0.02, seed: int = 0, count: int = 1000) -> Floats:
    """A loss as training makes it: a power law with noise of single batches."""
    steps = np.arange(1, count + 1)
    return low + 8 * steps**-0.5 + noise * np.random.default_rng(seed).standard_normal(count)


def run(loss: Floats | None = None, evals: Floats | None = None, every: int = 50, **curves: Floats) -> Run:
    found = {} if loss is None else {"loss": Curve("loss", STEPS[: len(loss)], loss)}
    if evals is not None:
        found["eval_loss"] = Curve("eval_loss", np.arange(1, len(evals) + 1) * every, evals)
    found |= {name: Curve(name, STEPS[: len(values)], values) for name, values in curves.items()}
    return Run("made", "test", found)


def names(found: list[Finding]) -> set[str]:
    return {finding.check for finding in found}


def changed(values: Floats, at: slice | int, to: Any) -> Floats:
    values = values.copy()
    values[at] = to
    return values


def evals_of(lowest: float, last: float) -> Floats:
    """Twenty evals that fall to `lowest` at the tenth and go to `last` from there."""
    return np.concatenate([np.linspace(3.0, lowest, 10), np.linspace(lowest, last, 11)[1:]])


LADDER = np.repeat([2.0, 1.6, 1.3, 1.1], 250) + 0.03 * np.random.default_rng(1).standard_normal(1000)
SWINGS = 5.0 * np.exp(2.5 * np.random.default_rng(2).standard_normal(40))
CUT = np.where(STEPS > 600, 0.05, 1.0) * 1e-3
FOUND = {
    "nan, final": ("nan", run(changed(power(), slice(700, None), np.nan))),
    "nan, one batch": ("nan", run(changed(power(), 500, np.nan))),
    "nan, as the Trainer logs it": (
        "nan",
        run(changed(power(), slice(700, None), 0.0), grad_norm=changed(np.ones(1000), slice(700, None), np.nan)),
    ),
    "nan, eval": ("nan", run(power(), changed(evals_of(2.5, 2.4), 19, np.nan))),
    "spike": ("spike", run(changed(power(), slice(500, 504), (4.0, 6.0, 5.0, 3.0)))),
    "spike of infinity": ("spike", run(changed(power(), 500, np.inf))),
    "diverged": ("diverged", run(changed(power(), slice(600, None), np.linspace(2.4, 7.0, 400)))),
    "diverged at once": ("diverged", run(changed(power(), slice(600, None), 7.0))),
    "diverged to infinity": ("diverged", run(changed(power(), slice(995, None), (3.0, 9.0, 80.0, 1e9, np.inf)))),
    "lr_too_large, rising": ("lr_too_large", run(np.minimum(4.0 + 0.01 * STEPS, 7.0) + power(0.0, 0.1) * 0.01)),
    "lr_too_large, oscillating": ("lr_too_large", run(SWINGS)),
    "lr_too_large, dead": (
        "lr_too_large",
        run(
            np.concatenate([np.linspace(4.0, np.log(10), 20), np.full(80, np.log(10))]), learning_rate=np.full(100, 0.1)
        ),
    ),
    "overfit": ("overfit", run(power(0.1), evals_of(1.5, 1.9))),
    "train_val_gap": ("train_val_gap", run(power(0.1), evals_of(1.5, 1.5))),
    "epoch_staircase": ("epoch_staircase", run(LADDER, epoch=(STEPS - 1) / 250)),
    "epoch_staircase, once": ("epoch_staircase", run(np.where(STEPS > 500, 1.0, 1.8) + power(0.0, 0.02) * 0.02)),
    "suspiciously_low, leak": ("suspiciously_low", run(power(0.0, 0.0), np.array([0.004, 0.003, 0.002]))),
    "suspiciously_low, entropy": ("suspiciously_low", run(10 * STEPS**-0.6, 10 * (np.arange(1, 21) * 50.0) ** -0.6)),
    "plateau": ("plateau", run(4.0 + 0.01 * np.random.default_rng(3).standard_normal(1000))),
    "plateau in noise": ("plateau", run(0.7 + 0.2 * np.random.default_rng(4).random(200))),
    "plateau of the unigram model": ("plateau", run(np.maximum(power(2.0, 0.02), 7.4 + power(0, 0.02) * 0.01))),
    "slow": (
        "slow",
        run(1.39 + 0.002 * np.random.default_rng(5).standard_normal(300), learning_rate=np.full(300, 2e-6)),
    ),
    "initial_plateau": (
        "initial_plateau",
        run(np.concatenate([np.linspace(10, 6.0, 30), np.full(300, 6.0), np.linspace(6.0, 3.0, 600)])),
    ),
    "still_falling": ("still_falling", run(6.0 - 0.003 * STEPS, learning_rate=np.full(1000, 1e-3))),
    "too_short": ("too_short", run(np.array([5.0, 4.5, 4.2]))),
    "noisy": ("noisy", run(2.0 + 0.4 * np.random.default_rng(6).standard_normal(1000))),
    "lr_drop": (
        "lr_drop",
        run(
            np.where(STEPS > 600, np.maximum(2.0, 2.3 - 0.003 * (STEPS - 600)), 2.3 + 50 / (STEPS + 20)),
            learning_rate=CUT,
        ),
    ),
    "loss_scale": ("loss_scale", run(8 * power(2.0, 0.0), (2.0 + 8 * (np.arange(1, 21) * 50.0) ** -0.5))),
    "resume_jump": (
        "resume_jump",
        Run(
            "made", "test", {"loss": Curve("loss", np.r_[1:501, 451:800], np.r_[power()[:500], 0.9 + power()[450:799]])}
        ),
    ),
    "wrong_initial_loss": ("wrong_initial_loss", run(2 + 30 * STEPS**-0.5)),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_is_there_is_found(name: str) -> None:
    check, made = FOUND[name]
    assert check in names(diagnose(made))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
def test_a_normal_run_raises_no_alarm(seed: int, noise: float) -> None:
    evals = 2.0 + 8 * (np.arange(1, 21) * 50.0) ** -0.5 + 0.3 * noise * np.random.default_rng(seed).standard_normal(20)
    heavy = noise * np.random.default_rng(seed).standard_t(3, 1000)  # single batches are heavy-tailed
    found = diagnose(run(power(noise=0.0) + heavy, evals))
    assert [finding.check for finding in found if finding.severity != "info"] == []
    assert "normal" in names(found)


def test_one_bad_eval_is_no_overfitting() -> None:
    assert "overfit" not in names(diagnose(run(power(0.1), changed(evals_of(1.5, 1.4), 19, 1.9))))


def test_a_rising_training_loss_is_no_overfitting() -> None:
    rising = changed(power(), slice(600, None), np.linspace(2.4, 7.0, 400))
    assert "overfit" not in names(diagnose(run(rising, evals_of(2.5, 6.5))))


def test_a_cause_stands_before_its_symptoms() -> None:
    found = diagnose(run(SWINGS))
    assert "lr_too_large" in names(found)
    assert not {"spike", "diverged", "noisy"} & names(found)


def test_the_schedule_explains_a_drop() -> None:
    made = FOUND["lr_drop"][1]
    assert "epoch_staircase" not in names(diagnose(made))


def test_nan_before_the_first_number_was_not_measured() -> None:
    assert "nan" not in names(diagnose(run(changed(power(), slice(0, 30), np.nan))))


def test_a_known_vocabulary_is_used() -> None:
    made = run(2 + 9 * STEPS**-0.5)
    assert "wrong_initial_loss" not in names(diagnose(made))
    small = Run(made.source, made.tool, made.curves, {"vocab_size": 65})
    assert "wrong_initial_loss" in names(diagnose(small))


def measured_in(unit: str, made: Run) -> set[str]:
    return names(diagnose(replace(made, config={"loss_unit": unit})))


@pytest.mark.parametrize("unit", ["loss per row", "nats per pair", "nats: mlm + 50 × rtd"])
@pytest.mark.parametrize("name", ["wrong_initial_loss", "suspiciously_low, entropy", "plateau of the unigram model"])
def test_what_is_known_of_tokens_is_said_of_tokens_only(name: str, unit: str) -> None:
    check, made = FOUND[name]
    assert check in measured_in("nats per token", made)
    assert check not in measured_in(unit, made)


@pytest.mark.parametrize("first", [46.38, 20.0])
def test_the_first_loss_of_a_regression_is_not_wrong(first: float) -> None:
    assert measured_in("loss per row", run(np.array([first, 40.0]))) == {"too_short"}


@pytest.mark.parametrize("name", ["suspiciously_low, leak", "lr_too_large, dead"])
def test_what_is_known_of_nats_is_said_of_nats_only(name: str) -> None:
    check, made = FOUND[name]
    assert check in measured_in("nats per row", made)
    assert check not in measured_in("loss per row", made)


def test_a_running_regression_is_not_judged_in_nats() -> None:
    """At ln 10, up and down: of nats per row that is guessing among ten classes."""
    made = FOUND["lr_too_large, dead"][1].curves
    rows = [{"step": i + 1, "loss": loss, "learning_rate": 0.1} for i, loss in enumerate(made["loss"].value.tolist())]
    said: dict[str, list[Finding]] = {"nats/row": [], "loss/row": []}
    for unit, found in said.items():
        listener = Reporter()
        listener.finding = found.append  # type: ignore[method-assign]
        reporter = FindingsReporter([listener])
        reporter.start(100, Scale(unit=unit))
        for row in rows:
            reporter.row("metrics", row)
    assert "lr_too_large" in names(said["nats/row"])
    assert not said["loss/row"]


@pytest.mark.parametrize(
    "loss", [(0.8088, 0.5, 1.2, 2.335), (0.8088, 1.2, 1.9, 2.335), (0.8088, 0.3, 2.9, 2.335), (13.66, 18.25)]
)
def test_no_rise_is_told_of_a_log_too_short_to_judge(loss: tuple[float, ...]) -> None:
    assert names(diagnose(run(np.array(loss), np.array([loss[0]]), every=len(loss)))) == {"too_short"}
    assert {"diverged", "nan"} <= names(diagnose(run(np.array([*loss, np.inf]))))


def test_an_explosion_needs_few_points() -> None:
    assert "diverged" in names(diagnose(run(np.array([2.0, 1.5, 1.2, 5.0, 20.0, 80.0, 300.0]))))


def test_a_rise_of_a_foreign_loss_is_measured_against_its_own_level() -> None:
    loss = np.concatenate([np.geomspace(1.0, 0.02, 60), np.linspace(0.02, 0.11, 40)])
    noisy = loss * np.exp(0.02 * np.random.default_rng(3).standard_normal(len(loss)))
    assert "diverged" in names(diagnose(run(noisy)))
    assert "diverged" not in measured_in("nats per pair", run(noisy))


def test_few_points_out_of_a_long_run_may_show_divergence() -> None:
    loss = Curve.of("loss", [(7000, 6.3658), (7100, 6.5984), (7200, 7.3145), (7300, 9.1219), (7400, 10.2386)])
    assert "diverged" in names(diagnose(Run("made", "test", {"loss": loss})))


@pytest.mark.parametrize("end", [(0.0483, 0.0483, 0.0483), (0.0483, *[0.012] * 9)])
def test_a_rise_from_nothing_to_almost_nothing_is_no_divergence(end: tuple[float, ...]) -> None:
    nothing = 1e-6 * np.exp(2 * np.random.default_rng(7).standard_normal(60))
    made = run(changed(np.maximum(nothing, 0.2 ** np.arange(60)), slice(-len(end), None), end))
    found = diagnose(replace(made, config={"loss_unit": "nats per pair"}))
    assert [finding for finding in found if finding.severity == "error"] == []
    assert "diverged" in measured_in("loss per row", made)  # of which nobody knows what is nothing


def test_a_spike_that_leaves_almost_nothing_is_over() -> None:
    made = run(np.array([*(0.001 * np.ones(50)), 0.05, *(0.009 * np.ones(9))]))
    kinds = {
        unit: next(iter(CHECKS["spike"](replace(made, config={"loss_unit": unit})))).kind
        for unit in ("nats per pair", "loss per row")
    }
    assert kinds == {"nats per pair": "recovered", "loss per row": "not_recovered"}


def test_thresholds_are_arguments() -> None:
    made = run(power(0.1), evals_of(1.5, 1.9))
    assert not list(CHECKS["overfit"](made, rise=0.5))  # type: ignore[call-arg]


@pytest.mark.parametrize("name", FOUND)
def test_findings_say_what_and_what_to_do_in_both_languages(name: str) -> None:
    for finding in diagnose(FOUND[name][1]):
        assert "{" not in finding.say("en") + finding.say("zh") + finding.advise("en") + finding.advise("zh")
        assert finding.message.endswith(".")
        assert finding.say("zh").endswith("。")
        assert finding.advice or finding.check == "normal"
        assert finding.source.startswith("https://")
        assert 0 < finding.sure <= 1
        json.dumps(finding.to_json("zh"), allow_nan=False)


def test_both_languages_have_the_same_words() -> None:
    assert ENGLISH.keys() == CHINESE.keys()
    with pytest.raises(InputError, match="lang must be one of en, zh; got 'fr'"):
        diagnose(run(power()))[0].say("fr")


def test_nothing_is_found_in_nothing() -> None:
    assert diagnose(Run("empty", "test", {})) == []
    assert diagnose(Run("empty", "test", {"loss": Curve.of("loss", [])})) == []
    assert diagnose(Run("other", "test", {"accuracy": Curve.of("accuracy", [(1, 0.5), (2, 0.6)])})) == []


numbers = st.floats(allow_nan=True, allow_infinity=True, width=64) | st.sampled_from([0.0, -1.0, 1e308, -1e308, 5e-324])
curves = hnp.arrays(np.float64, st.integers(0, 80), elements=numbers)


@settings(max_examples=150, deadline=None)
@given(loss=curves, evals=curves, rate=curves, backwards=st.booleans())
@example(loss=np.array([np.nan, 0.0]), evals=np.array([]), rate=np.array([]), backwards=False)  # NaN, then 0
def test_no_curve_breaks_it(loss: Floats, evals: Floats, rate: Floats, backwards: bool) -> None:
    steps = STEPS[::-1] if backwards else STEPS
    made = {
        name: Curve(name, steps[: len(values)], values)
        for name, values in (("loss", loss), ("eval_loss", evals), ("learning_rate", rate), ("epoch", rate))
    }
    with np.errstate(all="ignore"):
        for finding in diagnose(Run("fuzz", "test", made)):
            assert finding.say("en")


def labelled(folder: Path, files: Path) -> list[tuple[str, set[str], Run]]:
    with (folder / "labels.tsv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if (files / row["file"]).is_file()]
    out = []
    for row in rows:
        labels = {"lr_too_large" if x == "oscillating" else x for x in row["label"].replace("/", "+").split("+")}
        out.append(
            (row["file"], labels, from_curve_json(json.loads((files / row["file"]).read_text(encoding="utf-8"))))
        )
    return out


@pytest.mark.skipif(not SHARED.is_dir(), reason="the labelled curves are not here")
def test_real_labelled_curves() -> None:
    cases = labelled(SHARED, SHARED / "dev")
    found = [diagnose(run) for _, _, run in cases]
    for check in ("overfit", "lr_too_large", "diverged", "nan", "spike", "plateau"):
        hits = sum(check in labels and check in names(said) for (_, labels, _), said in zip(cases, found, strict=True))
        either = sum(
            (check in labels) + (check in names(said)) for (_, labels, _), said in zip(cases, found, strict=True)
        )
        assert 2 * hits / either >= 0.9, check
    normal = [(labels, said) for (_, labels, _), said in zip(cases, found, strict=True) if "normal" in labels]
    alarms = [f.check for labels, said in normal for f in said if f.severity != "info" and f.check not in labels]
    assert len(alarms) <= 0.03 * len(normal)


def test_runs_that_were_really_trained_badly() -> None:
    """Labelled by eye before the checks were tried on them; some look normal although something was wrong."""
    cases = labelled(PATHOLOGICAL, PATHOLOGICAL)
    assert len(cases) > 40
    found = [(labels, names(diagnose(run)), diagnose(run)) for _, labels, run in cases]
    scores = []
    for check in ("overfit", "lr_too_large", "diverged", "nan", "spike", "plateau"):
        hits = sum(check in labels and check in said for labels, said, _ in found)
        scores.append(2 * hits / sum((check in labels) + (check in said) for labels, said, _ in found))
    assert sum(scores) / len(scores) >= 0.85
    normal = [(labels, every) for labels, _, every in found if "normal" in labels]
    assert not [f.check for labels, every in normal for f in every if f.severity != "info" and f.check not in labels]
