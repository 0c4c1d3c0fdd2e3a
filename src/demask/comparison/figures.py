"""Figures of grids: learning curves over steps and tokens, and the variants of ablations.

for figure in make_figures(grids, "fixed"):
    figure.name, figure.title, figure.panels, figure.words    # words: for a reader who cannot see it
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from demask.comparison.curves import Curve, Point, fit_curve, make_curve
from demask.comparison.results import ArmResult, Grid, Rule, list_arms
from demask.comparison.tables import mark_title
from demask.evaluation.metrics import HEADLINE, METRICS
from demask.records import DIRECTIONS, Direction
from demask.reports.drawing import Bar, Line, bars_panel, line_panel, step_scale
from demask.reports.wording import interval

XAxis = Literal["steps", "tokens"]
_AXES: tuple[XAxis, ...] = ("steps", "tokens")


class Figure(NamedTuple):
    """Panels that stand side by side, one per direction.

    Attributes:
        name: of its file, without the ending.
        words: its content in words.
        panels: as SVG.
    """

    name: str
    title: str
    words: str
    panels: list[str]


def make_figures(grids: Sequence[Grid], rule: Rule) -> list[Figure]:
    """Learning curves over steps and over tokens per grid and model, and a figure per ablation and model.

    What was never asked while training has no curve.

    Raises:
        RunError: the rule needs scores at several steps and a run has none.
    """
    return [
        figure
        for grid in grids
        for model in dict.fromkeys(cell.model for cell in grid.cells)
        for figure in _of_model([arm for arm in list_arms([grid]) if arm.model == model], rule)
    ]


def curves_panel(curves: Sequence[Curve], names: Sequence[str], direction: str, axis: XAxis) -> str:
    """Means over seeds with their 95% band, the fit thin, the axis in doublings; empty without curves.

    Args:
        curves: of one direction.
        names: of all arms, so that an arm looks the same in both panels.
        direction: of the questions.
        axis: what accuracy is drawn against.
    """
    lines = [line for curve in curves if (line := _line(curve, names.index(curve.arm) + 1, axis))]
    if not lines:
        return ""
    places = [x for line in lines for x, _ in line.points]
    return line_panel(
        lines,
        direction.capitalize(),
        METRICS[HEADLINE].label,
        f"{direction.capitalize()} accuracy over {axis}",
        x=step_scale(max(places), first=min(places)),
        along=axis,
    )


def variants_panel(arms: Sequence[ArmResult], rule: Rule, direction: str) -> str:
    """A bar per variant: the mean with its 95% interval, each seed as a stroke."""
    bars = []
    for arm in arms:
        accuracy = arm.reach(rule).get(direction)
        seeds = tuple(accuracy.seeds.values()) if accuracy and len(accuracy.seeds) > 1 else ()
        bars.append(Bar(arm.name, accuracy.estimate if accuracy else None, "arm-1", seeds))
    return bars_panel(
        bars, direction.capitalize(), METRICS[HEADLINE].label, f"{direction.capitalize()} accuracy"
    )


def _of_model(arms: Sequence[ArmResult], rule: Rule) -> list[Figure]:
    grid, model = arms[0].grid, arms[0].model
    # Folders of grids have names of their own, also where set and model are the same.
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{grid.folder.name}-{Path(model).name}")
    place = f"{model} on {grid.setting}" + (f", {grid.ablation}" if grid.ablation else "")
    curves = {direction: _curves(arms, direction) for direction in DIRECTIONS}
    names = [arm.name for arm in arms]
    figures = []
    for axis in _AXES:
        panels = [curves_panel(found, names, direction, axis) for direction, found in curves.items()]
        if any(panels):
            title, words = f"Accuracy over {axis}: {place}", _curves_in_words(curves)
            figures.append(Figure(f"{name}-{axis}", title, words, [panel for panel in panels if panel]))
    if grid.ablation:
        title = mark_title(f"Accuracy of variants: {place}", rule)
        panels = [variants_panel(arms, rule, direction) for direction in DIRECTIONS]
        figures.append(Figure(f"{name}-variants", title, _variants_in_words(arms, rule), panels))
    return figures


def _curves(arms: Sequence[ArmResult], direction: str) -> list[Curve]:
    made = (make_curve(arm.cells, direction) for arm in arms)
    return [curve for curve in made if curve and len(curve.trained) > 1]  # a point is no curve


def _line(curve: Curve, number: int, axis: XAxis) -> Line | None:
    points = [point for point in curve.trained if _place(point, axis)]
    if not points:
        return None
    places = [(_place(point, axis) or 0.0, point.accuracy) for point in points]
    return Line(
        curve.arm,
        tuple((x, accuracy.value) for x, accuracy in places),
        number,
        thin=_fitted(curve, points, axis),
        band=tuple((x, accuracy.low, accuracy.high) for x, accuracy in places),
        dots=True,
    )


def _place(point: Point, axis: XAxis) -> float | None:
    return float(point.step) if axis == "steps" else point.tokens


def _fitted(curve: Curve, points: Sequence[Point], axis: XAxis) -> tuple[tuple[float, float], ...]:
    """The fit, at places so close that a curve through them looks smooth; empty where there is none."""
    fit = fit_curve(curve).fit
    if fit is None:
        return ()
    drawn = []
    for point, following in pairwise(points):
        x, next_x = _place(point, axis) or 1.0, _place(following, axis) or 1.0
        for part in range(17):
            step = point.step * (following.step / point.step) ** (part / 16)
            drawn.append((x * (next_x / x) ** (part / 16), fit.at(step)))
    return tuple(drawn)


def _curves_in_words(curves: Mapping[Direction, list[Curve]]) -> str:
    ends = "; ".join(
        f"{direction}, {curve.arm}: {interval(curve.points[-1].accuracy)} at step {curve.points[-1].step:,}"
        for direction, found in curves.items()
        for curve in found
    )
    return (
        "Share of questions answered, means over seeds with 95% bands; thin: A (1 − exp(−k x)). "
        f"At the end {ends}."
    )


def _variants_in_words(arms: Sequence[ArmResult], rule: Rule) -> str:
    said = "; ".join(
        f"{arm.name}, {direction}: {interval(accuracy.estimate)}"
        for arm in arms
        for direction, accuracy in arm.reach(rule).items()
    )
    return f"Means with 95% intervals over documents, and each seed as a small stroke. {said}."
