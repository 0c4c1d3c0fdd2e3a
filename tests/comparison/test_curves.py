"""Learning curves: the form fitted to curves with known numbers, and where a level is reached."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.comparison.grid_folders import Course, write_grid

from demask.comparison.curves import Curve, find_level, fit_curve, fit_saturation, make_curve
from demask.comparison.results import load_grid

pytestmark = pytest.mark.smoke

STEPS = [1, 2, 4, 8, 16, 32, 64, 128, 256]


def _curve(folder: Path, course: Course | str | None, **settings: Any) -> Curve | None:
    return make_curve(load_grid(write_grid(folder, {"a": course}, **settings)).cells, "forward")


def _measured(folder: Path, course: Course, **settings: Any) -> Curve:
    curve = _curve(folder, course, **settings)
    assert curve is not None
    return curve


@pytest.mark.parametrize(("level", "rate"), [(0.9, 0.0068), (0.3, 0.2), (1.0, 0.001), (0.05, 0.03)])
def test_fit_finds_level_and_rate_of_an_exact_curve(level: float, rate: float) -> None:
    steps = [step * 16 for step in STEPS] if rate < 0.01 else STEPS
    fit = fit_saturation(steps, [level * (1 - math.exp(-rate * x)) for x in steps]).fit
    assert fit.level == pytest.approx(level, rel=1e-3)
    assert fit.rate == pytest.approx(rate, rel=1e-3)
    assert fit.at(100) == pytest.approx(level * (1 - math.exp(-rate * 100)), rel=1e-3)


def test_standard_errors_cover_the_truth_as_often_as_they_should() -> None:
    rng = np.random.default_rng(0)
    x = np.array(STEPS * 3, dtype=float)
    hits = 0
    for _ in range(200):
        noisy = np.clip(0.6 * (1 - np.exp(-0.05 * x)) + rng.normal(0, 0.03, len(x)), 0, 1)
        fit = fit_saturation(list(x), list(noisy)).fit
        hits += abs(fit.rate - 0.05) < 1.96 * fit.rate_error
    assert 0.87 < hits / 200 < 0.99


def test_level_never_leaves_the_range_of_an_accuracy() -> None:
    fit = fit_saturation([1, 2, 4, 8], [0.1, 0.2, 0.4, 0.8]).fit  # a straight line, towards 1 and beyond
    assert fit is None or 0 <= fit.level <= 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.4, 0.8], "2 points, a fit needs 3"),
        ([0.0, 0.0, 0.0, 0.0], "stays at 0"),
        ([0.8, 0.8, 0.8, 0.8], "at its level from the first point on"),
    ],
)
def test_no_fit_says_why(values: list[float], reason: str) -> None:
    outcome = fit_saturation(STEPS[: len(values)], values)
    assert outcome.fit is None
    assert outcome.reason == reason


def test_curve_runs_from_the_untouched_model_with_tokens_and_seconds(tmp_path: Path) -> None:
    curve = _measured(tmp_path, {0: (1, 0), 4: (10, 0), 8: (20, 0)}, tokens_per_step=50)
    assert [(p.step, p.tokens, p.seconds) for p in curve.points] == [(0, 0, 0), (4, 200, 8), (8, 400, 16)]
    assert [p.accuracy.value for p in curve.points] == [0.05, 0.5, 1.0]


def test_fit_leaves_out_the_untouched_model(tmp_path: Path) -> None:
    curve = _measured(tmp_path, {0: (19, 0), 4: (10, 0), 8: (20, 0)})
    assert fit_curve(curve).reason == "2 points, a fit needs 3"


def test_only_steps_that_every_seed_was_asked_at_are_in_the_curve(tmp_path: Path) -> None:
    folder = write_grid(tmp_path, {"a": {0: (0, 0), 4: (5, 0), 8: (9, 0)}}, seeds=(0, 1))
    file = folder / "embedded/a/seed-1/steps.jsonl"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if '"step": 4' not in line))
    curve = make_curve(load_grid(folder).cells, "forward")
    assert [point.step for point in curve.points] == [0, 8]


def test_level_is_reached_at_the_first_measured_point_at_or_above_it(tmp_path: Path) -> None:
    curve = _measured(tmp_path, {0: (0, 0), 4: (17, 0), 8: (18, 0), 16: (20, 0)})
    assert find_level(curve, 0.9).step == 8
    assert find_level(curve, 0.95).step == 16


def test_level_that_is_never_reached_is_none(tmp_path: Path) -> None:
    assert find_level(_measured(tmp_path, {0: (0, 0), 4: (17, 0)}), 0.9) is None


@pytest.mark.parametrize("course", [{0: (1, 0)}, None, "out of memory"])
def test_arm_that_was_not_trained_has_no_curve(tmp_path: Path, course: Course | str | None) -> None:
    assert _curve(tmp_path, course) is None


def test_a_curve_that_only_rises_has_no_level() -> None:
    steps = [8, 16, 32, 64, 128, 256]
    # The second is backward accuracy of demasking on 60 facts: its level would be 1.0 give or take 1.8.
    for values in ([0.0, 0.01, 0.0, 0.02, 0.01, 0.12], [0.0, 0.005, 0.002, 0.05, 0.18, 0.47]):
        fit, reason = fit_saturation(steps, values)
        assert fit is None
        assert reason == "the points do not say at which level it ends"
