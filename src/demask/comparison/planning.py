"""What a comparison will take, before it starts.

for row in plan_cells(cells, folder):
    row.arm, row.steps, row.tokens, row.seconds
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from demask.comparison.matrix import PlannedCell, time_steps, tokens_per_step
from demask.comparison.running import is_done
from demask.errors import DemaskError
from demask.progress import Progress
from demask.recipe.sections import RunConfig

# Tokens per second of training with a recipe; None where no step could be timed.
Rate = Callable[[RunConfig], float | None]


@dataclass(frozen=True)
class PlannedArm:
    """The seeds of an arm.

    Attributes:
        cells: how many there are, and of them `done`.
        steps: of each.
        tokens: of each, prompts included.
        seconds: training of each, questions come on top; None: not timed.
        problem: why it cannot be run.
    """

    model: str
    arm: str
    cells: int
    done: int
    steps: int
    tokens: int
    seconds: float | None
    problem: str = ""

    @property
    def seconds_left(self) -> float | None:
        """Of all seeds that are not done; None where they were not timed."""
        left = 0 if self.problem else self.cells - self.done
        return 0.0 if not left else None if self.seconds is None else self.seconds * left


def plan_cells(
    cells: Sequence[PlannedCell], folder: Path, *, rate: Rate | None = None
) -> tuple[PlannedArm, ...]:
    """One row for each model and arm, in order.

    Args:
        cells: of all models, arms and seeds.
        folder: with the runs that are done.
        rate: how fast a recipe is trained; None: rows have no times.
    """
    groups: dict[tuple[str, str], list[PlannedCell]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.arm), []).append(cell)
    return tuple(_plan(group, folder, rate) for group in groups.values())


def time_models(progress: Progress) -> Rate:
    """Times a few real steps of each model, once for all arms that train it the same way.

    The rate is that of the first arm: tokens of the others cost nearly as much.
    """
    known: dict[tuple[str, str, str], float | None] = {}

    def rate(config: RunConfig) -> float | None:
        key = (config.model, config.train.method, config.train.precision)
        if key not in known:
            known[key] = time_steps(config, progress)
        return known[key]

    return rate


def seconds_left(planned: Sequence[PlannedArm], slots: Sequence[int | None]) -> float | None:
    """Training that is not done, on all places; those on one processor or GPU share its speed.

    None where an arm was not timed.

    Args:
        planned: of `plan_cells`.
        slots: the GPU of each place, None for the processor.
    """
    left = [row.seconds_left for row in planned]
    known = [seconds for seconds in left if seconds is not None]
    return sum(known) / len(set(slots)) if len(known) == len(left) else None


def _plan(group: Sequence[PlannedCell], folder: Path, rate: Rate | None) -> PlannedArm:
    cell, steps = group[0], group[0].config.train.steps or 0
    tokens, seconds, problem = 0, None, cell.problem
    done = sum(is_done(one, folder) for one in group)
    try:
        tokens = 0 if problem else round(steps * tokens_per_step(cell.config))
        if rate and not problem and done < len(group):
            per_second = rate(cell.config)
            seconds = tokens / per_second if per_second else None
    except DemaskError as error:  # of this arm alone; its cells will say so, too
        problem = str(error)
    return PlannedArm(cell.model, cell.arm, len(group), done, steps, tokens, seconds, problem)
