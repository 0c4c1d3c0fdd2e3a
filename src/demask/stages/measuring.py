"""What a step costs: a few are made, with the real model and the real data, and thrown away.

cost = measure_steps(config.train, loaded, stream, launch, progress)
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from demask.config import Train
from demask.launch_config import Launch
from demask.progress import Progress
from demask.stages.training import add_adapter_if_any, make_settings

if TYPE_CHECKING:
    from demask.models.load import LoadedModel
    from demask.stages.training import Stream
    from demask.training.trainer import StepMetrics

# Steps that are timed after the first, which also makes the optimizer's moments and warms caches.
_STEPS = 6
# No more seconds than this where steps are slow, but at least one step.
_PATIENCE = 60.0


@dataclass(frozen=True)
class StepCost:
    """Of one process.

    Attributes:
        steps: that were timed.
        tokens_per_step: on average, padding aside.
        tokens_per_second: the same.
        memory_bytes: peak, of the GPU where there is one.
    """

    steps: int
    tokens_per_step: float
    tokens_per_second: float
    memory_bytes: int
    learning_rate: float
    precision: str
    parameters: int


class _SeenEnoughError(Exception):
    """Ends the training from inside, as nothing of it is to be kept."""


def measure_steps(
    train: Train, loaded: "LoadedModel", stream: "Stream", launch: Launch, progress: Progress
) -> StepCost:
    """Train a few steps and time them; the model is not the same afterwards.

    Raises:
        ModelError: the model cannot be trained.
    """
    from demask.training.peak_memory import PeakMemory
    from demask.training.trainer import train_model

    progress.begin("Timing a few steps", _STEPS + 1)
    seen: list[StepMetrics] = []

    def look(step: "StepMetrics") -> None:
        seen.append(step)
        progress.advance()
        if len(seen) > _STEPS or (len(seen) > 1 and step.seconds - seen[0].seconds > _PATIENCE):
            raise _SeenEnoughError

    settings = replace(make_settings(train, loaded, stream, launch), log_every=1)
    parameters = loaded.parameters
    trained = add_adapter_if_any(train, loaded, seed=stream.seed)
    peak = PeakMemory(loaded.device)
    with TemporaryDirectory(prefix="demask-") as folder, suppress(_SeenEnoughError):
        train_model(trained.model, stream, settings, folder=Path(folder), on_step=look)
    first, last = seen[0], seen[-1]
    single = len(seen) == 1  # a run of one step
    seconds = last.seconds if single else last.seconds - first.seconds
    return StepCost(
        steps=max(1, len(seen) - 1),
        tokens_per_step=last.tokens / len(seen),
        tokens_per_second=(last.tokens if single else last.tokens - first.tokens) / max(seconds, 1e-9),
        memory_bytes=peak.note(),
        learning_rate=settings.learning_rate,
        precision="bf16" if settings.bf16 else "fp32",
        parameters=parameters,
    )
