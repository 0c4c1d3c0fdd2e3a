"""Arms of matrices as rows of tables: what they are called, what they reached, which runs stand behind it.

for arm in list_arms(matrices):
    arm.names + accuracy_cells(arm.done, scores) + run_cells(arm)
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from demask.comparison.curves import Curve, find_level, fit_curve
from demask.comparison.hypotheses import Finding
from demask.comparison.results import (
    Accuracy,
    Cell,
    Matrix,
    Rule,
    done_cells,
    group_cells,
    measure_accuracy,
    stage_scores,
)
from demask.evaluation.metrics import METRICS, Score
from demask.records import DIRECTIONS
from demask.reports.wording import MISSING, count, interval, minutes, share, signed

# `contains` is the one of our figures and hypotheses; the paper's metric stands beside it.
SHOWN = ("contains", "rouge1_recall")
ACCURACY_HEADERS = tuple(
    f"{direction}, {METRICS[metric].label}" for metric in SHOWN for direction in DIRECTIONS
)
RUN_HEADERS = ("failed or missing", "runs")
_DIGEST = re.compile(r"-[0-9a-f]{8}$")


class Arm(NamedTuple):
    """The cells of one arm of one model, with the matrix they belong to."""

    matrix: Matrix
    model: str
    name: str
    cells: tuple[Cell, ...]

    @property
    def done(self) -> tuple[Cell, ...]:
        """The cells that have a result."""
        return done_cells(self.cells)

    @property
    def names(self) -> tuple[str, str, str]:
        """The first cells of its row."""
        return (self.matrix.setting, self.model, self.name)


def list_arms(matrices: Sequence[Matrix]) -> list[Arm]:
    """Every arm of every model, in the order of the matrices."""
    return [
        Arm(matrix, model, name, cells)
        for matrix in matrices
        for (model, name), cells in group_cells(matrix).items()
    ]


def accuracy_cells(cells: Sequence[Cell], scores: Sequence[Mapping[str, Score]]) -> tuple[str, ...]:
    """Both metrics, forward and backward, in the order of `ACCURACY_HEADERS`."""
    measured = [measure_accuracy(cells, scores, metric) for metric in SHOWN]
    return tuple(
        _accuracy(by_direction.get(direction)) for by_direction in measured for direction in DIRECTIONS
    )


def bound_cells(arms: Sequence[Arm], stage: str, rule: Rule) -> tuple[str, ...]:
    """Accuracy before training or with the document in the prompt, and the run that was asked; else nothing.

    All arms of a model start from the same weights, so the first run that was asked stands for all.
    """
    for cell in (cell for arm in arms for cell in arm.done):
        scores = stage_scores(cell, stage, rule)
        if scores:
            return (*accuracy_cells([cell], [scores]), name_folders([cell]))
    return ()


def run_cells(arm: Arm) -> tuple[str, str]:
    """Which cells failed or are missing and why, and the folders of the others."""
    seeds: dict[str, list[str]] = {}
    for cell in arm.cells:
        if cell.status != "done":
            seeds.setdefault(f"{cell.status}: {cell.reason}", []).append(str(cell.seed))
    unfinished = [
        f"{'seed' if len(numbers) == 1 else 'seeds'} {', '.join(numbers)} {why}"
        for why, numbers in seeds.items()
    ]
    return "; ".join(unfinished) or "none", name_folders(arm.done)


def name_folders(cells: Sequence[Cell]) -> str:
    """Runs by the ends of their folders' names, which are digests; the last table has the whole names."""
    names = (cell.folder.name for cell in cells)
    return ", ".join(name[-8:] if _DIGEST.search(name) else name for name in names) or MISSING


def fit_cells(curve: Curve | None) -> tuple[str, str]:
    """Level and rate with their standard errors, or why there are none."""
    if curve is None:
        return MISSING, MISSING
    fit, reason = fit_curve(curve)
    if fit is None:
        return MISSING, reason
    return f"{share(fit.level)} ± {share(fit.level_error)}", f"{fit.rate:.2g} ± {fit.rate_error:.1g}"


def level_cells(curve: Curve | None, level: float) -> tuple[str, str, str]:
    """Steps, tokens and minutes to a level of accuracy."""
    if curve is None:
        return MISSING, MISSING, MISSING
    point = find_level(curve, level)
    if point is None:
        return f"not reached by {count(curve.points[-1].step)}", MISSING, MISSING
    return count(point.step), count(point.tokens), minutes(point.seconds)


def change_cell(finding: Finding) -> str:
    """A difference with its interval and the two levels; its p-values have columns of their own."""
    if finding.change is None:
        return MISSING
    found = finding.change
    levels = " − ".join(map(share, finding.levels))
    return f"{signed(found.difference)} [{signed(found.low)}, {signed(found.high)}] ({levels})"


def _accuracy(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return MISSING
    seeds = accuracy.seeds.values()
    spread = f" (seeds {share(min(seeds))}–{share(max(seeds))})" if len(seeds) > 1 else ""
    return interval(accuracy.estimate) + spread
