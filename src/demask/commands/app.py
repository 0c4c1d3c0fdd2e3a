"""The application that all commands belong to, and how they print."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import typer

from demask.errors import ThresholdError
from demask.thresholds import Thresholds, find_missed

if TYPE_CHECKING:
    from demask.progress import Progress

app = typer.Typer(
    name="demask",
    help="Teach an open-weight language model new facts from plain documents, both ways round, and prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # drawing boxes around the help would take a third of its time
    add_completion=False,
)


def guard(
    thresholds: Thresholds, metrics: Mapping[str, Any], retention: Mapping[str, Any] | None = None
) -> None:
    """Exit with 5 when a threshold is missed; says which."""
    missed = find_missed(thresholds, metrics, (retention or {}).get("measures"))
    if missed:
        raise ThresholdError("; ".join(missed))


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
