"""Where long work reports how far it is; the terminal's bar and the silent one look alike to it."""

from typing import Protocol


class Progress(Protocol):
    """Told of stages, steps and remarks."""

    def begin(self, stage: str, total: int, *, done: int = 0) -> None:
        """A stage of `total` parts begins, `done` of them by an earlier process; the one before has ended."""

    def advance(self, parts: int = 1, note: str = "") -> None:
        """Some parts of the stage are done."""

    def say(self, text: str) -> None:
        """A remark worth a line of its own."""


class Silent:
    """Reports to nobody."""

    def begin(self, stage: str, total: int, *, done: int = 0) -> None:
        """Nothing."""

    def advance(self, parts: int = 1, note: str = "") -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""
