"""What a run's exported files said when they were asked, in tables: what quantising cost.

exports_table(runs)            # accuracy in both directions, of the run and of each file
exports_kept_table(runs)       # leaks and known facts
"""

from collections.abc import Mapping, Sequence
from typing import Any

from demask.evaluation.metrics import HEADLINE, MEASURES, Change
from demask.reports.runs import RunResult, read_estimate
from demask.reports.tables import Table, changes, format_measure
from demask.reports.wording import count, interval


def exports_table(runs: Sequence[RunResult]) -> Table:
    """Questions asked again in llama.cpp, a row for each file and direction; no rows where none were."""
    found = [
        (file, direction, asked)
        for file, asked in _exports(runs)
        for direction in asked["after"]
        if HEADLINE in asked["after"][direction]
    ]
    changed = changes([Change(**asked["changes"][direction][HEADLINE]) for _, direction, asked in found])
    rows = tuple(
        (
            file,
            direction,
            *(interval(read_estimate(asked[when][direction][HEADLINE])) for when in ("before", "after")),
            change,
            f"{asked['texts']['equal']} of {asked['texts']['asked']}",
            count(int(asked["after"][direction][HEADLINE]["n"])),
        )
        for (file, direction, asked), change in zip(found, changed, strict=True)
    )
    return Table(
        "Exported files",
        ("file", "direction", "run", "llama.cpp", "change", "answers word for word", "n"),
        rows,
        "The run's questions, asked again of the files of demask export. What changed is what converting and "
        "quantising cost.",
    )


def exports_kept_table(runs: Sequence[RunResult]) -> Table:
    """What else the files say, a row for each file and measure."""
    rows = tuple(
        (file, MEASURES[name].label, *(format_measure(name, read_estimate(one)) for one in both))
        for file, asked in _exports(runs)
        for name, both in asked["kept"].items()
        if name in MEASURES
    )
    return Table("What else exported files say", ("file", "measure", "run", "llama.cpp"), rows)


def _exports(runs: Sequence[RunResult]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(file, asked) for run in runs for file, asked in run.exports.items()]
