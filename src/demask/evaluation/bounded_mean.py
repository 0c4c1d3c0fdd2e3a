"""Whether the mean of bounded scores lies above a level, for few documents and scores near 0 and 1.

    # Is the lift below 0.1? No value of 0.1 - lift can lie below 0.1 - 1.
    p_value = bounded_p_value([0.1 - lift for lift in lifts], documents, least=0.1 - 1)

Sign flips cannot answer this: under the null hypothesis the shifted differences are not symmetric
about 0. Nor can the spread of the values seen: where a lift is rare, ten documents often show none.

Sources: Gaffke 2005 (Mathematical Methods of Statistics 14, tests of the mean of a nonnegative variable),
Learned-Miller & Thomas 2019 (arXiv 1905.06208, the same as confidence bounds).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from demask.evaluation.statistics import sum_clusters


def bounded_p_value(values: Sequence[float], clusters: Sequence[str], *, least: float) -> float:
    """The p-value against `the mean is at most 0`, one-sided; documents are the unit.

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
