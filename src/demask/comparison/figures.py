"""Figures of matrices, drawn with matplotlib as SVG and PNG; the same numbers give the same bytes.

    files = draw_figures(matrices, "fixed", folder)     # one learning-curve figure per matrix and model
    files[0].svg, files[0].png, files[0].words          # words: what a reader who cannot see it needs

Colours are Okabe and Ito's, told apart by colour-blind readers; markers differ too, and lines carry their
names at their ends. matplotlib is imported when a figure is drawn.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from demask.comparison.curves import Curve, Point, fit_curve, make_curve
from demask.comparison.results import Matrix, Rule, Summary, group_cells, summarise_cells
from demask.comparison.tables import mark_title
from demask.errors import RunError
from demask.evaluation.metrics import HEADLINE, METRICS
from demask.records import DIRECTIONS
from demask.reports.wording import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

XAxis = Literal["steps", "tokens"]

_AXES: tuple[XAxis, ...] = ("steps", "tokens")
# Okabe and Ito 2008, without yellow, which is too pale for a line on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
# In shares: names at the ends of lines closer than this would print over each other.
_APART = 0.062
_INK = "#1b1d20"
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3de",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "savefig.dpi": 150,
    # Ids of paths are drawn at random otherwise, and no two files are the same.
    "svg.hashsalt": "demask",
}


@dataclass(frozen=True)
class FigureFiles:
    """One figure in both forms, its title, and its content in words."""

    title: str
    words: str
    svg: Path
    png: Path


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_figures(matrices: Sequence[Matrix], rule: Rule, folder: Path) -> list[FigureFiles]:
    """Learning curves over steps and over tokens per matrix and model, and a figure per ablation and model.

    What was never asked while training has no curve.

    Raises:
        RunError: matplotlib is not installed, the folder cannot be written, or the rule needs scores at
            several steps and a run has none.
    """
    if not can_draw():
        raise RunError("drawing figures needs matplotlib: pip install 'demask[figures]'")
    from matplotlib import style

    # Our style alone, whatever the reader's matplotlibrc says.
    with style.context(_STYLE, after_reset=True):
        return [
            file
            for matrix in matrices
            for model in dict.fromkeys(cell.model for cell in matrix.cells)
            for file in _draw_model(matrix, model, rule, folder)
        ]


def draw_curves(curves: dict[str, list[Curve]], title: str, axis: XAxis) -> "Figure":
    """A panel per direction: means over seeds with their 95% band, the fit dashed, the axis in doublings.

    Args:
        curves: by direction; an arm has the same colour and marker in both.
        title: stands above both panels.
        axis: what accuracy is drawn against.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    names = list(dict.fromkeys(curve.arm for found in curves.values() for curve in found))
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    panels = figure.subplots(1, len(curves), sharey=True)
    for panel, (direction, found) in zip(panels, curves.items(), strict=True):
        for curve in found:
            _draw_curve(panel, curve, axis, names.index(curve.arm))
        panel.set_title(direction, loc="left", fontsize=10)
        panel.set_ylim(-0.02, 1.04)
        panel.set_xlabel(f"{axis}, log scale")
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(EngFormatter(places=0, sep=""))
        _name_lines(panel, found, names)
    panels[0].set_ylabel(f"accuracy ({METRICS[HEADLINE].label})")
    return figure


def draw_variants(summaries: Sequence[Summary], title: str) -> "Figure":
    """A row per variant, a panel per direction: the mean with its 95% interval, each seed as a small dot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.7 + 0.42 * len(summaries)), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    panels = figure.subplots(1, len(DIRECTIONS), sharey=True)
    for panel, direction in zip(panels, DIRECTIONS, strict=True):
        for row, summary in enumerate(summaries):
            _draw_variant(panel, row, summary, direction)
        panel.set_title(direction, loc="left", fontsize=10)
        panel.set_xlim(-0.04, 1.04)
        panel.set_xlabel(f"accuracy ({METRICS[HEADLINE].label}); line: 95% interval, strokes below it: seeds")
        panel.grid(visible=False, axis="y")
    panels[0].set_yticks(range(len(summaries)), [summary.arm for summary in summaries])
    panels[0].set_ylim(len(summaries) - 0.5, -0.5)
    return figure


def _draw_model(matrix: Matrix, model: str, rule: Rule, folder: Path) -> list[FigureFiles]:
    # Folders of matrices have names of their own, also where set and model are the same.
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{matrix.folder.name}-{Path(model).name}")
    place = f"{model} on {matrix.setting}" + (f", {matrix.ablation}" if matrix.ablation else "")
    curves = {str(direction): _curves(matrix, model, direction) for direction in DIRECTIONS}
    files = []
    for axis in _AXES if any(curves.values()) else ():
        title = f"Accuracy over {axis}: {place}"
        words = _curves_in_words(curves)
        files.append(_save(draw_curves(curves, title, axis), title, words, folder / f"{name}-{axis}"))
    if matrix.ablation:
        found = [summary for summary in summarise_cells(matrix, rule) if summary.model == model]
        title = mark_title(f"Accuracy of variants: {place}", rule)
        words = _variants_in_words(found)
        files.append(_save(draw_variants(found, title), title, words, folder / f"{name}-variants"))
    return files


def _curves(matrix: Matrix, model: str, direction: str) -> list[Curve]:
    made = (make_curve(cells, direction) for (name, _), cells in group_cells(matrix).items() if name == model)
    return [curve for curve in made if curve and len(curve.trained) > 1]  # a point is no curve


def _draw_curve(panel: "Axes", curve: Curve, axis: XAxis, number: int) -> None:
    points = [point for point in curve.trained if _place(point, axis) is not None]
    xs = [_place(point, axis) or 0.0 for point in points]
    style = _line_style(number)
    low, high = [p.accuracy.low for p in points], [p.accuracy.high for p in points]
    panel.fill_between(xs, low, high, color=style["color"], alpha=0.08, linewidth=0)
    panel.plot(xs, [p.accuracy.value for p in points], markersize=5, lw=1.8, **style)
    fit = fit_curve(curve).fit
    if fit is not None and len(points) > 1:
        steps, places = _between(points, xs)
        panel.plot(
            places, [fit.at(step) for step in steps], color=style["color"], linestyle=(0, (4, 2)), lw=1
        )


def _line_style(number: int) -> dict[str, Any]:
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def _between(points: Sequence[Point], xs: Sequence[float]) -> tuple[list[float], list[float]]:
    """Steps, and their places on the axis, so close that a curve through them looks smooth."""
    steps, places = [], []
    for (point, x), (following, next_x) in pairwise(zip(points, xs, strict=True)):
        for part in range(17):
            steps.append(point.step * (following.step / point.step) ** (part / 16))
            places.append(x * (next_x / x) ** (part / 16))
    return steps, places


def _place(point: Point, axis: XAxis) -> float | None:
    return float(point.step) if axis == "steps" else point.tokens


def _name_lines(panel: "Axes", curves: Sequence[Curve], names: Sequence[str]) -> None:
    """Names right of the lines, each with its marker, moved apart where they would print over each other."""
    ends = sorted(curves, key=lambda curve: curve.points[-1].accuracy.value)
    height = -1.0
    heights = []
    for curve in ends:
        height = max(curve.points[-1].accuracy.value, height + _APART)
        heights.append(height)
    # What was pushed above the panel comes down again, and pushes those below it.
    for place in range(len(heights) - 1, -1, -1):
        limit = 1.02 if place == len(heights) - 1 else heights[place + 1] - _APART
        heights[place] = min(heights[place], limit)
    for curve, height in zip(ends, heights, strict=True):
        style = _line_style(names.index(curve.arm))
        beside = panel.get_yaxis_transform()
        panel.plot([1.03], [height], transform=beside, clip_on=False, markersize=5, lw=0, **style)
        panel.text(1.055, height, curve.arm, transform=beside, va="center", color=_INK, fontsize=8.5)


def _draw_variant(panel: "Axes", row: int, summary: Summary, direction: str) -> None:
    accuracy = summary.directions.get(direction)
    if accuracy is None:
        panel.text(0.0, row, "not measured", va="center", fontsize=8, color="#5c6168")
        return
    found = accuracy.estimate
    panel.plot([found.low, found.high], [row, row], color=COLOURS[0], lw=2, solid_capstyle="butt")
    panel.plot(found.value, row, "o", color=COLOURS[0], markersize=8)
    if len(accuracy.seeds) > 1:
        seeds = list(accuracy.seeds.values())
        panel.plot(seeds, [row + 0.27] * len(seeds), "|", color=COLOURS[1], markersize=7)
    panel.annotate(
        f"{found.value:.2f}",
        (found.value, row),
        xytext=(0, 7),
        textcoords="offset points",
        ha="center",
        fontsize=8,
    )


def _curves_in_words(curves: dict[str, list[Curve]]) -> str:
    ends = "; ".join(
        f"{direction}, {curve.arm}: {interval(curve.points[-1].accuracy)} at step {curve.points[-1].step:,}"
        for direction, found in curves.items()
        for curve in found
    )
    return (
        "Share of questions answered, means over seeds with 95% bands; dashed: A (1 − exp(−k x)). "
        f"At the end {ends}."
    )


def _variants_in_words(summaries: Sequence[Summary]) -> str:
    said = "; ".join(
        f"{summary.arm}, {direction}: {interval(accuracy.estimate)}"
        for summary in summaries
        for direction, accuracy in summary.directions.items()
    )
    return f"Means with 95% intervals over documents, and each seed as a small stroke. {said}."


def _save(figure: "Figure", title: str, words: str, stem: Path) -> FigureFiles:
    folder, name = stem.parent, stem.name
    files = FigureFiles(title, words, folder / f"{name}.svg", folder / f"{name}.png")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(files.svg, metadata={"Date": None, "Title": title})
        figure.savefig(files.png, metadata={"Software": None, "Title": title})
    except OSError as error:
        raise RunError(
            f"{folder}: figures cannot be written ({error.strerror}); choose another --out"
        ) from error
    return files
