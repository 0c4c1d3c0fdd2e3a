"""The figures of a report on runs, as inline SVG.

accuracy_bars(runs, "forward")       # before, after and ceiling with their intervals
learning_curves(runs)                # one panel per run, on the same axes
accuracy_curve(runs, "backward")     # accuracy over steps with bands
"""

import math
from collections.abc import Sequence

from demask.evaluation.metrics import HEADLINE, MEASURES, METRICS
from demask.records import DIRECTIONS
from demask.reports.drawing import (
    LABEL,
    Bar,
    Line,
    bars_panel,
    line_panel,
    smooth,
    step_scale,
    thin,
    value_scale,
)
from demask.reports.runs import RunResult, find_metric
from demask.reports.wording import count, loss_name, shorten

# The two measures that a picture shows beside accuracy.
RETENTION_BARS = ("leak", "known")
_RETENTION_HEADINGS = {"leak": "Unrelated prompts that leak", "known": "Known facts kept"}


def accuracy_bars(runs: Sequence[RunResult], direction: str) -> str:
    """Before, after and ceiling of every arm; empty when the direction was not measured."""
    bars = _bars(runs, direction)
    if not bars:
        return ""
    n = max(bar.metric.n for bar in bars if bar.metric)
    title = f"{direction.capitalize()} accuracy ({METRICS[HEADLINE].label})"
    return bars_panel(bars, direction.capitalize(), f"{count(n)} questions", title)


def retention_bars(runs: Sequence[RunResult], name: str) -> str:
    """One measure of what else training changed, a bar for each arm; empty when no arm has it."""
    bars = [
        Bar(shorten(run.label, LABEL) if len(runs) > 1 else "after", metric, f"arm-{number}")
        for number, run in enumerate(runs, start=1)
        if run.retention and (metric := run.retention.measures.get(name))
    ]
    measure = MEASURES[name]
    n = max((bar.metric.n for bar in bars if bar.metric), default=0)
    return bars_panel(bars, _RETENTION_HEADINGS[name], f"{count(n)} prompts", measure.label) if bars else ""


def learning_curves(runs: Sequence[RunResult]) -> list[str]:
    """The loss over steps, a panel per run that logged any, all on the same axes."""
    panels = [(run, lines) for run in runs if (lines := _loss_lines(run))]
    every = [line for _, lines in panels for line in lines]
    if not every:
        return []
    y = value_scale([v for line in every for _, v in (*line.points, *line.thin)])
    x = step_scale(max(step for line in every for step, _ in line.points))
    return [
        line_panel(lines, run.label, "nats per token", f"Loss over training steps, {run.label}", x=x, y=y)
        for run, lines in panels
    ]


def held_out_curve(runs: Sequence[RunResult]) -> str:
    """The loss of held-out samples over steps, a line per arm; empty where no samples were held out."""
    lines = [
        Line(
            run.label, tuple((point.step, point.loss) for point in run.fine_tuning.losses), number, dots=True
        )
        for number, run in enumerate(runs, start=1)
        if run.fine_tuning and len(run.fine_tuning.losses) > 1
    ]
    if not lines:
        return ""
    y = value_scale([loss for line in lines for _, loss in line.points])
    title = "Held-out loss over training steps"
    return line_panel(lines, "Held-out samples", "nats per token", title, y=y)


def way_curves(runs: Sequence[RunResult]) -> list[str]:
    """Accuracy and drift over the share of the way from the base, for each run that was moved back."""
    panels = []
    for run in (run for run in runs if run.way):
        kept = next(point.share for point in run.way if point.kept)
        title = f"from the base to the trained model, kept at {kept:.3g}, {run.label}"
        along, unit = "share of the way", METRICS[HEADLINE].label
        lines = _way_lines(run)
        if lines:
            panels.append(line_panel(lines, run.label, unit, f"Accuracy {title}", along=along))
        drift = Line("drift", tuple((point.share, point.drift) for point in run.way), 1, dots=True)
        y = value_scale([point.drift for point in run.way])
        panels.append(line_panel([drift], run.label, "nats per token", f"Drift {title}", y=y, along=along))
    return panels


def _way_lines(run: RunResult) -> list[Line]:
    lines = []
    for number, direction in enumerate(DIRECTIONS, start=1):
        found = [(p.share, p.accuracy[direction]) for p in run.way if direction in p.accuracy]
        if found:
            points = tuple((share, metric.value) for share, metric in found)
            band = tuple((share, metric.low, metric.high) for share, metric in found)
            lines.append(Line(direction, points, number, band=band, dots=True))
    return lines


def accuracy_curve(runs: Sequence[RunResult], direction: str) -> str:
    """Accuracy over steps, a line per arm; empty when it was not measured while training."""
    lines = []
    for number, run in enumerate(runs, start=1):
        points = [p for p in run.accuracies if p.direction == direction and p.metric == HEADLINE]
        if points:
            lines.append(
                Line(
                    run.label,
                    tuple((p.step, p.estimate.value) for p in points),
                    number,
                    band=tuple((p.step, p.estimate.low, p.estimate.high) for p in points),
                    dots=True,
                )
            )
    if not lines:
        return ""
    heading = direction.capitalize()
    title = f"{heading} accuracy over training steps"
    return line_panel(lines, heading, METRICS[HEADLINE].label, title)


def _bars(runs: Sequence[RunResult], direction: str) -> list[Bar]:
    """Floors first, then results, then ceilings; what all arms share is drawn once."""
    bars = []
    for stage in ("before", "after", "ceiling"):
        found = [
            (number, run, metric)
            for number, run in enumerate(runs, start=1)
            if (metric := find_metric(run, stage, direction))
        ]
        shared = stage != "after" and len({metric for _, _, metric in found}) == 1
        for number, run, metric in found[:1] if shared else found:
            tone = f"arm-{number}" if stage == "after" else stage
            words = "ceiling: document in the prompt" if stage == "ceiling" else stage
            label = words if shared or len(runs) == 1 else f"{shorten(run.label, LABEL)}, {words}"
            bars.append(Bar(label, metric, tone))
    return bars


def _loss_lines(run: RunResult) -> list[Line]:
    kinds = [
        ("masked tokens", [(p.step, p.masked) for p in run.losses]),
        ("copied tokens", [(p.step, p.copied) for p in run.losses]),
    ]
    if all(p.copied is None for p in run.losses):  # nothing to tell apart: no prompt shows the text
        kinds = [(loss_name(run), [(p.step, p.loss) for p in run.losses])]
    lines = []
    for number, (label, points) in enumerate(kinds, start=1):
        known = [(float(step), value) for step, value in points if value is not None and math.isfinite(value)]
        if known:
            averages = smooth([value for _, value in known])
            smoothed = thin([(step, value) for (step, _), value in zip(known, averages, strict=True)])
            lines.append(Line(label, tuple(smoothed), number, thin=tuple(thin(known))))
    return lines
