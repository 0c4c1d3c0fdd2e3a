"""How often intervals hold the truth and p-values reject it, simulated: few documents, clustered answers.

A document's chance of an answer is drawn from a beta distribution; `alike` is the correlation of the answers
on one document. Each simulation's own error is 3 standard errors of its share.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from demask.evaluation import statistics
from demask.evaluation.statistics import bounded_p_value, compare_paired, estimate_mean

LEVEL = 0.05
RUNS = 120
# Documents and questions on each.
SIZES = ((8, 4), (10, 8), (20, 1), (20, 4))


@pytest.fixture(autouse=True)
def _few_sign_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drawn p-value holds with any number of draws; thousands would take minutes."""
    monkeypatch.setattr(statistics, "SIGN_FLIPS", 499)


class Arm(NamedTuple):
    """What an arm answers: a share, and how alike the questions of a document are (0 to 1)."""

    share: float
    alike: float = 0.3

    def draw(self, rng: np.random.Generator, documents: int, questions: int) -> NDArray[np.float64]:
        """Scores, document by document."""
        share = np.full(documents, self.share)
        if 0 < self.share < 1 and self.alike > 0:
            total = (1 - self.alike) / self.alike
            share = rng.beta(self.share * total, (1 - self.share) * total, documents)
        return rng.binomial(1, np.repeat(share, questions)).astype(float)


def name_documents(documents: int, questions: int) -> list[str]:
    return [f"d{document:02d}" for document in range(documents) for _ in range(questions)]


def simulate(
    arms: Sequence[Arm], size: tuple[int, int], rejects: Callable[..., bool], runs: int = RUNS
) -> float:
    """The share of runs in which `rejects(*scores of each arm, clusters)`."""
    rng = np.random.default_rng(abs(hash((tuple(arms), size))) % 2**32)
    clusters = name_documents(*size)
    return sum(rejects(*(arm.draw(rng, *size) for arm in arms), clusters) for _ in range(runs)) / runs


def at_most(level: float, runs: int = RUNS) -> float:
    return level + 3 * math.sqrt(level * (1 - level) / runs)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("alike", [0.0, 0.3, 0.8])
def test_interval_of_a_mean_holds_the_truth(size: tuple[int, int], share: float, alike: float) -> None:
    def misses(scores: NDArray[np.float64], clusters: list[str]) -> bool:
        estimate = estimate_mean(list(scores), clusters)
        return not estimate.low <= share <= estimate.high

    assert simulate([Arm(share, alike)], size, misses) <= at_most(LEVEL)


# Before and after; the t interval of the differences missed up to 0.17 of these.
CHANGES = [
    (Arm(0.02), Arm(0.02)),
    (Arm(0.02), Arm(0.12)),
    (Arm(0.02, 0.0), Arm(0.12, 0.8)),
    (Arm(0.05), Arm(0.9)),
    (Arm(0.05, 0.0), Arm(0.9, 0.8)),
    (Arm(0.02, 0.0), Arm(0.97, 0.8)),
    (Arm(0.5), Arm(0.5)),
    (Arm(0.4, 0.8), Arm(0.6, 0.8)),
    (Arm(0.9), Arm(0.98)),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("arms", CHANGES)
def test_interval_of_a_change_holds_the_truth(size: tuple[int, int], arms: tuple[Arm, Arm]) -> None:
    truth = arms[1].share - arms[0].share

    def misses(before: NDArray[np.float64], after: NDArray[np.float64], clusters: list[str]) -> bool:
        change = compare_paired(list(before), list(after), clusters)
        return not change.low - 1e-9 <= truth <= change.high + 1e-9

    assert simulate(arms, size, misses) <= at_most(LEVEL)


# Equal means; of the last three, whose documents differ in kind, sign flips alone rejected up to 0.18.
NO_CHANGE = [
    (Arm(0.02), Arm(0.02)),
    (Arm(0.1), Arm(0.1)),
    (Arm(0.5), Arm(0.5)),
    (Arm(0.95, 0.8), Arm(0.95, 0.8)),
    (Arm(0.1, 0.8), Arm(0.1, 0.0)),
    (Arm(0.05, 0.8), Arm(0.05, 0.0)),
    (Arm(0.9, 0.0), Arm(0.9, 0.8)),
]


@pytest.mark.parametrize("size", [(8, 4), (10, 8), (20, 8)])
@pytest.mark.parametrize("arms", NO_CHANGE)
def test_p_value_of_a_change_rejects_a_twentieth_where_nothing_changed(
    size: tuple[int, int], arms: tuple[Arm, Arm]
) -> None:
    def rejects(before: NDArray[np.float64], after: NDArray[np.float64], clusters: list[str]) -> bool:
        return compare_paired(list(before), list(after), clusters).p_value < LEVEL

    assert simulate(arms, size, rejects) <= at_most(LEVEL)


def test_p_value_of_a_change_finds_what_eight_documents_can_show() -> None:
    def rejects(before: NDArray[np.float64], after: NDArray[np.float64], clusters: list[str]) -> bool:
        return compare_paired(list(before), list(after), clusters).p_value < LEVEL

    assert simulate((Arm(0.05), Arm(0.9)), (8, 2), rejects) > 0.8
    assert simulate((Arm(0.2), Arm(0.7)), (20, 4), rejects) > 0.8
    assert simulate((Arm(0.3), Arm(0.6)), (20, 4), rejects) > 0.6  # measured: 0.65


# A lift of exactly 0.1, which is not below 0.1.
@pytest.mark.parametrize("size", [*SIZES, (60, 4)])
@pytest.mark.parametrize("before", [0.0, 0.05, 0.45, 0.9])
@pytest.mark.parametrize("alike", [0.0, 0.3, 0.8])
def test_a_lift_at_the_margin_is_called_none_in_a_twentieth(
    size: tuple[int, int], before: float, alike: float
) -> None:
    def rejects(first: NDArray[np.float64], second: NDArray[np.float64], clusters: list[str]) -> bool:
        return bounded_p_value(list(0.1 - (second - first)), clusters, least=-0.9) < LEVEL

    assert simulate((Arm(before, alike), Arm(before + 0.1, alike)), size, rejects) <= at_most(LEVEL)


def test_no_lift_is_found_where_many_documents_show_it() -> None:
    def rejects(first: NDArray[np.float64], second: NDArray[np.float64], clusters: list[str]) -> bool:
        return bounded_p_value(list(0.1 - (second - first)), clusters, least=-0.9) < LEVEL

    assert simulate((Arm(0.02), Arm(0.02)), (60, 4), rejects) > 0.8


@pytest.mark.parametrize("size", [*SIZES, (60, 4)])
@pytest.mark.parametrize("alike", [0.0, 0.3, 0.8, 0.99])
def test_a_share_of_a_half_is_called_less_in_a_twentieth(size: tuple[int, int], alike: float) -> None:
    def rejects(scores: NDArray[np.float64], clusters: list[str]) -> bool:
        return bounded_p_value(list(0.5 - scores), clusters, least=-0.5) < LEVEL

    assert simulate([Arm(0.5, alike)], size, rejects) <= at_most(LEVEL)


def test_less_than_a_half_is_found_with_ten_documents() -> None:
    def rejects(scores: NDArray[np.float64], clusters: list[str]) -> bool:
        return bounded_p_value(list(0.5 - scores), clusters, least=-0.5) < LEVEL

    assert simulate([Arm(0.1)], (10, 4), rejects) > 0.8


@pytest.mark.parametrize(("right", "documents"), [(0, 10), (3, 10), (7, 20), (20, 20)])
def test_bounded_p_value_of_whole_documents_is_the_binomial_tail(right: int, documents: int) -> None:
    values = [0.4 - 1.0] * right + [0.4] * (documents - right)
    found = bounded_p_value(values, name_documents(documents, 1), least=-0.6)
    assert found == pytest.approx(stats.binom.cdf(right, documents, 0.4))


def test_bounded_p_value_is_the_chance_of_a_weighted_sum_not_above_zero() -> None:
    values, clusters = [0.4, -0.2, 0.3, 0.3, -0.1, 0.0, 0.2], ["a", "a", "b", "b", "c", "d", "e"]
    sums, pseudo = np.array([0.2, 0.6, -0.1, 0.0, 0.2]), -0.5 * 2
    weights = np.random.default_rng(0).dirichlet(np.ones(6), 400_000)
    expected = np.mean(weights @ np.append(sums, pseudo) <= 0)
    assert bounded_p_value(values, clusters, least=-0.5) == pytest.approx(expected, abs=0.004)


def test_bounded_p_value_knows_neither_order_nor_names_of_documents() -> None:
    values = [0.4, -0.2, 0.3, 0.1, -0.1]
    found = {
        round(bounded_p_value(list(order), name_documents(5, 1), least=-0.5), 12)
        for order in itertools.permutations(values)
    }
    assert len(found) == 1


def test_bounded_p_value_of_thousands_of_documents_is_that_of_a_normal_mean() -> None:
    values = np.random.default_rng(1).choice([-0.5, 0.5], 3_000)
    z = values.mean() / values.std() * math.sqrt(len(values))
    assert bounded_p_value(list(values), name_documents(3_000, 1), least=-0.5) == pytest.approx(
        stats.norm.sf(z), abs=0.02
    )


def test_values_below_the_least_are_refused() -> None:
    with pytest.raises(ValueError, match=r"value 1 is -0.7, expected -0.5 or more"):
        bounded_p_value([0.1, -0.7], ["a", "b"], least=-0.5)
    with pytest.raises(ValueError, match="least is 0"):
        bounded_p_value([0.1], ["a"], least=0)
