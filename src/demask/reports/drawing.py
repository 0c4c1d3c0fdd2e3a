"""SVG drawn from numbers alone: panels of bars, panels of lines, their axes.

    bars_panel([Bar("after", metric, "arm-1")], "Forward", "40 questions", title="Forward accuracy")
    line_panel([Line("demasking", points, 1)], "Forward", "contains", "Accuracy over steps")
    arrange([[panel, panel]])            # one drawing that stands on its own, on white

Panels are `WIDTH` units wide and stand side by side on a wide page, below each other on a phone,
so that text stays at reading size. Text takes the page's colour; lines differ in dash as well as in
colour (Okabe and Ito's palette, told apart by colour-blind readers), bars are labelled one by one.
Places are in units of the viewBox; y grows downwards, so the start of a scale may exceed its end.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from demask.evaluation.metrics import Estimate
from demask.reports.wording import clean, interval, share, shorten

WIDTH = 400
HEIGHT = 230
GAP = 28  # between the panels of one drawing
LABEL = 30  # characters of a label that fit on a line

_ROW, _BAR = 44, 12
_LEFT, _RIGHT, _BOTTOM = 52, 14, 40
_ARMS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")
_DASHES = ("", "7 4", "2 3", "9 3 2 3", "12 4", "4 2")

# A series spanning more than this factor is unreadable on a linear axis.
LOG_SPAN = 10.0
# Share of the points that one smoothed point averages over.
SMOOTHING_SHARE = 0.1


@dataclass(frozen=True)
class Bar:
    """One labelled bar.

    Attributes:
        metric: None where it was not measured.
        tone: `before`, `ceiling` or the number of an arm, as `arm-1`.
        marks: further values, as of each seed, drawn as strokes below the bar.
    """

    label: str
    metric: Estimate | None
    tone: str
    marks: tuple[float, ...] = ()


@dataclass(frozen=True)
class Line:
    """One curve; what is `thin` is drawn so behind it, the band is (x, low, high).

    Attributes:
        number: of the arm, from 1; gives colour and dashes.
    """

    label: str
    points: tuple[tuple[float, float], ...]
    number: int
    thin: tuple[tuple[float, float], ...] = ()
    band: tuple[tuple[float, float, float], ...] = ()
    dots: bool = False


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


def value_scale(values: Sequence[float]) -> Scale:
    """A vertical axis that holds all values."""
    return fit_scale(values, HEIGHT - _BOTTOM, 0)


def step_scale(last: float, *, first: float = 0.0) -> Scale:
    """The horizontal axis up to the last step; logarithmic where it begins above 0."""
    return Scale(first, max(last, 1.0), _LEFT, WIDTH - _RIGHT, log=first > 0)


def bars_panel(bars: Sequence[Bar], heading: str, right: str, title: str) -> str:
    """Bars below each other, with an axis from 0 to 1.

    Args:
        bars: in their order.
        heading: above the panel, on the left.
        right: beside it, as the number of questions.
        title: of the figure, for readers who cannot see it.
    """
    said = "; ".join(f"{bar.label}: {interval(bar.metric)}" for bar in bars)
    height = 42 + _ROW * len(bars) + 26
    x = Scale(0.0, 1.0, 1, WIDTH - 1)
    parts = [_heading(heading, right), *_bar_axis(x, 42, height - 26)]
    for number, bar in enumerate(bars):
        parts += _bar(bar, x, 42 + _ROW * number)
    return _svg(parts, height, title, f"Horizontal bars with 95% intervals. {said}.")


def line_panel(
    lines: Sequence[Line],
    heading: str,
    unit: str,
    title: str,
    *,
    x: Scale | None = None,
    y: Scale | None = None,
    along: str = "step",
) -> str:
    """A panel with axes, legend and curves.

    Args:
        lines: each has a row in the legend.
        heading: above the panel, on the left.
        unit: of the vertical axis.
        title: of the figure, for readers who cannot see it.
        x: of `step_scale`; None: up to the last point.
        y: of `value_scale`; None: of shares.
        along: what the horizontal axis counts.
    """
    top = 34 + 18 * len(lines) + 10
    x = x or step_scale(max(place for line in lines for place, _ in line.points))
    y = y or Scale(0.0, 1.0, HEIGHT - _BOTTOM, 0)
    y = Scale(y.low, y.high, y.start + top, y.end + top, y.log)
    unit, below = (text + (", log scale" if scale.log else "") for text, scale in ((unit, y), (along, x)))
    parts = [_heading(shorten(heading, LABEL), unit), *_axes(x, y, below)]
    for number, line in enumerate(lines):
        row = 34 + 18 * number
        parts.append(_stroke(f"M0 {row}H26", line))
        parts.append(_text(f"{shorten(line.label, LABEL)}", 34, row + 4))
        parts.append(_text(f"at the end {_end(line)}", WIDTH - _RIGHT, row + 4, anchor="end"))
    for line in lines:
        parts += _curve(line, x, y, opacity=0.14 if len(lines) < 4 else 0.07)  # many bands lie on each other
    said = "; ".join(
        f"{line.label}: from {_value(line.points[0][1])} at {along} {line.points[0][0]:g} "
        f"to {_value(line.points[-1][1])} at {along} {line.points[-1][0]:g}"
        for line in lines
    )
    return _svg(parts, top + HEIGHT, title, f"Line chart. {said}.")


def arrange(rows: Sequence[Sequence[str]], title: str = "") -> str:
    """Rows of panels as one drawing on white, as a README is read in light and dark.

    Args:
        rows: of panels.
        title: above them, where there is one.
    """
    parts = [_text(title, GAP, 36, size=15, weight=700)] if title else []
    width, y = 0.0, float(GAP + (24 if title else 0))
    for panels in rows:
        x, bottom = float(GAP), y
        for panel in panels:
            w, h = (float(size) for size in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', panel)[0])
            parts.append(panel.replace("<svg ", f'<svg x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" ', 1))
            x, bottom = x + w + GAP, max(bottom, y + h)
        width, y = max(width, x), bottom + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {y:g}" width="{width:g}" '
        f'color="#1a1a1a" font-family="system-ui, sans-serif">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


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


def _bar(bar: Bar, x: Scale, top: float) -> list[str]:
    if bar.metric is None:
        return [_text(bar.label, x.start, top + 12), _text("not measured", x.start, top + 28, faint=True)]
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
        *(
            f'<path d="M{x.place(mark):.1f} {bottom + 14:.1f}v5" style="stroke:{_ARMS[1]};stroke-width:2"/>'
            for mark in bar.marks
        ),
    ]


def _bar_axis(x: Scale, top: float, bottom: float) -> list[str]:
    parts = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        place = x.place(value)
        anchor = {0.0: "start", 1.0: "end"}.get(value, "middle")
        parts.append(_rule(place, top + 14, place, bottom - 2))
        parts.append(_text(f"{value:g}", place, bottom + 14, anchor=anchor, size=11, faint=True))
    return parts


def _axes(x: Scale, y: Scale, along: str) -> list[str]:
    parts = []
    for value in ticks(y):
        place = y.place(value)
        parts.append(_rule(x.start, place, x.end, place))
        parts.append(_text(f"{value:g}", x.start - 7, place + 4, anchor="end", size=11, faint=True))
    for value in ticks(x):
        place = x.place(value)
        parts.append(_text(_number(value), place, y.start + 17, anchor="middle", size=11, faint=True))
    parts.append(_text(along, x.end, y.start + 32, anchor="end", size=11, faint=True))
    return parts


def _curve(line: Line, x: Scale, y: Scale, *, opacity: float) -> list[str]:
    parts = []
    if line.band:
        upper = [(x.place(step), y.place(high)) for step, _, high in line.band]
        lower = [(x.place(step), y.place(low)) for step, low, _ in line.band]
        outline = _path([*upper, *reversed(lower)])
        parts.append(
            f'<path d="{outline}Z" style="fill:{_colour(f"arm-{line.number}")};fill-opacity:{opacity:g}"/>'
        )
    if line.thin:
        thinner = _path([(x.place(step), y.place(value)) for step, value in line.thin])
        parts.append(
            f'<path d="{thinner}" style="stroke:{_colour(f"arm-{line.number}")};stroke-width:1;'
            'stroke-opacity:.35;fill:none"/>'
        )
    places = [(x.place(step), y.place(value)) for step, value in line.points]
    parts.append(_stroke(_path(places), line))
    if line.dots:
        parts += [
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" style="fill:{_colour(f"arm-{line.number}")}"/>'
            for px, py in places
        ]
    return parts


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in places)


def _stroke(path: str, line: Line) -> str:
    place = line.number - 1
    # Arms that share a colour differ in their dashes.
    dashes = _DASHES[(place + place // len(_ARMS)) % len(_DASHES)]
    dash = f";stroke-dasharray:{dashes}" if dashes else ""
    colour = _colour(f"arm-{line.number}")
    return f'<path d="{path}" style="stroke:{colour};stroke-width:2;stroke-linejoin:round;fill:none{dash}"/>'


def _end(line: Line) -> str:
    value = line.points[-1][1]
    return share(value) if line.dots else _value(value)


def _value(value: float) -> str:
    return f"{value:.3g}"


def _number(value: float) -> str:
    """A count on an axis, short: `500`, `20k`, `3M`."""
    for size, letter in ((1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e6 if letter == 'M' else 1e3):g}{letter}"
    return f"{value:,g}"


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
