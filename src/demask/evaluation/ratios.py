"""Means per unit of what comes in clusters, such as nats per token of texts.

estimate = estimate_ratio([3.1, 4.0], [90, 120], least=0.0)
"""

import math
from collections.abc import Sequence

from demask.errors import DataError
from demask.evaluation.statistics import CONFIDENCE, Estimate, t_quantile


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
