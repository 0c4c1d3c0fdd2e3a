"""What a comparison will take, before it starts.

for row in plan_cells(cells, folder):
    row.arm, row.steps, row.tokens, row.seconds
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from demask.errors import DemaskError
from demask.reproduce.matrix import PlannedCell, tokens_per_step
from demask.reproduce.running import is_done

if TYPE_CHECKING:
    import torch

# A step of a small model waits for its thousands of little kernels to be started, whatever the GPU: ours, not
# measured for every card.
_GPU_STEP_SECONDS = 0.04


@dataclass(frozen=True)
class PlannedArm:
    """The seeds of an arm.

    Attributes:
        cells: how many there are, and of them `done`.
        steps: of each.
        tokens: of each, prompts included.
        seconds: training of each, by a one-second probe of this machine; questions come on top.
        problem: why it cannot be run.
    """

    model: str
    arm: str
    cells: int
    done: int
    steps: int
    tokens: int
    seconds: float
    problem: str = ""

    @property
    def seconds_left(self) -> float:
        """Of all seeds that are not done."""
        return 0.0 if self.problem else self.seconds * (self.cells - self.done)


def plan_cells(cells: Sequence[PlannedCell], folder: Path) -> tuple[PlannedArm, ...]:
    """One row for each model and arm, in order."""
    groups: dict[tuple[str, str], list[PlannedCell]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.arm), []).append(cell)
    return tuple(_plan(group, folder) for group in groups.values())


def seconds_left(planned: Sequence[PlannedArm], slots: Sequence[int | None]) -> float:
    """Training that is not done, on all places; those on one processor or GPU share its speed.

    Args:
        planned: of `plan_cells`.
        slots: the GPU of each place, None for the processor.
    """
    return sum(row.seconds_left for row in planned) / len(set(slots))


def _plan(group: Sequence[PlannedCell], folder: Path) -> PlannedArm:
    import torch

    from demask.models.load import choose_device, count_parameters
    from demask.models.precision import choose_bf16
    from demask.training.plan import estimate_seconds

    cell, steps = group[0], group[0].config.train.steps or 0
    tokens, seconds, problem = 0, 0.0, cell.problem
    try:
        tokens = 0 if problem else round(steps * tokens_per_step(cell.config))
    except DemaskError as error:  # of this arm alone; its cells will say so, too
        problem = str(error)
    if not problem:
        device = choose_device(cell.config.device)
        dtype = torch.bfloat16 if choose_bf16(cell.config.train.precision, device) else torch.float32
        seconds = estimate_seconds(
            tokens=tokens,
            parameters=count_parameters(cell.model),
            flops_per_second=_rate(device, dtype),
            dtype=dtype,
        )
        if device.type == "cuda":
            seconds = max(seconds, steps * _GPU_STEP_SECONDS)
    done = sum(is_done(one, folder) for one in group)
    return PlannedArm(cell.model, cell.arm, len(group), done, steps, tokens, seconds, problem)


@cache
def _rate(device: "torch.device", dtype: "torch.dtype") -> float:
    from demask.training.plan import measure_matrix_rate

    return measure_matrix_rate(device, dtype)
