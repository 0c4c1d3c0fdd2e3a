"""Two arms on the same questions, each trained with several seeds: what holds for other seeds and questions.

    change = compare_crossed(differences_SQ, clusters, margin=0.05)
    change.low, change.high, change.p_value, change.p_equivalent
    detectable_difference(change.error, freedom=change.freedom)

`statistics.compare_paired` takes the runs as they are and speaks of other questions alone. Here the variance
of the mean is that of the seeds' means plus that of the clusters' means (Cameron, Gelbach and Miller 2011);
what both share is counted twice, which errs towards intervals that are too wide. Student's t, with the
degrees of freedom of Satterthwaite 1946. Equivalence: two one-sided t tests (Schuirmann 1987). S is seeds,
Q questions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from demask.errors import DataError
from demask.evaluation.statistics import CONFIDENCE, sum_clusters

# Variances below this are rounding.
_ZERO_VARIANCE = 1e-18
POWER = 0.8


@dataclass(frozen=True)
class CrossedChange:
    """A mean difference over seeds and questions.

    Attributes:
        difference: the mean, in [-1, 1].
        low: lower end of the 95% interval.
        high: upper end of the interval.
        p_value: two-sided, of no difference.
        p_equivalent: that a difference of the margin or more would look as small as this one.
        error: standard error of the difference.
        freedom: degrees of freedom of that error.
    """

    difference: float
    low: float
    high: float
    p_value: float
    p_equivalent: float
    error: float
    freedom: float


def compare_crossed(
    differences_SQ: NDArray[np.float64], clusters: Sequence[str], *, margin: float
) -> CrossedChange:
    """The mean difference of two arms with its interval, a test of none, and a test of equivalence.

    Args:
        differences_SQ: first minus second arm, for each seed and question, in [-1, 1].
        clusters: what makes questions alike, for each question.
        margin: differences below it are of no account.

    Raises:
        DataError: there are fewer than two seeds or two clusters.
        ValueError: `clusters` has another length, or the margin is not above 0.
    """
    if margin <= 0:
        raise ValueError(f"margin is {margin}, expected a number above 0")
    seeds, groups = len(differences_SQ), len(set(clusters))
    if seeds < 2 or groups < 2:
        raise DataError(f"{seeds} seeds and {groups} clusters of questions: expected at least two of each")
    by_question_Q = differences_SQ.mean(axis=0)
    mean = float(by_question_Q.mean())
    of_seeds = float(differences_SQ.mean(axis=1).var(ddof=1)) / seeds
    residuals = sum_clusters(by_question_Q - mean, clusters)
    of_questions = groups / (groups - 1) * float(np.sum(residuals**2)) / len(by_question_Q) ** 2
    variance = of_seeds + of_questions
    if variance < _ZERO_VARIANCE:
        # No spread says nothing of its size: were a share `margin` of all clusters answered differently, none
        # of these would be with this chance.
        unseen = (1 - margin) ** groups if abs(mean) < margin else 1.0
        low, high = max(-1.0, mean - 3 / groups), min(1.0, mean + 3 / groups)  # the rule of three
        by_chance = 1.0 if mean == 0 else 2 * 0.5**groups  # all clusters on one side
        return CrossedChange(mean, low, high, by_chance, unseen, 0.0, seeds - 1)
    freedom = variance**2 / (of_seeds**2 / (seeds - 1) + of_questions**2 / (groups - 1))
    error = math.sqrt(variance)
    half_width = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return CrossedChange(
        mean,
        mean - half_width,
        mean + half_width,
        p_value=2 * float(stats.t.sf(abs(mean) / error, freedom)),
        p_equivalent=float(stats.t.sf((margin - abs(mean)) / error, freedom)),
        error=error,
        freedom=freedom,
    )


def detectable_difference(error: float, *, freedom: float) -> float:
    """The true difference that a two-sided test at 5% finds in 80 of 100 experiments.

    Args:
        error: standard error of the difference.
        freedom: degrees of freedom of that error.
    """
    return error * float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) + stats.t.ppf(POWER, freedom))
