"""The application that all commands belong to, and how they print."""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from demask.errors import StoppedError, ThresholdError

if TYPE_CHECKING:
    from demask.evaluation.thresholds import Thresholds
    from demask.progress import Progress

BEGIN_ANEW = "the same command begins anew"


class _Announced(TyperCommand):
    """A command that says at once that it has begun, as libraries take seconds to load."""

    def invoke(self, ctx: Any) -> Any:
        """As typer's."""
        if "torch" not in sys.modules:  # else nothing is left to wait for
            _announce(ctx)
        return super().invoke(ctx)


def _announce(context: Any) -> None:
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, str(context.info_name))
        context = context.parent
    with suppress(OSError):
        sys.stderr.write(f"demask {' '.join(names)}: starting\n")
        sys.stderr.flush()


class App(typer.Typer):
    """An application whose commands say that they have begun."""

    def command(self, *arguments: Any, **settings: Any) -> Callable[[Any], Any]:
        """As typer's."""
        return super().command(*arguments, **{"cls": _Announced, **settings})


app = App(
    name="demask",
    help="Teach an open-weight language model new facts from plain documents, both ways round, and prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # drawing boxes around the help would take a third of its time
    add_completion=False,
)


def guard(
    thresholds: "Thresholds", metrics: Mapping[str, Any], retention: Mapping[str, Any] | None = None
) -> None:
    """Exit with 5 when a threshold is missed; says which."""
    missed = _find_missed(thresholds, metrics, retention)
    if missed:
        raise ThresholdError("; ".join(missed))


def print_guarded_json(
    value: Mapping[str, Any],
    thresholds: "Thresholds",
    metrics: Mapping[str, Any],
    retention: Mapping[str, Any] | None = None,
) -> None:
    """One object, with the error in it where a threshold is missed, which `guard` then raises."""
    missed = _find_missed(thresholds, metrics, retention)
    error = describe_error(ThresholdError.__name__, "; ".join(missed), ThresholdError.exit_code)
    print_json({**value, **error} if missed else value)


def _find_missed(
    thresholds: "Thresholds", metrics: Mapping[str, Any], retention: Mapping[str, Any] | None
) -> list[str]:
    from demask.evaluation.thresholds import find_missed

    return find_missed(thresholds, metrics, (retention or {}).get("measures"))


def describe_error(kind: str, message: str, exit_code: int) -> dict[str, dict[str, Any]]:
    """An error for programs."""
    return {"error": {"kind": kind, "message": message, "exit_code": exit_code}}


@contextmanager
def going_on(
    out: Path | None, then: str = "the same command goes on with what is done there"
) -> Iterator[None]:
    """Where a signal ends the block: say what the same command does when it is started again.

    Args:
        out: the folder with what is done; nothing is kept before it is there. None: kept elsewhere.
        then: what the command does.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as ended:
        number = signal.SIGINT if isinstance(ended, KeyboardInterrupt) else signal.SIGTERM
        if isinstance(ended, SystemExit) and ended.code != 128 + number:
            raise
        if out is not None:
            then = f"{out}: {then}" if out.exists() else BEGIN_ANEW
        raise StoppedError(number, then) from None


def show_progress() -> "AbstractContextManager[Progress]":
    """A bar on standard error, so that what is printed can be piped."""
    from rich.console import Console

    from demask.terminal import TerminalProgress

    return TerminalProgress(Console(stderr=True))


def open_terminal() -> Any:
    """Where tables are printed."""
    from demask.terminal import open_console

    return open_console()


def print_json(value: object) -> None:
    """One object, for programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
