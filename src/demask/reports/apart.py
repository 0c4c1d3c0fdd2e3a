"""Questions that were asked apart, in a table.

apart_table(runs)            # a row for each kind and form; no part of the accuracy
"""

from collections.abc import Sequence

from demask.reports.runs import RunResult
from demask.reports.tables import Table
from demask.reports.wording import MISSING, count, interval


def apart_table(runs: Sequence[RunResult]) -> Table:
    """Questions that were asked apart, by kind and form; no rows where there were none."""
    rows = tuple(
        (
            run.label,
            row.kind or MISSING,
            row.direction,
            row.form,
            *map(interval, (row.before, row.after, row.kept)),
            count(row.after.n),
        )
        for run in runs
        for row in run.apart
    )
    return Table(
        "Asked apart",
        ("arm", "kind", "direction", "asked", "before", "after", "of those right before", "n"),
        rows,
        "Share of further questions answered, which are no part of the accuracy. What must be gone (old "
        "value) should fall to 0, what must stay (neighbour) is kept where the last share is 1, what follows "
        "takes a step from what was learned, which small models seldom make.",
    )
