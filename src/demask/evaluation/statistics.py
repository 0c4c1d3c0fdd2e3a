"""From scores to metrics: means and changes with intervals that know about documents.

    estimate = estimate_mean(values, clusters=document_ids)
    change = compare_paired(before, after, clusters=document_ids)
    drift = estimate_ratio([3.1, 4.0], [90, 120], least=0.0)       # nats per token of two texts
    # Is the lift below 0.1? No value of 0.1 - lift can lie below 0.1 - 1.
    p_value = bounded_p_value([0.1 - lift for lift in lifts], document_ids, least=0.1 - 1)

Questions on one document are learned or missed together, so documents, not questions, are the
unit: every interval and p-value clusters by document. Forward and backward are never merged.

Letters: n questions, G documents (clusters), p a mean score. Values and bounds are shares in
[0, 1], differences in [-1, 1], never percent.

Sources: Korn & Graubard 1998 (Survey Methodology 24, intervals for proportions from clustered
data), Wilson 1927 (score interval), Cochran 1977 (linearised variance of a ratio), Newcombe 1998
(Statistics in Medicine 17, differences of paired proportions), Zou & Donner 2008 (Statistics in Medicine 27,
intervals of a difference from those of its parts), Gaffke 2005 (Mathematical Methods of Statistics 14, tests
of the mean of a nonnegative variable), Learned-Miller & Thomas 2019 (arXiv 1905.06208, the same as confidence
bounds). Import it where it is needed, as scipy.stats is slow.

tests/evaluation/test_calibration.py simulates how often intervals hold and p-values reject.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from demask.errors import DataError
from demask.evaluation.metrics import METRICS, Change, Estimate, Score, align_with_pairs
from demask.records import DIRECTIONS, QAPair

Numbers = dict[str, float | int]

CONFIDENCE = 0.95
# Sign flips drawn when they cannot all be tried; with the seen one added, the smallest p-value is
# 2 / 10,000, two-sided. All are tried for 13 documents or fewer (2 ** 13 = 8,192).
SIGN_FLIPS = 9_999
# Bounds memory: 1,000 flips of 10,000 documents are 80 MB.
_FLIPS_AT_ONCE = 1_000
# Of documents' scores in the two arms: a few documents may agree by chance, and a correlation of 1
# would leave no width. Simulated with 8 to 20 documents, 1 instead covers 0.90 where 0.8 covers 0.97.
_MAX_CORRELATION = 0.8
# Where the search for the interval that touches 0 ends: no p-value of sign flips is as small as this gives.
_MAX_QUANTILE = 1e3
# Variances below this are rounding: scores differ by far more than 1e-9 when they differ.
_ZERO_VARIANCE = 1e-18


@dataclass(frozen=True)
class _ClusteredMean:
    """A mean and what its uncertainty needs."""

    value: float
    variance: float  # of the mean, clustered; meaningless when documents == 1
    n: int
    documents: int


@dataclass(frozen=True)
class _PairedMeans:
    """Two means of the same questions."""

    before: _ClusteredMean
    after: _ClusteredMean
    difference: float
    correlation: float  # of the documents' summed residuals, in [-1, _MAX_CORRELATION]
    repeats: int  # answers that each score averages


class _Bounds(NamedTuple):
    low: float
    high: float


def estimate_mean(
    values: Sequence[float], clusters: Sequence[str], *, confidence: float = CONFIDENCE
) -> Estimate:
    """The mean of scores with an interval that stays inside [0, 1] and never collapses.

    The textbook mean +- 1.96 standard errors fails here twice: questions on one document are not
    independent, and near 0 and 1, where a tuned or a base model scores, it leaves [0, 1] or
    has no width. So, after Korn & Graubard 1998: the clustered variance says how many independent
    questions the n are worth, and the Wilson interval is taken with that effective size and with
    Student's t on G - 1 degrees of freedom. They use Clopper-Pearson bounds; Wilson's are
    shorter and, unlike those, make sense for fractional scores such as F1.

    When all values are 0 or all are 1, nothing shows how alike the questions of a document are;
    each document then counts as one question, the worst case. So a perfect score can have a
    lower bound below that of a nearly perfect one.

    With one document there is nothing to tell its luck from the model's skill: the interval is
    [0, 1], which is also what Wilson's tends to as t grows without bound.

    Args:
        values: scores in [0, 1].
        clusters: the document of each value.
        confidence: in (0, 1).

    Raises:
        DataError: there are no values.
        ValueError: a value lies outside [0, 1], `clusters` has another length, or
            `confidence` lies outside (0, 1).
    """
    mean = _clustered_mean(_as_scores(values), clusters)
    if mean.documents == 1:
        return Estimate(mean.value, 0.0, 1.0, mean.n)
    quantile = t_quantile(confidence, mean.documents)
    return _wilson(mean, _effective_size(mean), quantile)


def compare_paired(
    before: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[str],
    *,
    seed: int = 0,
    repeats: int = 1,
) -> Change:
    """The mean of after minus before on the same questions, with interval and p-value.

    The 95% interval puts together those of the two means (`estimate_mean`), with the correlation of the
    documents' scores, after Newcombe 1998 and Zou & Donner 2008. So it stays in [-1, 1] and keeps a width
    where all documents changed alike. A t interval of the differences, simulated with 10 documents near 0 and
    1, covered as little as 0.83; this one 0.93 or more.

    The p-value is the larger of two, both two-sided. One is that of sign flips over documents: if training
    changed nothing, a document's summed difference is as likely to be its negative. It is exact
    for 13 documents or fewer and drawn `SIGN_FLIPS` times otherwise; it cannot fall below 2 / 2**G, so fewer
    than six documents never reach p < 0.05. The other is that of the interval: 1 minus the highest
    confidence at which it does not hold 0. Sign flips alone reject too often (0.18 instead of 0.05,
    simulated) where the means are equal but one arm answers whole documents and the other single questions.
    With one document the interval is [-1, 1] and the p-value 1.

    Both speak of other documents like these, with these very runs: what another seed of training would
    have given is in neither.

    Args:
        before: scores in [0, 1].
        after: scores in [0, 1] of the same questions in the same order.
        clusters: the document of each question.
        seed: of the drawn sign flips.
        repeats: how many answers each score averages, as of several seeds of training.

    Raises:
        DataError: there are no values.
        ValueError: lengths differ, or a value lies outside [0, 1].
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} values before and {len(after)} after, expected the same questions")
    means = _pair_means(_as_scores(before), _as_scores(after), clusters, repeats)
    documents = means.before.documents
    bounds = _Bounds(-1.0, 1.0)
    p_value = 1.0
    if documents > 1:
        bounds = _difference_bounds(means, t_quantile(CONFIDENCE, documents))
        sums = sum_clusters(_as_scores(after) - _as_scores(before), clusters)
        p_value = max(_sign_flip_p_value(sums, seed), _interval_p_value(means))
    return Change(means.difference, bounds.low, bounds.high, p_value, means.before.n, documents)


def estimate_ratio(
    sums: Sequence[float],
    counts: Sequence[float],
    *,
    least: float | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """A mean per unit of what comes in clusters, such as nats per token of texts, with its interval.

    The ratio of both totals with its linearised variance over clusters (Cochran 1977) and Student's t on
    G - 1 degrees of freedom. Unlike a share it has no bounds of its own; with one cluster it has no
    interval, which then reaches from -infinity to infinity.

    Args:
        sums: of each cluster.
        counts: units of each cluster, such as tokens; above 0.
        least: what the quantity cannot fall below.
        confidence: in (0, 1).

    Raises:
        DataError: there are no clusters.
        ValueError: `counts` has another length, or a count is not above 0.
    """
    if not len(sums):
        raise DataError("there is nothing to average, expected at least one text")
    if len(sums) != len(counts) or min(counts) <= 0:
        raise ValueError(f"{len(sums)} sums and {len(counts)} counts, expected as many, all above 0")
    total = math.fsum(counts)
    value = math.fsum(sums) / total
    clusters = len(sums)
    if clusters == 1:
        return Estimate(value, -math.inf if least is None else least, math.inf, round(total))
    residuals = [s - value * c for s, c in zip(sums, counts, strict=True)]
    variance = clusters / (clusters - 1) * math.fsum(r * r for r in residuals) / total**2
    half_width = t_quantile(confidence, clusters) * math.sqrt(variance)
    low = value - half_width
    return Estimate(value, low if least is None else max(low, least), value + half_width, round(total))


def summarise(scores: Sequence[Score], pairs: Sequence[QAPair]) -> dict[str, dict[str, Numbers]]:
    """Every metric per direction: `{"forward": {"f1": {"value", "low", "high", "n"}, ...}, ...}`.

    Only directions that occur are in it, forward first.

    Raises:
        DataError: there are no scores, or scores and pairs do not match one to one.
    """
    return _each_metric(estimate_mean, [scores], pairs)


def summarise_changes(
    before: Sequence[Score], after: Sequence[Score], pairs: Sequence[QAPair]
) -> dict[str, dict[str, Numbers]]:
    """Every metric's paired change per direction, with the fields of `Change`.

    Only directions that occur are in it, forward first.

    Raises:
        DataError: there are no scores, or scores and pairs do not match one to one.
    """
    return _each_metric(compare_paired, [before, after], pairs)


def _each_metric(
    compute: Callable[..., Estimate | Change], stages: Sequence[Sequence[Score]], pairs: Sequence[QAPair]
) -> dict[str, dict[str, Numbers]]:
    """What is computed from the values of each stage and their documents, by direction and metric."""
    aligned = [align_with_pairs(scores, pairs) for scores in stages]
    if not pairs:
        raise DataError("there are no QA pairs to summarise: give at least one")
    found: dict[str, dict[str, Numbers]] = {}
    for direction in DIRECTIONS:
        places = [place for place, pair in enumerate(pairs) if pair.direction == direction]
        documents = [pairs[place].document_id for place in places]
        if places:
            found[direction] = {
                metric: asdict(
                    compute(
                        *([scores[place].values[metric] for place in places] for scores in aligned), documents
                    )
                )
                for metric in METRICS
            }
    return found


def _as_scores(values: Sequence[float]) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    # Written so that nan fails too.
    outside = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if outside.size:
        place = int(outside[0])
        raise ValueError(f"value {place} is {scores[place]}, expected a score in [0, 1]")
    return scores


def sum_clusters(values: NDArray[np.float64], clusters: Sequence[str]) -> NDArray[np.float64]:
    """The sum of the values of each document, in the order of the documents' names.

    Raises:
        DataError: there are no values.
        ValueError: `clusters` has another length.
    """
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values and {len(clusters)} clusters, expected as many")
    if not len(values):
        raise DataError("there are no scores to average: ask the model at least one question")
    _, cluster_of_value = np.unique(np.asarray(clusters, dtype=np.str_), return_inverse=True)
    return np.asarray(np.bincount(cluster_of_value, weights=values), dtype=np.float64)


def _clustered_mean(values: NDArray[np.float64], clusters: Sequence[str]) -> _ClusteredMean:
    """The mean as a ratio of sums over clusters, with its linearised variance.

    Both the sum of values and the number of questions vary by cluster, so the mean is a ratio and
    its variance is that of the clusters' summed residuals. G / (G - 1) corrects for few clusters.
    """
    value = math.fsum(values) / max(len(values), 1)
    residuals = sum_clusters(values - value, clusters)
    documents = len(residuals)
    correction = documents / (documents - 1) if documents > 1 else 1.0
    variance = correction * float(np.sum(residuals**2)) / len(values) ** 2
    return _ClusteredMean(value, variance, len(values), documents)


def _effective_size(mean: _ClusteredMean, repeats: int = 1) -> float:
    """How many independent answers give a variance as large as the clustered one.

    n divided by the design effect, the clustered variance over that of n independent questions,
    p (1 - p) / (n - 1). Never above n, or n times the answers that each score averages: less spread than
    independent answers would have is luck, or the scores are fractions.
    """
    if mean.value in (0.0, 1.0):
        return float(mean.documents)
    answers = mean.n * repeats
    if mean.variance < _ZERO_VARIANCE:
        return float(answers)
    independent = mean.value * (1 - mean.value) / (answers - 1)
    return answers * min(1.0, independent / mean.variance)


def t_quantile(confidence: float, documents: int) -> float:
    """Of Student's t, over so many clusters."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected a number between 0 and 1, as 0.95")
    return float(stats.t.ppf((1 + confidence) / 2, documents - 1))


def _wilson(mean: _ClusteredMean, size: float, quantile: float) -> Estimate:
    p, spread = mean.value, quantile**2 / size
    centre = (p + spread / 2) / (1 + spread)
    half_width = math.sqrt(spread * p * (1 - p) + spread**2 / 4) / (1 + spread)
    # Wilson's bounds enclose p and stay in [0, 1]; the limits only undo rounding.
    low = max(0.0, min(p, centre - half_width))
    high = min(1.0, max(p, centre + half_width))
    return Estimate(p, low, high, mean.n)


def _pair_means(
    before: NDArray[np.float64], after: NDArray[np.float64], clusters: Sequence[str], repeats: int
) -> _PairedMeans:
    first, second = _clustered_mean(before, clusters), _clustered_mean(after, clusters)
    residuals_before = sum_clusters(before - first.value, clusters)
    residuals_after = sum_clusters(after - second.value, clusters)
    scale = math.sqrt(float(np.sum(residuals_before**2) * np.sum(residuals_after**2)))
    # Without any spread in one of the arms there is nothing to be correlated with.
    known = min(first.variance, second.variance) >= _ZERO_VARIANCE
    correlation = float(np.sum(residuals_before * residuals_after)) / scale if known else 0.0
    difference = math.fsum(after - before) / first.n
    return _PairedMeans(first, second, difference, max(-1.0, min(_MAX_CORRELATION, correlation)), repeats)


def _difference_bounds(means: _PairedMeans, quantile: float) -> _Bounds:
    """Each bound from those that it moves with: low from the low one of after and the high one of before."""
    before, after = (
        _wilson(mean, _effective_size(mean, means.repeats), quantile) for mean in (means.before, means.after)
    )

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 + other**2 - 2 * means.correlation * one * other))

    down = reach(after.value - after.low, before.high - before.value)
    up = reach(after.high - after.value, before.value - before.low)
    return _Bounds(max(-1.0, means.difference - down), min(1.0, means.difference + up))


def _interval_p_value(means: _PairedMeans) -> float:
    """Of the widest interval that does not hold 0."""

    def room(quantile: float) -> float:
        bounds = _difference_bounds(means, quantile)
        return bounds.low if means.difference > 0 else -bounds.high

    if abs(means.difference) < math.sqrt(_ZERO_VARIANCE):
        return 1.0
    quantile = _MAX_QUANTILE
    if room(quantile) < 0:
        quantile = float(optimize.brentq(room, 0.0, quantile))
    return 2 * float(stats.t.sf(quantile, means.before.documents - 1))


def _sign_flip_p_value(sums: NDArray[np.float64], seed: int) -> float:
    if not np.any(sums):
        return 1.0
    test = stats.permutation_test(
        (sums,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=SIGN_FLIPS,
        batch=_FLIPS_AT_ONCE,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def bounded_p_value(values: Sequence[float], clusters: Sequence[str], *, least: float) -> float:
    """The p-value against `the mean is at most 0`, one-sided; documents are the unit.

    For few documents and scores near 0 and 1. Sign flips cannot answer this: under the null hypothesis the
    shifted differences are not symmetric about 0. Nor can the spread of the values seen: where a lift is
    rare, ten documents often show none.

    The documents' sums get weights drawn uniformly from all that add up to 1 (the Bayesian bootstrap), and
    one more document, as bad as there can be, is among them: as many questions as the largest, all of value
    `least`. The p-value is the chance that the weighted sum is not above 0.

    For documents that are wholly `least` or wholly the best value it is the binomial tail of Clopper
    and Pearson, hence exact. That it never rejects too often whatever the distribution is
    conjectured, and holds in all simulations of tests/evaluation/test_calibration.py. With documents of
    different sizes the null hypothesis is about the mean over questions, as elsewhere.

    Args:
        values: any numbers from `least` on.
        clusters: the document of each value.
        least: the lowest possible value, below 0.

    Raises:
        DataError: there are no values.
        ValueError: a value lies below `least`, `least` is not below 0, or `clusters` has another length.
    """
    if least >= 0:
        raise ValueError(f"least is {least}, expected a number below 0")
    numbers = np.asarray(values, dtype=np.float64)
    # Half of a rounding error above what values of 1e-9 could mean; written so that nan fails too.
    below = np.flatnonzero(~(numbers >= least - 1e-9))
    if below.size:
        place = int(below[0])
        raise ValueError(f"value {place} is {numbers[place]}, expected {least} or more")
    sums = sum_clusters(numbers, clusters)
    largest = float(sum_clusters(np.ones_like(numbers), clusters).max())
    sums = np.where(np.abs(sums) < 1e-12 * largest, 0.0, sums)
    return _chance_of_less(sums[sums > 0], np.append(-sums[sums < 0], -least * largest))


def _chance_of_less(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The chance that exponential times with means `first` sum up to less than some with means `second`.

    Uniform weights are exponential times over their sum, so this decides the sign of a weighted sum. Both
    sums run at once; which one's next time ends first depends, since they have no memory, on the two means
    alone. So the chance spreads over (times of `first` that have ended, times of `second` that have).
    """
    least, most = len(first), len(second)
    chance = np.zeros(least + 1)  # by how many of `first` have ended, after as many ends as the loop counts
    chance[0] = 1.0
    won = 1.0 if least == 0 else 0.0
    for ended in range(least + most if least else 0):
        low, high = max(0, ended - most + 1), min(least, ended + 1)
        if low >= high:
            break
        other = second[ended - high + 1 : ended - low + 1][::-1]
        moves = chance[low:high] * other / (first[low:high] + other)
        following = np.zeros_like(chance)
        following[low:high] = chance[low:high] - moves
        following[low + 1 : high + 1] += moves
        won += float(following[least])
        following[least] = 0.0
        chance = following
    return min(1.0, won)
