"""One number of a report, with how sure it is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A mean with its 95% interval.

    Attributes:
        value: a share in [0, 1], or nats per token.
        low: lower end of the interval.
        high: upper end of the interval.
        n: questions, prompts or tokens that it stands for.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Change:
    """After minus before on the same questions, with a 95% interval over documents."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    documents: int
