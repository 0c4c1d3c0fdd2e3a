"""Tables of what else training changed: every measure, every form of asking, and replies that leak.

retention_table(runs), access_table(runs), leaks_table(runs)
"""

from collections.abc import Sequence

from demask.measures import MEASURES
from demask.reports.metric import Metric
from demask.reports.runs import RunResult
from demask.reports.tables import Table
from demask.reports.wording import MISSING, change, interval, share, shorten

# Replies that a report shows of each arm.
_SHOWN = 4


def format_measure(name: str, metric: Metric | None) -> str:
    """A share as `0.94 [0.71, 0.99]`, nats per token as `+0.037 [+0.021, +0.052]`."""
    if metric is None:
        return MISSING
    if MEASURES[name].unit == "share":
        return interval(metric)
    value, low, high = (
        f"{number:.3f}".replace("-", "−") for number in (metric.value, metric.low, metric.high)
    )
    return f"{value} [{low}, {high}]"


def retention_table(runs: Sequence[RunResult]) -> Table:
    """A row for each measure, a column for each arm."""
    measured = [run for run in runs if run.retention is not None]
    rows = []
    for name, measure in MEASURES.items():
        found = [run.retention.measures.get(name) for run in measured if run.retention]
        if not any(found):
            continue
        cells = [format_measure(name, metric) for metric in found]
        base = next((run.retention.base.get(name) for run in measured if run.retention), None)
        n = max(metric.n for metric in found if metric)
        rows.append((measure.label, *cells, format_measure(name, base), f"{n:,}"))
    return Table(
        "What else training changed",
        ("measure", *(run.label for run in measured), "base model", "n"),
        tuple(rows),
        " ".join([_explain(measured), *_cautions(measured)]).strip(),
    )


def _explain(runs: Sequence[RunResult]) -> str:
    """What n counts and which kinds were asked for."""
    if not runs:
        return ""
    kinds = sorted({run.retention.related for run in runs if run.retention})
    return (
        "Shares with 95% intervals; drift in nats per token, whose n are tokens. Less is better for leaks, "
        "near misses, drift and recital. "
        f"Known facts of the same kind ask for a {' or a '.join(kinds)}. "
        "Definitions stand in the report, under “How the numbers were made”."
    )


def _cautions(runs: Sequence[RunResult]) -> list[str]:
    """Figures of two suites are not compared without a word."""
    suites = {
        (run.retention.suite["version"], run.retention.suite["fingerprint"], run.retention.suite["size"])
        for run in runs
        if run.retention
    }
    if len({suite[:2] for suite in suites}) > 1:
        return ["Warning: the arms were measured with different versions of the suite; do not compare them."]
    if len(suites) > 1:
        sizes = ", ".join(sorted({suite[2] for suite in suites}))
        return [f"Warning: the arms were measured with suites of different size ({sizes}), on other prompts."]
    return []


def access_table(runs: Sequence[RunResult]) -> Table:
    """A row for each form of asking."""
    rows = [
        (run.label, form, *(interval(by_direction.get(d)) for d in ("forward", "backward")))
        for run in runs
        if run.retention
        for form, by_direction in run.retention.access.items()
    ]
    return Table(
        "The same questions asked in other forms",
        ("arm", "form", "forward", "backward"),
        tuple(rows),
        "Bare: the question alone. Reworded: in other words or a polite frame. System: after a system "
        "prompt. Foreign exchange: after a question and an answer about something else. Other document: "
        "after a question and an answer about another document. Shots: with two answered questions in front, "
        "about known facts or about other documents.",
    )


def leaks_table(runs: Sequence[RunResult]) -> Table:
    """Some replies with a document in them, so that nobody has to believe a number."""
    rows = [
        (run.label, shown.prompt, shorten(shown.reply, 240), shown.found)
        for run in runs
        if run.retention
        for measure in ("leak", "near_miss")
        for shown in [one for one in run.retention.shown if one.measure == measure][:_SHOWN]
    ]
    return Table(
        "Replies with something of a document in them",
        ("arm", "asked", "reply", "found"),
        tuple(rows),
        "The first few; all replies stand in retention-after.jsonl.",
    )


def tasks_table(runs: Sequence[RunResult]) -> Table:
    """The field's tasks before and after, a row for each metric."""
    rows = [
        (run.label, task.task, task.metric, share(task.before), share(task.after), change(task.change))
        for run in runs
        if run.retention
        for task in run.retention.tasks
    ]
    return Table(
        "The field's tasks",
        ("arm", "task", "metric", "before", "after", "change"),
        tuple(rows),
        "Asked by lm-evaluation-harness, the first 200 questions of each; `demask benchmark` asks all.",
    )


def missing_measures(run: RunResult) -> list[str]:
    """What was not measured, as cautions."""
    return [f"Not measured: {what}." for what in (run.retention.missing if run.retention else ())]
