"""Figures as inline SVG, drawn from numbers alone.

    accuracy_bars(runs, "forward")       # before, after and ceiling with their intervals
    learning_curves(runs)                # one panel per run, on the same axes
    accuracy_curve(runs, "backward")     # accuracy over steps with bands

Panels are `WIDTH` units wide and stand side by side on a wide page, below each other on a phone,
so that text stays at reading size. Text takes the page's colour; lines differ in dash as well as in
colour (Okabe and Ito's palette, told apart by colour-blind readers), bars are labelled one by one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from demask.evaluation.metrics import HEADLINE, MEASURES, METRICS, Estimate
from demask.reports.runs import RunResult, find_metric
from demask.reports.scales import Scale, fit_scale, smooth, thin, ticks
from demask.reports.wording import (
    clean,
    count,
    interval,
    loss_name,
    share,
    shorten,
)

WIDTH = 400
HEIGHT = 230
LABEL = 30  # characters of a run's label that fit on a line

_ROW, _BAR = 44, 12
_LEFT, _RIGHT, _BOTTOM = 52, 14, 40
_ARMS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")
_DASHES = ("", "7 4", "2 3", "9 3 2 3", "12 4", "4 2")


@dataclass(frozen=True)
class Bar:
    """One labelled bar; `tone` is `before`, `ceiling` or the number of an arm, from 1."""

    label: str
    metric: Estimate
    tone: str


@dataclass(frozen=True)
class Line:
    """One curve; raw points are drawn thin behind it, the band is (x, low, high)."""

    label: str
    points: tuple[tuple[float, float], ...]
    tone: str
    dash: str = ""
    raw: tuple[tuple[float, float], ...] = ()
    band: tuple[tuple[float, float, float], ...] = ()
    dots: bool = False


def accuracy_bars(runs: Sequence[RunResult], direction: str) -> str:
    """Before, after and ceiling of every arm; empty when the direction was not measured."""
    bars = _bars(runs, direction)
    if not bars:
        return ""
    n = max(bar.metric.n for bar in bars)
    title = f"{direction.capitalize()} accuracy ({METRICS[HEADLINE].label})"
    return _bars_panel(bars, direction.capitalize(), f"{count(n)} questions", title)


def _bars_panel(bars: Sequence[Bar], heading: str, right: str, title: str) -> str:
    """Bars below each other, with an axis from 0 to 1."""
    said = "; ".join(f"{bar.label}: {interval(bar.metric)}" for bar in bars)
    height = 42 + _ROW * len(bars) + 26
    x = Scale(0.0, 1.0, 1, WIDTH - 1)
    parts = [_heading(heading, right), *_bar_axis(x, 42, height - 26)]
    for number, bar in enumerate(bars):
        parts += _bar(bar, x, 42 + _ROW * number)
    return _svg(parts, height, title, f"Horizontal bars with 95% intervals. {said}.")


# The two measures that a picture shows beside accuracy.
RETENTION_BARS = ("leak", "known")


def retention_bars(runs: Sequence[RunResult], name: str) -> str:
    """One measure of what else training changed, a bar for each arm; empty when no arm has it."""
    bars = [
        Bar(shorten(run.label, LABEL) if len(runs) > 1 else "after", metric, f"arm-{number}")
        for number, run in enumerate(runs, start=1)
        if run.retention and (metric := run.retention.measures.get(name))
    ]
    measure = MEASURES[name]
    heading, n = _RETENTION_HEADINGS[name], max((bar.metric.n for bar in bars), default=0)
    return _bars_panel(bars, heading, f"{count(n)} prompts", measure.label) if bars else ""


_RETENTION_HEADINGS = {"leak": "Unrelated prompts that leak", "known": "Known facts kept"}


def learning_curves(runs: Sequence[RunResult]) -> list[str]:
    """The loss over steps, a panel per run that logged any, all on the same axes."""
    panels = [(run, lines) for run in runs if (lines := _loss_lines(run))]
    every = [line for _, lines in panels for line in lines]
    if not every:
        return []
    y = fit_scale([v for line in every for _, v in (*line.points, *line.raw)], HEIGHT - _BOTTOM, 0)
    last = max(x for line in every for x, _ in line.points)
    return [
        _line_panel(
            lines, run.label, "nats per token", _x_scale(last), y, f"Loss over training steps, {run.label}"
        )
        for run, lines in panels
    ]


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
                    f"arm-{number}",
                    _DASHES[(number - 1) % len(_DASHES)],
                    band=tuple((p.step, p.estimate.low, p.estimate.high) for p in points),
                    dots=True,
                )
            )
    if not lines:
        return ""
    y = Scale(0.0, 1.0, HEIGHT - _BOTTOM, 0)
    last = max(x for line in lines for x, _ in line.points)
    heading = direction.capitalize()
    return _line_panel(
        lines, heading, METRICS[HEADLINE].label, _x_scale(last), y, f"{heading} accuracy over training steps"
    )


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


def _bar(bar: Bar, x: Scale, top: float) -> list[str]:
    colour = _colour(bar.tone)
    middle, bottom = top + 24, top + 18
    width = max(x.place(bar.metric.value) - x.start, 1.5)
    fill = "fill:none" if bar.tone == "ceiling" else f"fill:{colour}"
    low, high = x.place(bar.metric.low), x.place(bar.metric.high)
    weight = 700 if bar.tone.startswith("arm") else 400
    return [
        _text(bar.label, x.start, top + 12, weight=weight),
        _text(interval(bar.metric), x.end, top + 12, anchor="end", weight=weight),
        f'<rect x="{x.start:.1f}" y="{bottom:.1f}" width="{width:.1f}" height="{_BAR}" rx="1.5" '
        f'style="{fill};stroke:{colour}"/>',
        f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 5:.1f}v10M{high:.1f} '
        f'{middle - 5:.1f}v10" style="stroke:currentColor;stroke-width:1.5;fill:none"/>',
    ]


def _bar_axis(x: Scale, top: float, bottom: float) -> list[str]:
    parts = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        place = x.place(value)
        anchor = {0.0: "start", 1.0: "end"}.get(value, "middle")
        parts.append(_rule(place, top + 14, place, bottom - 2))
        parts.append(_text(f"{value:g}", place, bottom + 14, anchor=anchor, size=11, faint=True))
    return parts


def _loss_lines(run: RunResult) -> list[Line]:
    kinds = [
        ("masked tokens", "arm-1", "", [(p.step, p.masked) for p in run.losses]),
        ("copied tokens", "arm-2", _DASHES[1], [(p.step, p.copied) for p in run.losses]),
    ]
    if all(p.copied is None for p in run.losses):  # nothing to tell apart: no prompt shows the text
        kinds = [(loss_name(run), "arm-1", "", [(p.step, p.loss) for p in run.losses])]
    lines = []
    for label, tone, dash, points in kinds:
        known = [(float(step), value) for step, value in points if value is not None and math.isfinite(value)]
        if known:
            averages = smooth([value for _, value in known])
            smoothed = thin([(step, value) for (step, _), value in zip(known, averages, strict=True)])
            lines.append(Line(label, tuple(smoothed), tone, dash, raw=tuple(thin(known))))
    return lines


def _x_scale(last: float) -> Scale:
    return Scale(0.0, max(last, 1.0), _LEFT, WIDTH - _RIGHT)


def _line_panel(lines: Sequence[Line], heading: str, unit: str, x: Scale, y: Scale, title: str) -> str:
    """A panel with axes, legend and curves; y comes without the room that the legend takes."""
    top = 34 + 18 * len(lines) + 10
    height = top + HEIGHT
    y = Scale(y.low, y.high, y.start + top, y.end + top, y.log)
    unit += ", log scale" if y.log else ""
    parts = [_heading(shorten(heading, LABEL), unit), *_axes(x, y)]
    for number, line in enumerate(lines):
        row = 34 + 18 * number
        parts.append(_stroke(f"M0 {row}H26", line))
        parts.append(_text(f"{shorten(line.label, LABEL)}", 34, row + 4))
        parts.append(_text(f"at the end {_end(line)}", WIDTH - _RIGHT, row + 4, anchor="end"))
    for line in lines:
        parts += _curve(line, x, y)
    said = "; ".join(
        f"{line.label}: from {_value(line.points[0][1])} at step {line.points[0][0]:g} "
        f"to {_value(line.points[-1][1])} at step {line.points[-1][0]:g}"
        for line in lines
    )
    return _svg(parts, height, title, f"Line chart. {said}.")


def _axes(x: Scale, y: Scale) -> list[str]:
    parts = []
    for value in ticks(y):
        place = y.place(value)
        parts.append(_rule(x.start, place, x.end, place))
        parts.append(_text(f"{value:g}", x.start - 7, place + 4, anchor="end", size=11, faint=True))
    for value in ticks(x):
        place = x.place(value)
        parts.append(_text(f"{value:,g}", place, y.start + 17, anchor="middle", size=11, faint=True))
    parts.append(_text("step", x.end, y.start + 32, anchor="end", size=11, faint=True))
    return parts


def _curve(line: Line, x: Scale, y: Scale) -> list[str]:
    parts = []
    if line.band:
        upper = [(x.place(step), y.place(high)) for step, _, high in line.band]
        lower = [(x.place(step), y.place(low)) for step, low, _ in line.band]
        outline = _path([*upper, *reversed(lower)])
        parts.append(f'<path d="{outline}Z" style="fill:{_colour(line.tone)};fill-opacity:.14"/>')
    if line.raw:
        raw = _path([(x.place(step), y.place(value)) for step, value in line.raw])
        parts.append(
            f'<path d="{raw}" style="stroke:{_colour(line.tone)};stroke-width:1;'
            'stroke-opacity:.35;fill:none"/>'
        )
    places = [(x.place(step), y.place(value)) for step, value in line.points]
    parts.append(_stroke(_path(places), line))
    if line.dots:
        parts += [
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" style="fill:{_colour(line.tone)}"/>'
            for px, py in places
        ]
    return parts


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in places)


def _stroke(path: str, line: Line) -> str:
    dash = f";stroke-dasharray:{line.dash}" if line.dash else ""
    style = f"stroke:{_colour(line.tone)};stroke-width:2;stroke-linejoin:round;fill:none{dash}"
    return f'<path d="{path}" style="{style}"/>'


def _end(line: Line) -> str:
    value = line.points[-1][1]
    return share(value) if line.dots else _value(value)


def _value(value: float) -> str:
    return f"{value:.3g}"


def _colour(tone: str) -> str:
    """A colour that the page may set for light and dark; the fallback serves a figure on its own."""
    if not tone.startswith("arm-"):
        return f"var(--{tone},#767676)"
    number = (int(tone.removeprefix("arm-")) - 1) % len(_ARMS)
    return f"var(--arm-{number + 1},{_ARMS[number]})"


def _heading(left: str, right: str) -> str:
    return _text(left, 0, 14, size=15, weight=700) + _text(right, WIDTH, 14, anchor="end", faint=True)


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" '
        'style="stroke:currentColor;stroke-opacity:.16;stroke-width:1"/>'
    )


def _text(
    text: str,
    x: float,
    y: float,
    *,
    anchor: str = "start",
    size: int = 13,
    weight: int = 400,
    faint: bool = False,
) -> str:
    opacity = ";fill-opacity:.7" if faint else ""
    # A halo in the page's colour, so that no rule runs through a letter.
    halo = "stroke:var(--paper,none);stroke-width:4;paint-order:stroke"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'style="fill:currentColor{opacity};{halo}">{escape(clean(text))}</text>'
    )


def _svg(parts: Sequence[str], height: float, title: str, description: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height:.0f}">'
        f"<title>{escape(clean(title))}</title><desc>{escape(clean(description))}</desc>"
        f"{''.join(parts)}</svg>"
    )
