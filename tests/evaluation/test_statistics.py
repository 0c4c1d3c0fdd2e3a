"""Means, changes and their intervals, against closed forms, brute force and simulation."""

import itertools
import math
from dataclasses import fields
from typing import get_args

import numpy as np
import pytest
from scipy import stats

from demask.errors import DataError
from demask.evaluation.metrics import METRICS, Change, Estimate, Score
from demask.evaluation.statistics import (
    compare_paired,
    estimate_mean,
    summarise,
    summarise_changes,
)
from demask.records import Direction, QAPair

pytestmark = pytest.mark.smoke


def documents(count: int, questions: int = 1) -> list[str]:
    return [f"d{document}" for document in range(count) for _ in range(questions)]


def make_score(qa_id: str, value: float) -> Score:
    return Score(qa_id, dict.fromkeys(METRICS, value))


def make_pair(place: int, direction: Direction) -> QAPair:
    return QAPair(f"q{place}", f"d{place // 2}", "Who?", ("Voss",), direction)


def test_one_question_per_document_gives_the_plain_wilson_interval_with_a_t_quantile() -> None:
    n, right = 12, 9
    estimate = estimate_mean([1.0] * right + [0.0] * (n - right), documents(n))
    # Wilson's bounds solve (p - x)^2 = t^2 x (1 - x) / n for x.
    p, t = right / n, stats.t.ppf(0.975, n - 1)
    bounds = np.sort(np.roots([1 + t**2 / n, -(2 * p + t**2 / n), p**2]))
    assert (estimate.low, estimate.high) == pytest.approx(tuple(bounds))
    assert (estimate.value, estimate.n) == (p, n)


def test_repeating_every_question_adds_no_certainty() -> None:
    once = estimate_mean([1.0, 0.0, 1.0, 1.0, 0.0, 1.0], documents(6))
    ten_times = estimate_mean(list(np.repeat([1.0, 0.0, 1.0, 1.0, 0.0, 1.0], 10)), documents(6, 10))
    assert ten_times.n == 60
    # Up to the (n - 1) / n of an unbiased variance.
    assert ten_times.high - ten_times.low == pytest.approx(once.high - once.low, rel=0.06)
    assert ten_times.high - ten_times.low >= once.high - once.low


def test_variance_is_that_of_a_ratio_when_documents_differ_in_size() -> None:
    values, clusters = [1.0, 1.0, 1.0, 0.0, 1.0, 0.0], ["a", "a", "a", "b", "b", "c"]
    estimate = estimate_mean(values, clusters)
    # By hand: p = 2/3; summed residuals 1, -1/3, -2/3; times G / (G - 1) = 3/2; over n^2 = 36.
    variance = 1.5 * (1 + 1 / 9 + 4 / 9) / 36
    size = 6 * ((2 / 9) / 5) / variance
    t = stats.t.ppf(0.975, 2)
    centre = (2 / 3 + t**2 / (2 * size)) / (1 + t**2 / size)
    assert (estimate.low + estimate.high) / 2 == pytest.approx(centre)


def test_the_order_of_questions_does_not_matter() -> None:
    values, clusters = [1.0, 0.5, 0.0, 1.0, 0.25], ["b", "a", "b", "c", "a"]
    assert estimate_mean(values, clusters) == estimate_mean(values[::-1], clusters[::-1])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_unanimous_scores_keep_an_interval_with_every_document_as_one_question(value: float) -> None:
    estimate = estimate_mean([value] * 40, documents(10, 4))
    t = stats.t.ppf(0.975, 9)
    width = t**2 / (10 + t**2)
    assert (estimate.low, estimate.high) == pytest.approx((0.0, width) if value == 0 else (1 - width, 1.0))
    assert estimate.value == value


def test_equal_documents_with_mixed_scores_count_every_question() -> None:
    estimate = estimate_mean([1.0, 0.0] * 8, documents(8, 2))
    t = stats.t.ppf(0.975, 7)
    assert estimate.high - 0.5 == pytest.approx(t / (2 * math.sqrt(16 + t**2)))


def test_one_document_says_nothing_about_others() -> None:
    assert estimate_mean([1.0, 1.0, 0.0, 1.0], documents(1, 4)) == Estimate(0.75, 0.0, 1.0, 4)


def test_bounds_enclose_the_mean_and_stay_scores() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = int(rng.integers(2, 8))
        values = rng.beta(0.2, 0.2, count * 3).round(int(rng.integers(0, 3)))
        estimate = estimate_mean(list(values), documents(count, 3))
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.low < estimate.high


def test_more_confidence_is_a_wider_interval() -> None:
    values, clusters = [1.0, 0.0, 1.0, 1.0], documents(4)
    narrow, wide = (estimate_mean(values, clusters, confidence=share) for share in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("p", [0.5, 0.9])
def test_intervals_cover_the_truth_when_questions_on_a_document_are_alike(p: float) -> None:
    count, questions, runs, correlation = 10, 4, 600, 0.3
    rng = np.random.default_rng(1)
    total = (1 - correlation) / correlation
    shares = rng.beta(p * total, (1 - p) * total, (runs, count))
    scores = rng.binomial(1, np.repeat(shares, questions, axis=1)).astype(float)
    estimates = [estimate_mean(list(row), documents(count, questions)) for row in scores]
    assert np.mean([estimate.low <= p <= estimate.high for estimate in estimates]) >= 0.92
    # Not bought with width: a normal interval that knows the correlation is 4 * 0.109 wide at 0.5.
    assert np.mean([estimate.high - estimate.low for estimate in estimates]) < 0.46


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([0.5, 1.2], ["a", "b"], "value 1 is 1.2"),
        ([-0.1], ["a"], "value 0 is -0.1"),
        ([math.nan], ["a"], "value 0 is nan"),
        ([0.5, 0.5], ["a"], "2 values and 1 clusters"),
    ],
)
def test_what_is_no_score_is_refused(values: list[float], clusters: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_mean(values, clusters)


def test_a_confidence_in_percent_is_refused() -> None:
    with pytest.raises(ValueError, match="confidence is 95"):
        estimate_mean([0.0, 1.0], ["a", "b"], confidence=95)


def test_the_mean_of_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="no scores"):
        estimate_mean([], [])
    with pytest.raises(DataError, match="no scores"):
        compare_paired([], [], [])


def test_p_value_is_the_share_of_sign_flips_at_least_as_far_from_zero() -> None:
    before = [0.0, 0.25, 0.0, 0.5, 1.0, 0.0, 0.5]
    after = [1.0, 0.75, 1.0, 0.5, 0.75, 1.0, 0.75]
    clusters = ["a", "a", "b", "b", "c", "d", "d"]
    sums = [1.5, 1.0, -0.25, 1.25]
    flipped = [abs(np.dot(signs, sums)) for signs in itertools.product([1, -1], repeat=4)]
    expected = np.mean([total >= sum(sums) for total in flipped])
    change = compare_paired(before, after, clusters)
    assert change.p_value == pytest.approx(expected)
    assert (change.difference, change.n, change.documents) == (3.5 / 7, 7, 4)


def test_documents_and_not_questions_are_flipped() -> None:
    change = compare_paired([0.0] * 20, [1.0] * 20, documents(5, 4))
    assert change.p_value == pytest.approx(2 / 2**5)


def test_p_value_of_many_documents_is_drawn_with_the_seed() -> None:
    rng = np.random.default_rng(3)
    before, after = (rng.random((2, 60)) < [[0.3], [0.5]]).astype(float).tolist()
    first, again, other = (compare_paired(before, after, documents(30, 2), seed=s) for s in (7, 7, 8))
    assert first == again
    assert first.p_value != other.p_value
    assert first.p_value == pytest.approx(other.p_value, abs=0.03)


def test_a_sure_change_of_many_documents_never_has_a_p_value_of_zero() -> None:
    change = compare_paired([0.0] * 40, [1.0] * 40, documents(40))
    assert 0 < change.p_value <= 2 / 10_000


def test_interval_of_a_change_puts_those_of_both_means_together() -> None:
    before, after, clusters = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 1.0, 1.0, 0.0, 1.0], documents(6)
    change = compare_paired(before, after, clusters)
    first, second = estimate_mean(before, clusters), estimate_mean(after, clusters)
    r = np.corrcoef(before, after)[0, 1]
    down, up = (
        (second.value - second.low, first.high - first.value),
        (
            second.high - second.value,
            first.value - first.low,
        ),
    )
    low, high = (math.sqrt(a**2 + b**2 - 2 * r * a * b) for a, b in (down, up))
    assert (change.low, change.high) == pytest.approx((1 / 3 - low, 1 / 3 + high))


def test_p_value_below_a_twentieth_means_an_interval_without_zero() -> None:
    rng = np.random.default_rng(5)
    surprises = 0
    for _ in range(300):
        before, after = (rng.random((2, 24)) < rng.random((2, 1))).astype(float).tolist()
        change = compare_paired(before, after, documents(8, 3))
        surprises += change.p_value < 0.05 and change.low <= 0 <= change.high
    assert surprises == 0


def test_scores_that_average_more_answers_give_a_narrower_interval() -> None:
    before, after = [0.4, 0.6, 0.5, 0.4, 0.6], [0.6, 0.8, 0.8, 0.7, 0.6]
    one, three = (compare_paired(before, after, documents(5), repeats=count) for count in (1, 3))
    assert one.low < three.low < three.high < one.high


def test_swapping_before_and_after_mirrors_the_change() -> None:
    before, after, clusters = [0.0, 0.5, 1.0, 0.0, 0.5, 0.0], [1.0, 0.5, 0.5, 1.0, 1.0, 1.0], documents(3, 2)
    there, back = compare_paired(before, after, clusters), compare_paired(after, before, clusters)
    assert (back.difference, back.low, back.high) == (-there.difference, -there.high, -there.low)
    assert back.p_value == there.p_value


def test_bounds_of_a_change_are_cut_to_what_is_possible() -> None:
    change = compare_paired([0.0, 0.0], [1.0, 1.0], documents(2))
    assert -1 <= change.low < 0
    assert (change.difference, change.high) == (1.0, 1.0)


def test_no_change_at_all_has_a_p_value_of_one_and_an_honest_interval() -> None:
    change = compare_paired([0.5, 1.0] * 10, [0.5, 1.0] * 10, documents(10, 2))
    assert -0.4 < change.low == -change.high < -0.2
    assert (change.difference, change.p_value) == (0.0, 1.0)


def test_the_greatest_change_keeps_an_interval() -> None:
    change = compare_paired([0.0] * 10, [1.0] * 10, documents(10))
    assert 0 < change.low < change.difference == change.high == 1.0


def test_a_change_of_one_document_proves_nothing() -> None:
    assert compare_paired([0.0, 0.0], [1.0, 1.0], ["a", "a"]) == Change(1.0, -1.0, 1.0, 1.0, 2, 1)


def test_before_and_after_must_be_the_same_questions() -> None:
    with pytest.raises(ValueError, match="2 values before and 1 after"):
        compare_paired([0.0, 1.0], [1.0], ["a", "b"])


def test_summary_keeps_forward_and_backward_apart() -> None:
    pairs = [make_pair(place, "backward" if place % 2 else "forward") for place in range(8)]
    scores = [make_score(pair.id, float(pair.direction == "forward")) for pair in pairs]
    summary = summarise(scores[::-1], pairs)
    assert list(summary) == ["forward", "backward"]
    assert all(list(metrics) == list(METRICS) for metrics in summary.values())
    assert {metrics["f1"]["value"] for metrics in summary.values()} == {1.0, 0.0}
    assert set(summary["forward"]["f1"]) == {"value", "low", "high", "n"}
    assert summary["forward"]["contains"]["n"] == 4


def test_summary_reads_every_metric_from_its_own_field() -> None:
    pairs = [make_pair(0, "forward"), make_pair(2, "forward")]
    stored = {"exact_match": 0.1, "contains": 0.2, "f1": 0.3, "rouge1_recall": 0.4}
    scores = [Score(pair.id, stored) for pair in pairs]
    values = {metric: numbers["value"] for metric, numbers in summarise(scores, pairs)["forward"].items()}
    assert values == pytest.approx(stored)


def test_summary_clusters_by_document() -> None:
    pairs = [make_pair(place, "forward") for place in range(6)]
    scores = [make_score(pair.id, 1.0) for pair in pairs]
    expected = estimate_mean([1.0] * 6, documents(3, 2))
    assert summarise(scores, pairs)["forward"]["f1"]["low"] == expected.low


def test_summary_of_changes_is_paired_by_question() -> None:
    pairs = [make_pair(place, "forward") for place in range(4)]
    before = [make_score(pair.id, 0.0) for pair in pairs]
    after = [make_score(pair.id, value) for pair, value in zip(pairs, (1.0, 0.5, 1.0, 0.0), strict=True)]
    changes = summarise_changes(before, after[::-1], pairs)
    assert list(changes) == ["forward"]
    expected = compare_paired([0.0] * 4, [1.0, 0.5, 1.0, 0.0], documents(2, 2))
    assert changes["forward"]["f1"] == vars(expected)
    assert set(changes["forward"]["f1"]) == {field.name for field in fields(Change)}


def test_every_known_direction_is_summarised() -> None:
    pairs = [make_pair(place, direction) for place, direction in enumerate(get_args(Direction))]
    assert set(summarise([make_score(pair.id, 1.0) for pair in pairs], pairs)) == set(get_args(Direction))


def test_a_summary_of_unmatched_scores_is_an_error() -> None:
    pairs = [make_pair(0, "forward"), make_pair(1, "forward")]
    with pytest.raises(DataError, match="no score"):
        summarise([make_score("q0", 1.0)], pairs)
    with pytest.raises(DataError, match="no known QA pair"):
        summarise([make_score(id, 1.0) for id in ("q0", "q1", "q9")], pairs)
    with pytest.raises(DataError, match="no QA pairs"):
        summarise([], [])
