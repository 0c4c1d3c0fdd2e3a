"""Accuracy over training: the points, a curve through them, and when a level is reached.

    curve = make_curve(cells, "backward", metric="contains")
    outcome = fit_saturation(curve.steps, curve.values)      # A (1 - exp(-k x)), as the paper fits
    reached = find_level(curve, 0.9)                         # the first measured point at or above it

Letters: x training steps, A the accuracy that a curve levels off at, k its rate per step.
Source: Pan et al. 2025 (arXiv 2510.09885), which compares arms by k. Importing this module costs scipy.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit

from demask.comparison.results import CellResult, Taken, average_questions, done_cells
from demask.evaluation.metrics import HEADLINE, Estimate

LEVEL = 0.9
# Two numbers are fitted; a third point says whether they mean anything.
FEWEST_POINTS = 3
# A curve that has come this close to its level by the first point only says that its rate is high.
_NEARLY = 0.99
# Standard error of a level beyond which the level means nothing: half of all that it can be.
_UNTOLD = 0.5


@dataclass(frozen=True)
class Point:
    """Accuracy at a step, with what it had taken by then, averaged over seeds; None where not logged."""

    step: int
    tokens: float | None
    seconds: float | None
    accuracy: Estimate


@dataclass(frozen=True)
class Curve:
    """Accuracy of one arm in one direction, in the order of steps, from the base model on."""

    model: str
    arm: str
    direction: str
    points: tuple[Point, ...]

    @property
    def trained(self) -> tuple[Point, ...]:
        """The points after the base model."""
        return tuple(point for point in self.points if point.step > 0)


@dataclass(frozen=True)
class Fit:
    """Level and rate of A (1 - exp(-k x)), with standard errors; A in [0, 1], k > 0 per step."""

    level: float
    rate: float
    level_error: float
    rate_error: float

    def at(self, step: float) -> float:
        """The fitted accuracy at a step."""
        return -self.level * math.expm1(-self.rate * step)


class FitOutcome(NamedTuple):
    """A fit, or None and why there is none."""

    fit: Fit | None
    reason: str = ""


def make_curve(cells: Sequence[CellResult], direction: str, *, metric: str = HEADLINE) -> Curve | None:
    """The curve of one arm, from its seeds that are done; None when nothing was asked while training.

    Only steps at which every seed was asked are in it.
    """
    done = done_cells(cells)
    if not done:
        return None
    shared = sorted(set.intersection(*(set(cell.scores) for cell in done)))
    points = []
    for step in shared:
        accuracy = average_questions(done, [cell.scores[step] for cell in done], direction, metric).estimate()
        if accuracy is not None:
            taken = _taken_by(done, step)
            points.append(Point(step, *taken, accuracy))
    curve = Curve(done[0].model, done[0].arm, direction, tuple(points))
    return curve if curve.trained else None


def fit_curve(curve: Curve) -> FitOutcome:
    """As `fit_saturation`, of the points after the base model: the form is 0 at step 0 by itself."""
    trained = curve.trained
    return fit_saturation([point.step for point in trained], [point.accuracy.value for point in trained])


def fit_saturation(steps: Sequence[float], values: Sequence[float]) -> FitOutcome:
    """Fit A (1 - exp(-k x)) by least squares.

    There is no fit of fewer than three points, of accuracies that never leave 0 or are at their level from
    the first point on, which does not say how fast they rose, of such as still rise so that no level can be
    told, and where the search does not converge.

    Args:
        steps: above 0.
        values: accuracies in [0, 1].
    """
    if len(steps) < FEWEST_POINTS:
        return FitOutcome(None, f"{len(steps)} points, a fit needs {FEWEST_POINTS}")
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if not y.any():
        return FitOutcome(None, "stays at 0")
    # In units of the last step, so that both numbers are searched for on the same scale.
    unit = float(x.max())
    start = _guess(x / unit, y)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", OptimizeWarning)
            found, covariance = curve_fit(
                _saturation, x / unit, y, p0=start, bounds=([0.0, 0.0], [1.0, math.inf])
            )
    except (RuntimeError, OptimizeWarning):
        return FitOutcome(None, "does not converge")
    errors = np.sqrt(np.diag(covariance))
    if -math.expm1(-found[1] * x.min() / unit) > _NEARLY:
        return FitOutcome(None, "at its level from the first point on")
    if errors[0] > _UNTOLD:
        return FitOutcome(None, "the points do not say at which level it ends")
    level, rate = float(found[0]), float(found[1]) / unit
    return FitOutcome(Fit(level, rate, float(errors[0]), float(errors[1]) / unit))


def find_level(curve: Curve, level: float = LEVEL) -> Point | None:
    """The first measured point at or above a level, None when there is none.

    It was reached somewhere between this point and the one before.
    """
    return next((point for point in curve.points if point.accuracy.value >= level), None)


def _saturation(x: NDArray[np.float64], level: float, rate: float) -> NDArray[np.float64]:
    return -level * np.expm1(-rate * x)


def _guess(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Levels off at the highest point, and is half way up where the points first are."""
    level = float(y.max())
    half_way = float(x[np.argmax(y >= level / 2)])
    return level, math.log(2) / half_way


def _taken_by(cells: Sequence[CellResult], step: int) -> tuple[float | None, float | None]:
    """Tokens and seconds by a step, averaged over cells; a straight line between steps that were logged."""
    if not all(cell.taken for cell in cells):
        return None, None
    logs = [np.array([Taken(0, 0, 0), *cell.taken], dtype=np.float64).T for cell in cells]
    tokens, seconds = (
        math.fsum(float(np.interp(step, log[0], log[place])) for log in logs) / len(logs) for place in (1, 2)
    )
    return tokens, seconds
