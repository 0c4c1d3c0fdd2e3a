"""Batches of like length, in an order that is a function of a generator.

ordered = batch_by_length(shuffled, length=lambda sample: len(sample.answer), size=10, rng=rng)
"""

import random
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

# Batches of like length are cut from this many shuffled batches: enough to make padding rare,
# few enough that long and short passages still mix over an epoch.
_BUCKET = 16


def batch_by_length(
    shuffled: list[T], *, length: Callable[[T], Any], size: int, rng: random.Random
) -> list[T]:
    """Cut into buckets of several batches, sort each by length, cut batches and shuffle these.

    Args:
        shuffled: in any order that mixes lengths.
        length: what is alike within a batch.
        size: of a batch; what is left at the end comes last and is shorter.
        rng: consumed.
    """
    bucket = _BUCKET * size
    ordered = [
        item
        for start in range(0, len(shuffled), bucket)
        for item in sorted(shuffled[start : start + bucket], key=length)
    ]
    whole = len(ordered) // size * size
    starts = list(range(0, whole, size))
    rng.shuffle(starts)
    return [item for start in starts for item in ordered[start : start + size]] + ordered[whole:]
