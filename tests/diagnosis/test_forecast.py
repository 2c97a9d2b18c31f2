"""The forecast against runs whose future is known: laws with noise, schedules, and real curves cut in half."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lossmith.diagnosis.forecast import FEWEST, Forecast, forecast
from lossmith.errors import InputError
from lossmith.runs import Curve, Run, from_curve_json

PATHOLOGICAL = Path(__file__).parents[1] / "runs" / "pathological"


def run_of(loss: object, **others: object) -> Run:
    """A run of equally spaced steps 1, 2, … for the loss; other curves are (steps, values)."""
    value = np.asarray(loss, dtype=np.float64)
    curves = {"loss": Curve("loss", np.arange(1, len(value) + 1), value)}
    for name, (step, values) in others.items():  # type: ignore[misc]
        curves[name] = Curve(name, np.asarray(step), np.asarray(values, dtype=np.float64))
    return Run("test", "test", curves)


def power_law(steps: int, exponent: float, noise: float, seed: int = 0) -> np.ndarray:
    return 5 * np.arange(1, steps + 1) ** -exponent * np.exp(np.random.default_rng(seed).normal(0, noise, steps))


@pytest.mark.parametrize("exponent", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
def test_a_power_law_goes_on(exponent: float, noise: float) -> None:
    found = forecast(run_of(power_law(2000, exponent, noise)), steps=4000)
    truth = 5 * 4000**-exponent
    assert found.low <= truth <= found.high
    assert abs(np.log(found.value / truth)) < 0.02 + 0.15 * exponent + noise / 5


def test_a_power_law_with_a_floor_is_held_by_the_interval() -> None:
    step = np.arange(1, 2001)
    found = forecast(run_of(2 + 4 * step**-0.5), steps=4000)
    truth = 2 + 4 * 4000**-0.5
    assert found.low <= truth <= found.high
    assert abs(found.value - truth) < 0.02
    assert found.value < found.now


def test_what_stays_flat_is_forecast_flat() -> None:
    found = forecast(run_of(np.random.default_rng(0).normal(2.0, 0.1, 1000)), steps=4000)
    assert abs(found.value - 2.0) < 0.05


def test_a_rising_curve_is_forecast_to_rise() -> None:
    step = np.arange(1, 401)
    found = forecast(run_of(1 + (np.log(step) - np.log(60)) ** 2 / 4), steps=800)
    assert found.value > found.now


def annealed(step: np.ndarray, rate: np.ndarray) -> np.ndarray:
    return np.exp(0.045 * rate) * 5 * np.cumsum(rate) ** -0.1


def schedule(kind: str, steps: int = 4000) -> np.ndarray:
    part = np.arange(steps) / steps
    if kind == "cosine":
        return (1 + np.cos(np.pi * part)) / 2
    return 1 - part if kind == "linear" else np.minimum(1.0, (1 - part) / 0.2)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_the_schedule_is_read_from_the_rates_seen_so_far(kind: str) -> None:
    rate = schedule(kind)
    step = np.arange(1, 4001)
    loss = annealed(step, rate)
    shown = run_of(loss[:2000], learning_rate=(step[:2000], 3e-4 * rate[:2000]))
    found = forecast(shown)
    assert abs(found.at_step - 4000) <= 8  # the planned end, found without being told
    assert abs(np.log(found.value / loss[-1])) < 0.03
    assert found.law.endswith("annealing")


def test_a_planned_decay_is_forecast_to_bend_the_loss() -> None:
    rate, step = schedule("wsd"), np.arange(1, 4001)
    loss = annealed(step, rate)
    planned = forecast(run_of(loss[:2000], learning_rate=(step, rate)), steps=4000)
    blind = forecast(run_of(loss[:2000], learning_rate=(step[:2000], rate[:2000])), steps=4000)
    assert abs(np.log(planned.value / loss[-1])) < 0.03
    assert abs(np.log(planned.value / loss[-1])) < abs(np.log(blind.value / loss[-1])) * 0.6


def test_a_target_is_reached_where_the_law_says() -> None:
    found = forecast(run_of(power_law(1000, 0.3, 0.01)), target=5 * 3000**-0.3)
    assert found.reach_low is not None
    assert found.reach_step is not None
    assert found.reach_low < found.reach_step
    assert 2400 < found.reach_step < 3800
    assert found.reach_high is None or found.reach_high > found.reach_step


def test_a_target_already_met_was_reached_when_it_was() -> None:
    found = forecast(run_of(power_law(1000, 0.3, 0.0)), target=5 * 500**-0.3)
    assert found.reach_step is not None
    assert 480 <= found.reach_step <= 520


def test_a_target_below_reach_is_not_reached() -> None:
    assert forecast(run_of(2 + power_law(1000, 1.0, 0.0)), target=0.5).reach_step is None


def test_twice_the_steps_buy_what_the_exponent_says() -> None:
    found = forecast(run_of(power_law(4000, 0.2, 0.005)))
    assert found.at_step == 4000
    assert abs(found.doubled.value / found.value - 2**-0.2) < 0.02
    assert found.doubled.low < found.doubled.value < found.doubled.high


def test_twice_the_steps_of_a_finished_schedule_keep_its_shape() -> None:
    rate, step = schedule("cosine"), np.arange(1, 4001)
    found = forecast(run_of(annealed(step, rate), learning_rate=(step, rate)))
    assert found.at_step <= 4040
    assert abs(found.doubled.value / found.value - 2**-0.1) < 0.04


def test_the_interval_grows_with_the_distance_and_the_level() -> None:
    run = run_of(power_law(1000, 0.3, 0.05))
    widths = [_width(forecast(run, steps=steps)) for steps in (1000, 2000, 8000)]
    assert widths == sorted(widths)
    assert _width(forecast(run, steps=2000, level=0.5)) < widths[1] < _width(forecast(run, steps=2000, level=0.95))


def _width(found: Forecast) -> float:
    return found.high - found.low


def test_losses_below_zero_and_steps_from_zero() -> None:
    step = np.arange(0, 500)
    run = Run("", "", {"loss": Curve("loss", step, 1 - 0.5 * np.log(step + 1))})
    found = forecast(run, steps=999)
    assert "line" in found.law
    assert abs(found.value - (1 - 0.5 * np.log(1000))) < 0.1
    assert found.low <= found.value <= found.high


def test_gaps_and_a_resume_do_no_harm() -> None:
    value = power_law(2000, 0.3, 0.01)
    holes = value.copy()
    holes[[5, 700, 1500]] = np.nan, np.inf, np.nan
    step = np.arange(1, 2001)
    twice = Run(
        "", "", {"loss": Curve("loss", np.append(step[:1200], step[1000:]), np.append(value[:1200], value[1000:]))}
    )
    clean = forecast(run_of(value), steps=4000).value
    assert abs(forecast(run_of(holes), steps=4000).value / clean - 1) < 0.01
    assert abs(forecast(twice, steps=4000).value / clean - 1) < 1e-12


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [
        (run_of(np.ones(FEWEST - 1)), {}, "8 finite points of 'loss'; got 7"),
        (run_of([]), {}, "got 0"),
        (run_of([1.0] * 20 + [np.nan]), {}, "ends in nan"),
        (run_of(np.ones(20)), {"curve": "eval_loss"}, r"\(loss\); got 'eval_loss'"),
        (run_of(np.ones(20)), {"steps": 10}, "at or after the last step of 'loss', 20; got 10"),
        (run_of(np.ones(20)), {"level": 1.0}, "level must be in"),
        (run_of(np.ones(20)), {"target": float("nan")}, "target must be a finite loss"),
    ],
)
def test_what_cannot_be_forecast_is_said(run: Run, options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        forecast(run, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("rates", [[0.0] * 50, [np.nan] * 50, [1e-3] * 2 + [np.nan] * 48])
def test_useless_rates_are_left_out(rates: list[float]) -> None:
    run = run_of(power_law(50, 0.3, 0.0), learning_rate=(np.arange(1, 51), rates))
    assert abs(forecast(run, steps=100).value - 5 * 100**-0.3) < 0.05


def test_max_steps_of_the_configuration_is_the_planned_end() -> None:
    run = run_of(power_law(100, 0.3, 0.0))
    assert forecast(Run("", "", run.curves, {"max_steps": 300})).at_step == 300


@pytest.mark.parametrize("path", sorted(PATHOLOGICAL.glob("good_*.json")), ids=lambda path: path.stem)
def test_real_runs_cut_in_half_end_within_a_wide_interval(path: Path) -> None:
    """Runs that were really trained, whose curves played no part in the calibration."""
    run = from_curve_json(json.loads(path.read_text(encoding="utf-8")))
    loss, rates = run.curves["loss"], run.curves["learning_rate"]
    half = len(loss) // 2
    shown = {"loss": Curve("loss", loss.step[:half], loss.value[:half]), "learning_rate": rates}
    found = forecast(Run("", "", shown), steps=int(loss.step[-1]), level=0.95)
    truth = float(np.median(loss.value[-15:]))
    assert found.low <= truth <= found.high
    assert abs(found.value / truth - 1) < 0.1


SHARED = sorted((Path(__file__).parents[3] / "shared" / "curves" / "dev").glob("MultiPowerLaw__*.json"))


@pytest.mark.skipif(not SHARED, reason="shared/curves is not there")
def test_language_models_cut_in_half_beat_the_naive_forecasts() -> None:
    errors = np.array([_errors_at_half(path) for path in SHARED])
    ours, level, line = np.median(errors[:, :3], axis=0)
    assert ours < level / 2
    assert ours < line / 2
    assert errors[:, 3].mean() >= 0.8  # held by the interval


def _errors_at_half(path: Path) -> tuple[float, float, float, bool]:
    run = from_curve_json(json.loads(path.read_text(encoding="utf-8")))
    loss, truth = run.curves["loss"], float(np.median(run.curves["loss"].value[-3:]))
    shown = loss.step <= loss.step[-1] / 2
    step, value = loss.step[shown], loss.value[shown]
    curves = {"loss": Curve("loss", step, value), "learning_rate": run.curves["learning_rate"]}
    found = forecast(Run(path.name, "", curves), steps=int(loss.step[-1]))
    slope, base = np.polyfit(np.log(step), np.log(value), 1)
    line = np.exp(base + slope * np.log(loss.step[-1]))
    far = [abs(guess / truth - 1) for guess in (found.value, value[-1], line)]
    return far[0], far[1], far[2], found.low <= truth <= found.high
