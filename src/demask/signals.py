"""Signals that ask a program to end: training ends after its step, all else at once.

    with noting_signals() as noted:
        while steps and noted.number is None:
            train(steps.pop())

Only the main thread may set handlers of signals; elsewhere these blocks change nothing.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], object]


@dataclass
class Noted:
    """Which signal has come in a block of `noting_signals`.

    Attributes:
        number: of the first one, None before it.
    """

    number: int | None = None


@contextmanager
def noting_signals() -> Iterator[Noted]:
    """Note SIGTERM and SIGINT, which then end nothing; a second SIGINT raises KeyboardInterrupt."""
    noted = Noted()

    def note(number: int, frame: FrameType | None) -> None:
        noted.number = noted.number or number
        if number == signal.SIGINT:  # who presses Ctrl-C twice does not want to wait for the step
            signal.signal(number, signal.default_int_handler)

    with _handling({signal.SIGTERM: note, signal.SIGINT: note}):
        yield noted


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """SIGTERM raises SystemExit with 143, so that blocks are left in order; a second one ends the process."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(128 + number)

    with _handling({signal.SIGTERM: end} if _has_no_other_meaning() else {}):
        yield


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt."""
    with _handling({signal.SIGTERM: signal.default_int_handler} if _has_no_other_meaning() else {}):
        yield


def _has_no_other_meaning() -> bool:
    """One who calls this program from a program of his own may have other plans with SIGTERM."""
    return signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@contextmanager
def _handling(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Handlers for a block; those of before come back. A signal that is ignored (`nohup`, `&`) stays so."""
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    before = {number: signal.getsignal(number) for number in handlers}
    # None: set by other than Python code, which could not be put back.
    before = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    try:
        for number in before:
            signal.signal(number, handlers[number])
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
