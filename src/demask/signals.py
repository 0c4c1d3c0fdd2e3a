"""What asks a process to end: a signal, or the end of the process that started it.

Training ends after its step, all else at once.

    with noting_signals() as noted:
        while steps and noted.number is None:
            train(steps.pop())

Only the main thread may set handlers of signals; elsewhere these blocks change nothing.
"""

import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import IO, TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], object]


def kill_session(process: "subprocess.Popen[bytes]", errors: IO[bytes]) -> None:
    """Kill a process that leads a session of its own, with what it has started, and wait until it is gone.

    Args:
        process: its pipes are closed.
        errors: the file that it prints to; is closed.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, errors):
        if pipe is not None:
            pipe.close()


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


def end_with_parent() -> None:
    """End this process soon after the one that started it; when that one is killed, nobody else would.

    A process of `multiprocessing` waits for who asked for it, any other for its parent.
    """
    asked_by, parent = multiprocessing.parent_process(), os.getppid()

    def watch() -> None:
        if asked_by is not None:
            asked_by.join()
        while asked_by is None and os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # what was done goes on at its last file or checkpoint, when it is started again

    threading.Thread(target=watch, daemon=True).start()


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
