"""What else training changed, read from a run folder.

retention = load_retention(folder)                       # None: it was not measured
retention.measures["leak"].value
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from demask.reports.metric import Change, Metric
from demask.storage import file_names
from demask.storage.run_folder import RunFolder


@dataclass(frozen=True)
class Shown:
    """A reply with something of a document in it.

    Attributes:
        measure: `leak` or `near_miss`.
        prompt: what was asked.
        reply: what the trained model said.
        found: the words that gave it away.
    """

    measure: str
    prompt: str
    reply: str
    found: str


@dataclass(frozen=True)
class TaskChange:
    """One of the field's tasks before and after training, on the same questions."""

    task: str
    metric: str
    before: float
    after: float
    change: Change


@dataclass(frozen=True)
class Retention:
    """What else training changed.

    Attributes:
        suite: version, size and fingerprint of the prompts.
        measures: by name, as in `demask.measures`; what could not be measured is missing.
        base: the same of the base model, where it has one.
        access: by form of asking, then direction.
        lengths: median words of a reply: `after`, and of the base with the document at hand (`ceiling`).
        related: the kind of thing that known facts of the same kind ask for.
        shown: some replies that leak.
        missing: what was not measured, and why.
        tasks: the field's tasks, with `measure: full`.
    """

    suite: Mapping[str, Any]
    measures: Mapping[str, Metric]
    base: Mapping[str, Metric]
    access: Mapping[str, Mapping[str, Metric]]
    lengths: Mapping[str, float]
    related: str
    shown: tuple[Shown, ...]
    missing: tuple[str, ...]
    tasks: tuple[TaskChange, ...] = ()


def load_retention(folder: RunFolder) -> Retention | None:
    """What a run measured; None when it did not."""
    if not folder.has(file_names.RETENTION):
        return None
    found = folder.read_json(file_names.RETENTION)
    asked = folder.read_json(file_names.RETENTION_TASKS) if folder.has(file_names.RETENTION_TASKS) else {}
    return Retention(
        suite=found["suite"],
        measures=_metrics(found["measures"]),
        base=_metrics(found["base"]),
        access={form: _metrics(by_direction) for form, by_direction in found["access"].items()},
        lengths=found["lengths"],
        related=found["related"],
        shown=tuple(Shown(**shown) for shown in found["shown"]),
        missing=(*found["missing"], *asked.get("missing", ())),
        tasks=tuple(
            TaskChange(**{**row, "change": Change(**row["change"])}) for row in asked.get("tasks", ())
        ),
    )


def _metrics(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Metric]:
    return {
        name: Metric(value["value"], value["low"], value["high"], value["n"])
        for name, value in values.items()
    }
