"""Thresholds of a user, so that a script can guard what a model knows.

thresholds = read_thresholds("forward=0.9,backward.f1=0.8")
missed = find_missed(thresholds, summary["metrics"]["after"])
"""

from collections.abc import Collection, Mapping
from typing import Any

from demask.errors import ConfigError

Thresholds = Mapping[tuple[str, str], float]  # by direction and metric

_DIRECTIONS = ("forward", "backward")
_METRICS = ("contains", "exact_match", "f1", "rouge1_recall")


def read_thresholds(text: str | None) -> Thresholds:
    """`forward=0.9,backward.f1=0.8` as {("forward", "contains"): 0.9, ("backward", "f1"): 0.8}.

    Raises:
        ConfigError: a part is not of this form, or stands twice; or there is none.
    """
    wanted: dict[tuple[str, str], float] = {}
    for part in [] if text is None else text.split(","):
        key, _, value = part.partition("=")
        direction, _, metric = key.strip().partition(".")
        metric = metric or "contains"
        threshold = _read_share(value)
        if direction not in _DIRECTIONS or metric not in _METRICS or threshold is None:
            raise ConfigError(
                f"--require {part!r}: expected forward or backward, perhaps a metric "
                f"({', '.join(_METRICS)}), "
                "and a number from 0 to 1, as forward=0.9,backward.f1=0.8"
            )
        if (direction, metric) in wanted:
            raise ConfigError(f"--require {part!r}: {direction} {metric} stands twice, expected once")
        wanted[direction, metric] = threshold
    return wanted


def require_questions(thresholds: Thresholds, directions: Collection[str]) -> None:
    """Refuse a threshold for a direction in which nothing is asked.

    Raises:
        ConfigError: there is one.
    """
    for direction, _ in thresholds:
        if direction not in directions:
            raise ConfigError(
                f"--require {direction}: there are no {direction} questions; "
                "write some or leave the threshold out"
            )


def find_missed(thresholds: Thresholds, metrics: Mapping[str, Any]) -> list[str]:
    """A sentence for each threshold that is not reached.

    Args:
        thresholds: what was required.
        metrics: by direction and name, with `value`.

    Raises:
        ConfigError: a threshold is for a direction in which nothing was asked.
    """
    require_questions(thresholds, metrics)
    missed = []
    for (direction, metric), threshold in thresholds.items():
        value = metrics[direction][metric]["value"]
        if value < threshold:
            missed.append(f"{direction} {metric} is {value:.3f}, required {threshold:g}")
    return missed


def _read_share(text: str) -> float | None:
    """A number in [0, 1]."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None
