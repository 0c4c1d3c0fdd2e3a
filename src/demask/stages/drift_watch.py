"""Drift while a model trains, of a run that has a budget: measured and logged, and nothing else.

    watch = watch_drift(config, run, trained, steps=stream.steps, whole=True)
    watch.on_step_end(step)
    watch.take()                # nats per token where it was measured, else None

What is measured stops nothing and changes no weight of the loss: drift is highest in the middle of a run,
while the learning rate is, and falls with it (docs/retention.md). `keep_budget` acts once the run has ended.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demask.recipe.fine_tuning import TaskConfig
from demask.stages.replay import measure_drift, read_pool, split_pool
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.generation.conversations import Conversation
    from demask.models.load import LoadedModel

# After which shares of the steps, and on how many conversations at most.
LOOKS = (0.25, 0.5, 0.75)
_TALKS = 24


@dataclass
class DriftWatch:
    """Measures the drift of a model at a few steps.

    Attributes:
        loaded: the model that is trained.
        talks: of its base, not replayed.
        steps: after which it is measured.
    """

    loaded: "LoadedModel"
    talks: "Sequence[Conversation]"
    steps: frozenset[int]
    _measured: float | None = None

    def on_step_end(self, step: int) -> None:
        """Measure, where it is time; nothing is drawn from the generators of training."""
        if step not in self.steps:
            return
        self.loaded.model.eval()
        self._measured = measure_drift(self.loaded, self.talks)
        self.loaded.model.train()

    def take(self) -> float | None:
        """What was measured since this was last called; None: nothing was."""
        measured, self._measured = self._measured, None
        return measured


def watch_drift(
    config: TaskConfig, run: RunFolder, loaded: "LoadedModel", *, steps: int, whole: bool
) -> DriftWatch:
    """For a run with a budget; any other is not measured.

    Args:
        config: of the run.
        run: has the pool.
        loaded: the model that is trained.
        steps: of the run.
        whole: each process holds all of the weights; else nothing can be measured before the end.
    """
    nothing = DriftWatch(loaded, (), frozenset())
    if config.retain.budget is None or not whole:
        return nothing
    _, probe = split_pool(config, read_pool(run.file(file_names.REPLAY)))
    if not probe:
        return nothing
    talks = probe[:: math.ceil(len(probe) / _TALKS)]
    return DriftWatch(loaded, talks, frozenset(math.ceil(share * steps) for share in LOOKS) - {steps})
