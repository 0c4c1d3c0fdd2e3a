"""From values to places on a page: linear and logarithmic scales, their ticks, smoothing.

    x = Scale(0, 120, 40, 350)
    x.place(60)                      # 195.0
    ticks(x)                         # [0, 50, 100]
    smooth(losses)                   # a centred moving average

Places are in units of the figure's viewBox; y grows downwards, so `start` may exceed `end`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# A series spanning more than this factor is unreadable on a linear axis.
LOG_SPAN = 10.0
# Share of the points that one smoothed point averages over.
SMOOTHING_SHARE = 0.1


@dataclass(frozen=True)
class Scale:
    """Maps values in [low, high] to places between start and end."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value stands; values outside are put on the nearest end."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start)


def fit_scale(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale that holds all values: from 0, or logarithmic when they span more than `LOG_SPAN`."""
    positive = [value for value in values if value > 0]
    if not positive:
        return Scale(0.0, 1.0, start, end)
    low, high = min(positive), max(positive)
    if high / low > LOG_SPAN:
        return Scale(low / 1.15, high * 1.15, start, end, log=True)
    return Scale(0.0, high * 1.08, start, end)


def ticks(scale: Scale, most: int = 6) -> list[float]:
    """Round values within the scale, at most `most` of them."""
    return _log_ticks(scale, most) if scale.log else _linear_ticks(scale, most)


def smooth(values: Sequence[float]) -> list[float]:
    """A centred moving average over a tenth of the values, narrower at both ends."""
    reach = max(1, round(len(values) * SMOOTHING_SHARE / 2))
    averages = []
    for i in range(len(values)):
        near = min(reach, i, len(values) - 1 - i)
        window = values[i - near : i + near + 1]
        averages.append(sum(window) / len(window))
    return averages


def thin(values: Sequence[tuple[float, float]], most: int = 400) -> list[tuple[float, float]]:
    """At most `most` points, evenly spread: more cannot be told apart on a page."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def _linear_ticks(scale: Scale, most: int) -> list[float]:
    span = (scale.high - scale.low) or 1.0
    magnitude = 10.0 ** math.floor(math.log10(span / most))
    for factor in (1, 2, 5, 10, 20):
        step = magnitude * factor
        first, last = math.ceil(scale.low / step - 1e-9), math.floor(scale.high / step + 1e-9)
        if last - first < most:
            break
    return [round(i * step, 12) for i in range(first, last + 1)]


def _log_ticks(scale: Scale, most: int) -> list[float]:
    decades = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**d for d in decades for f in factors if scale.low <= f * 10.0**d <= scale.high]
        if len(found) <= most:
            return found
    stride = math.ceil(len(found) / most)
    return found[::stride]
