"""From what a user asks for to matrices of cells, and from their runs to one report.

comparisons = make_comparisons(order, benchmark, data, out, arms=None, ablations=["ratio"])
run_cells([cell for c in comparisons for cell in c.cells], out / CELLS, ...)
report_comparisons(out, rule="fixed")             # report.html about every matrix below out
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from demask.benchmarks.benchmark import Benchmark
from demask.comparison.arms import ABLATIONS, Arm, choose_ablation, choose_arms
from demask.comparison.matrix import CELLS, Order, PlannedCell, make_cells, write_matrix
from demask.comparison.page import compare_matrices
from demask.comparison.results import MATRIX, Rule, is_matrix_folder
from demask.errors import ConfigError

ALL = "all"


@dataclass(frozen=True)
class Comparison:
    """One matrix.

    Attributes:
        folder: holds `matrix.json`.
        cells: of all models.
    """

    folder: Path
    cells: tuple[PlannedCell, ...]


def check_rule(rule: str) -> Rule:
    """The rule by which a step is chosen.

    Raises:
        ConfigError: there is no such rule.
    """
    if rule not in get_args(Rule):
        raise ConfigError(f"--rule: {rule!r}, expected one of {', '.join(get_args(Rule))}")
    return cast("Rule", rule)


def make_comparisons(
    order: Order,
    benchmark: Benchmark,
    data: Path,
    out: Path,
    *,
    arms: Sequence[str] | None,
    ablations: Sequence[str] | None,
) -> list[Comparison]:
    """Plan every cell, and write the matrices.

    Args:
        order: what is compared.
        benchmark: what is taught.
        data: folder with its files; its name tells sets apart.
        out: gets a folder for each matrix.
        arms: names; None: all that train this kind of model.
        ablations: names, or `all`; None: the arms are compared.

    Raises:
        ConfigError: a name is unknown, or arms and ablations are both given.
    """
    if arms and ablations:
        raise ConfigError("--arm and --ablation are both given, expected one of them")
    names = list(ABLATIONS) if ablations and ALL in ablations else ablations
    wanted: list[tuple[str | None, Sequence[str] | None]] = (
        [(name, None) for name in dict.fromkeys(names)] if names else [(None, arms)]
    )
    made = []
    for ablation, chosen in wanted:
        cells: list[PlannedCell] = []
        for model in order.models:
            ways = choose_ablation(ablation) if ablation else _choose(chosen, model)
            cells += make_cells(replace(order, models=(model,)), ways, benchmark, data)
        folder = out / (f"{data.name}-{ablation}" if ablation else data.name)
        write_matrix(
            cells,
            folder,
            benchmark=benchmark,
            ablation=ablation,
            budget=order.budget,
            cells_folder=f"../{CELLS}",
        )
        made.append(Comparison(folder, tuple(cells)))
    return made


def _choose(names: Sequence[str] | None, model: str) -> tuple[Arm, ...]:
    from demask.models.diffusion import diffusion_form
    from demask.models.load import load_architecture

    return choose_arms(names, diffusion=diffusion_form(load_architecture(model)) is not None)


def report_comparisons(out: Path, *, rule: Rule) -> Path:
    """One report about all matrices below a folder.

    Returns:
        The HTML page; Markdown and figures stand beside it.
    """
    return compare_matrices(find_matrices([out]), out, rule).html


def find_matrices(folders: Sequence[Path]) -> list[Path]:
    """Those folders that hold a matrix, and the ones in folders that `demask reproduce` has made."""
    return [
        found
        for folder in folders
        for found in (
            [folder]
            if is_matrix_folder(folder)
            else sorted(file.parent for file in folder.glob(f"*/{MATRIX}"))
        )
    ]
