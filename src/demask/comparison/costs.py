"""What a training step costs, arm by arm.

    cost = step_costs(cells)
    cost.flops, cost.seconds, cost.memory, cost.tokens

FLOPs are counted by formula, 6 N for each token: a forward pass takes 2 N, the backward pass twice that
(Kaplan et al. 2020, arXiv 2001.08361). Attention over the context is not in it.
"""

from collections.abc import Callable, Sequence
from math import fsum
from typing import NamedTuple

from demask.comparison.results import Cell
from demask.reports.wording import MISSING, count, memory

Flops = Callable[[Cell], float | None]

FLOPS_PER_PARAMETER = 6


class StepCost(NamedTuple):
    """What one step took, averaged over runs; None where it was not measured. Memory is in bytes."""

    flops: float | None
    seconds: float | None
    memory: float | None
    tokens: float | None


def step_costs(cells: Sequence[Cell], flops: Flops) -> StepCost:
    """The means of runs that are done; a number that one of them lacks is left out."""
    return StepCost(
        _mean([flops(cell) for cell in cells]),
        _mean([_per_step(cell, cell.run.cost.seconds if cell.run else None) for cell in cells]),
        _mean([cell.run.cost.peak_memory_bytes if cell.run else None for cell in cells]),
        _mean([_per_step(cell, cell.run.cost.tokens if cell.run else None) for cell in cells]),
    )


def count_flops(cell: Cell) -> float | None:
    """FLOPs of one step by formula: 6 times the parameters times the tokens of the step."""
    tokens = _per_step(cell, cell.run.cost.tokens if cell.run else None)
    if tokens is None or cell.parameters is None:
        return None
    return FLOPS_PER_PARAMETER * cell.parameters * tokens


def compare_costs(cost: StepCost, baseline: StepCost | None) -> tuple[str, ...]:
    """The four numbers for people, each with how many times the baseline's it is."""
    shown = (_teraflops(cost.flops), _seconds(cost.seconds), _memory(cost.memory), count(cost.tokens))
    return tuple(
        f"{text} (× {value / base:.2f})" if value is not None and base else text
        for text, value, base in zip(shown, cost, baseline or (None,) * len(cost), strict=True)
    )


def _per_step(cell: Cell, total: float | None) -> float | None:
    steps = cell.run.cost.steps if cell.run else None
    return total / steps if total is not None and steps else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fsum(known) / len(known) if known and len(known) == len(values) else None


def _teraflops(value: float | None) -> str:
    return MISSING if value is None else f"{value / 1e12:.3g}"


def _seconds(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def _memory(value: float | None) -> str:
    return memory(None if value is None else round(value))
