"""What is called while training runs, after every step, with the model at rest."""

from typing import Protocol


class Callback(Protocol):
    """What is called while training runs, after every step, with the model at rest."""

    def on_step_end(self, step: int) -> None:
        """Measure, where it is time; that time is not counted as training."""

    def should_stop(self, step: int) -> bool:
        """Whether training may end here; every process must say the same."""


class NoCallback:
    """Measures nothing and never stops."""

    def on_step_end(self, step: int) -> None:
        """Nothing."""

    def should_stop(self, step: int) -> bool:
        """Never."""
        return False
