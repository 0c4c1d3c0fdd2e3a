"""Where long work reports how far it is; the terminal's bar and the silent one look alike to it."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

R = TypeVar("R")


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


def advancing(records: Iterable[R], progress: Progress) -> Iterator[R]:
    """The records as they come, each told to the stage that has begun."""
    for record in records:
        yield record
        progress.advance()
