"""A line of runs in tables: what each of them still knows of the facts of all of them.

rows = read_line_rows(summary)            # of `reports.runs`
triangle_table(rows), removed_table(rows)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demask.evaluation.metrics import MEASURES
from demask.records import DIRECTIONS
from demask.reports.runs import LineRow, read_estimate
from demask.reports.tables import Table, format_measure
from demask.reports.wording import MISSING

# Ids of documents that a row of a table names.
_MOST_NAMED = 4
_MODELS = ("before", "parent", "after")


def name_run(row: LineRow) -> str:
    """A run of a line, as tables call it."""
    return f"{row.number} {Path(row.run).name}"


def triangle_table(rows: Sequence[LineRow]) -> Table:
    """A row for each run, a column for the facts of each; then what each run has kept of the base model."""
    measured = [name for name in MEASURES if any(name in row.retention for row in rows)]
    learned = [one for one in rows if one.learned]
    cells = tuple(
        (
            name_run(row),
            *(_directions(row.facts.get(str(one.number))) for one in learned),
            *(_measure(row, name) for name in measured),
        )
        for row in rows
    )
    return Table(
        "What each run knows of all",
        (
            "after",
            *(_name_facts(one.number, rows) for one in learned),
            *(MEASURES[name].label for name in measured),
        ),
        cells,
        "Rows: the model after the first run (0) and after each update. Columns: share of questions "
        "answered, forward / backward, about the documents that a run learned and that were neither replaced "
        "nor forgotten; in parentheses how many questions the last run was asked.",
    )


def _name_facts(number: int, rows: Sequence[LineRow]) -> str:
    """A column of the triangle, with how many questions the last run was asked."""
    asked = rows[-1].facts.get(str(number))
    return f"facts of {number} ({_asked(asked)})" if asked else f"facts of {number}"


def removed_table(rows: Sequence[LineRow]) -> Table:
    """What no longer holds, and how much of it is still answered as of old."""
    cells = tuple(
        (name_run(row), name_run(rows[int(number)]), _directions(accuracy), _asked(accuracy))
        for row in rows
        for number, accuracy in row.removed.items()
    )
    return Table(
        "Answers of old to what was replaced or forgotten",
        ("after", "learned in", "still given", "questions"),
        cells,
        "Share of questions, forward / backward, that are answered as a document said that was replaced or "
        "forgotten: what is left of it. 0 is what is wanted, but for answers that hold all the same.",
    )


def forgotten_table(forgotten: Mapping[str, Any]) -> Table:
    """What is left of what a run forgets, as `summary.json` says it; no rows where it forgets nothing."""
    rows = [
        (
            f"questions, {form}",
            *(_directions(by_model[model]) for model in _MODELS),
            _asked(by_model["after"]),
        )
        for form, by_model in forgotten.get("accuracy", {}).items()
    ]
    if nats := forgotten.get("nats"):
        rows.append(("−log p of the text", *(f"{nats[model]:.3f}" for model in _MODELS), MISSING))
    return Table(
        "What is left of what was forgotten",
        ("asked", "base model", "before", "after", "questions"),
        tuple(rows),
        describe_forgetting(forgotten),
    )


def describe_forgetting(forgotten: Mapping[str, Any]) -> str:
    """How to read the table, and what it does not promise."""
    if not forgotten:
        return ""
    minutes = forgotten["seconds_anew"] / 60
    return (
        f"Of {_ids(forgotten['documents'])}: share of questions answered, forward / backward, and nats per "
        "token of the text. The nearer they are to the base model, the less is left of what was looked for. "
        "The bare questions were trained, the reworded ones were not. This is no erasure: something may be "
        "left that nobody asked for, and the runs before, their deltas and that of this run still hold the "
        "document. Training anew without it leaves nothing; it takes about "
        f"{minutes:.1f} minutes of training on the same machine, as the runs of this line did together."
    )


def history_table(rows: Sequence[LineRow]) -> Table:
    """A row for each run: what it learned, what was taken away, what all questions came to."""
    cells = tuple(
        (
            name_run(row),
            _ids(row.learned),
            _ids(row.replaced),
            _ids(row.forgotten),
            *(_overall(row, direction) for direction in DIRECTIONS),
            *(_measure(row, name) for name in ("known", "drift")),
        )
        for row in rows
    )
    headers = ("run", "learned", "replaced", "forgotten", *DIRECTIONS)
    labels = tuple(MEASURES[name].label for name in ("known", "drift"))
    return Table(
        "The line of runs",
        (*headers, *labels),
        cells,
        "Forward and backward: share of all questions so far that are answered.",
    )


def _ids(ids: Sequence[str]) -> str:
    if not ids:
        return MISSING
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    return ", ".join(ids[:_MOST_NAMED]) + more


def _directions(accuracy: Mapping[str, Any] | None) -> str:
    if not accuracy:
        return MISSING
    return " / ".join(f"{accuracy[one]['value']:.2f}" if one in accuracy else MISSING for one in DIRECTIONS)


def _asked(accuracy: Mapping[str, Any]) -> str:
    return str(sum(int(values["n"]) for values in accuracy.values()))


def _overall(row: LineRow, direction: str) -> str:
    found = [accuracy[direction] for accuracy in row.facts.values() if direction in accuracy]
    asked = sum(one["n"] for one in found)
    return f"{sum(one['value'] * one['n'] for one in found) / asked:.2f}" if asked else MISSING


def _measure(row: LineRow, name: str) -> str:
    found = row.retention.get(name)
    return format_measure(name, read_estimate(found)) if found else MISSING
