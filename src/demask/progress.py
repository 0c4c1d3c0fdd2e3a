"""How far long work is, in numbers: a bar, a table or a page draws them; the silent one draws nothing.

    progress.begin("Training", 120, done=60, unit="steps")
    progress.advance(1, {"loss": 2.31, "tokens/s": 640.0})

A phase has a name, a unit, a total and what is done of it; what is measured has a name and a value.
`Forwarding` and `forward` carry the same calls from one process to another.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

R = TypeVar("R")
# The unit of training.
STEPS = "steps"


class Progress(Protocol):
    """Told of phases, of what is done of them, and of remarks."""

    def begin(self, phase: str, total: int, *, done: int = 0, unit: str = "") -> None:
        """A phase begins; the one before has ended.

        Args:
            phase: its name.
            total: of its parts.
            done: parts that an earlier process has done.
            unit: what the parts are, in the plural.
        """

    def advance(self, parts: int = 1, values: Mapping[str, float] | None = None) -> None:
        """Some more parts are done; `values` are the latest of what is measured, by name."""

    def say(self, text: str) -> None:
        """A remark worth a line of its own."""


class Silent:
    """Reports to nobody."""

    def begin(self, phase: str, total: int, *, done: int = 0, unit: str = "") -> None:
        """Nothing."""

    def advance(self, parts: int = 1, values: Mapping[str, float] | None = None) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


@dataclass
class Status:
    """Where work is now, kept by whoever draws it.

    Attributes:
        phase: its name; empty before the first.
        unit: of its parts.
        total: of its parts.
        done: parts that are done.
        before: parts of these that an earlier process had done.
        values: the latest of what is measured in this phase, by name.
    """

    phase: str = ""
    unit: str = ""
    total: int = 0
    done: int = 0
    before: int = 0
    values: dict[str, float] = field(default_factory=dict)

    def begin(self, phase: str, total: int, *, done: int = 0, unit: str = "") -> None:
        """See `Progress`."""
        self.phase, self.unit, self.total, self.done, self.before = phase, unit, total, done, done
        self.values = {}

    def advance(self, parts: int = 1, values: Mapping[str, float] | None = None) -> None:
        """See `Progress`."""
        self.done += parts
        self.values |= values or {}


class Forwarding:
    """A progress that another process is told.

    Args:
        send: gets the name of each call and its arguments; `forward` makes the call on the other side.
    """

    def __init__(self, send: Callable[[str, dict[str, Any]], None]) -> None:
        self._send = send

    def begin(self, phase: str, total: int, *, done: int = 0, unit: str = "") -> None:
        """See `Progress`."""
        self._send("begin", {"phase": phase, "total": total, "done": done, "unit": unit})

    def advance(self, parts: int = 1, values: Mapping[str, float] | None = None) -> None:
        """See `Progress`."""
        self._send("advance", {"parts": parts, "values": dict(values or {})})

    def say(self, text: str) -> None:
        """See `Progress`."""
        self._send("say", {"text": text})


class Stoppable:
    """A progress that ends the work where it is told of it, once that is wanted.

    In a phase of steps it does not: training looks for itself, and writes a checkpoint first.

    Args:
        progress: told all the same.
        check: raises what ends the work.
    """

    def __init__(self, progress: Progress, check: Callable[[], None]) -> None:
        self._progress, self._check, self._in_steps = progress, check, False

    def begin(self, phase: str, total: int, *, done: int = 0, unit: str = "") -> None:
        """See `Progress`."""
        self._check()
        self._in_steps = unit == STEPS
        self._progress.begin(phase, total, done=done, unit=unit)

    def advance(self, parts: int = 1, values: Mapping[str, float] | None = None) -> None:
        """See `Progress`."""
        self._progress.advance(parts, values)
        if not self._in_steps:
            self._check()

    def say(self, text: str) -> None:
        """See `Progress`."""
        self._progress.say(text)


def forward(progress: Progress, call: str, arguments: Mapping[str, Any]) -> None:
    """Make a call that `Forwarding` has sent."""
    match call:
        case "begin":
            progress.begin(**arguments)
        case "advance":
            progress.advance(**arguments)
        case _:
            progress.say(**arguments)


def describe_values(values: Mapping[str, float]) -> str:
    """The values in one line: three digits after the point, none from a hundred on."""
    return ", ".join(f"{name} {value:.{3 if abs(value) < 100 else 0}f}" for name, value in values.items())


def advancing(records: Iterable[R], progress: Progress) -> Iterator[R]:
    """The records as they come, each told to the phase that has begun."""
    for record in records:
        yield record
        progress.advance()
