"""Thresholds of a user, so that a script can guard what a model knows and what it has kept.

thresholds = read_thresholds("forward=0.9,backward.f1=0.8,leak=0.02,drift=0.05")
missed = find_missed(thresholds, summary["metrics"]["after"], summary["retention"]["measures"])

Accuracy and all measures of which more is better must reach a threshold; those of which less is better
(leak, near_miss, drift, text_drift, recital) must stay at it or below.
"""

from collections.abc import Collection, Mapping
from typing import Any

from demask.errors import ConfigError
from demask.evaluation.metrics import HEADLINE, MEASURES, METRICS
from demask.records import DIRECTIONS

# By direction and metric; by measure and an empty name where it is not an accuracy.
Thresholds = Mapping[tuple[str, str], float]


def read_thresholds(text: str | None) -> Thresholds:
    """`forward=0.9,leak=0.02` as {("forward", "contains"): 0.9, ("leak", ""): 0.02}.

    Raises:
        ConfigError: a part is not of this form, or stands twice; or there is none.
    """
    wanted: dict[tuple[str, str], float] = {}
    for part in [] if text is None else text.split(","):
        key, _, value = part.partition("=")
        name = _read_name(key.strip())
        threshold = _read_number(value, most=_most(name)) if name else None
        if name is None or threshold is None:
            raise ConfigError(
                f"--require {part!r}: expected forward or backward, perhaps a metric "
                f"({', '.join(METRICS)}), or one of {', '.join(MEASURES)}, "
                "and a number from 0 to 1, as forward=0.9,backward.f1=0.8,leak=0.02"
            )
        if name in wanted:
            raise ConfigError(f"--require {part!r}: {_say(name)} stands twice, expected once")
        wanted[name] = threshold
    return wanted


def _read_name(key: str) -> tuple[str, str] | None:
    if key in MEASURES:
        return key, ""
    direction, _, metric = key.partition(".")
    name = direction, metric or HEADLINE
    return name if direction in DIRECTIONS and name[1] in METRICS else None


def _most(name: tuple[str, str] | None) -> float:
    """Shares end at 1; nats per token do not."""
    return float("inf") if name and name[0] in MEASURES and MEASURES[name[0]].unit == "nats" else 1.0


def _say(name: tuple[str, str]) -> str:
    return " ".join(name).strip()


def asks_questions(thresholds: Thresholds) -> bool:
    """Whether one of them is for accuracy."""
    return any(name in DIRECTIONS for name, _ in thresholds)


def require_questions(thresholds: Thresholds, directions: Collection[str]) -> None:
    """Refuse a threshold for a direction in which nothing is asked.

    Raises:
        ConfigError: there is one.
    """
    for direction, _ in thresholds:
        if direction in DIRECTIONS and direction not in directions:
            raise ConfigError(
                f"--require {direction}: there are no {direction} questions; "
                "write some or leave the threshold out"
            )


def require_measures(thresholds: Thresholds, *, measured: bool) -> None:
    """Refuse a threshold for what is not measured.

    Raises:
        ConfigError: there is one, and nothing but accuracy is measured.
    """
    for name, _ in thresholds:
        if name in MEASURES and not measured:
            raise ConfigError(
                f"--require {name}: it is not measured; set 'measure: quick', or leave the threshold out"
            )


# What does not take documents or questions about them.
OF_SAMPLES = ("known", "drift", "text_drift")


def require_of_samples(thresholds: Thresholds) -> None:
    """Refuse a threshold for what a run that is trained on samples does not measure.

    Raises:
        ConfigError: there is one.
    """
    for name, _ in thresholds:
        if name not in OF_SAMPLES:
            raise ConfigError(
                f"--require {name}: fine-tuning on samples measures {', '.join(OF_SAMPLES)}; ask a test set "
                "with 'demask evaluate RUN --qa FILE --require'"
            )


def find_missed(
    thresholds: Thresholds, metrics: Mapping[str, Any], measures: Mapping[str, Any] | None = None
) -> list[str]:
    """A sentence for each threshold that is not met.

    Args:
        thresholds: what was required.
        metrics: by direction and name, with `value`.
        measures: what else training changed, by name, with `value`.

    Raises:
        ConfigError: a threshold is for a direction in which nothing was asked, or for a measure that there
            is not.
    """
    require_questions(thresholds, metrics)
    missed = []
    for (name, metric), threshold in thresholds.items():
        found = metrics[name][metric] if name in DIRECTIONS else (measures or {}).get(name)
        if found is None:
            raise ConfigError(
                f"--require {name}: it could not be measured in this run; the report says why, "
                "or leave the threshold out"
            )
        at_most = name in MEASURES and MEASURES[name].better == "low"
        value = found["value"]
        if value > threshold if at_most else value < threshold:
            limit = "at most " if at_most else ""
            missed.append(f"{_say((name, metric))} is {value:.3f}, required {limit}{threshold:g}")
    return missed


def _read_number(text: str, *, most: float) -> float | None:
    """A number in [0, most]."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= most and value != float("inf") else None
