"""`demask`: run a command, and turn what goes wrong into one line; the only place that catches errors."""

import errno
import itertools
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import typer

from demask.commands import training  # first, as `demask --help` lists commands as they were made

# isort: split
from demask.commands import (
    evaluating,
    exporting,
    knowledge,
    models,
    reading,
    reproducing,
    talking,
    ui,
    updating,
)
from demask.commands.app import BEGIN_ANEW, app, describe_error, print_json
from demask.errors import DemaskError, StoppedError, ThresholdError
from demask.openmp import share_cores
from demask.signals import ending_on_sigterm

__all__ = ["app", "main"]

# Importing them makes them known.
_COMMANDS = (training, updating, evaluating, talking, exporting, reproducing, knowledge, models, reading, ui)
# What typer's parser raises at wrong options; not exported, and older versions take it from click.
_ParserError: type[Exception] = typer.BadParameter.__mro__[2]
# Exit codes of signals, as shells have them: 128 and the signal's number.
_STOPPED = {128 + number: number for number in (signal.SIGINT, signal.SIGTERM)}
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class _Stopped(NamedTuple):
    """Why a command has ended before its time.

    Attributes:
        kind: of error, for programs.
        line: for people.
        code: of the exit.
        told: whether what was printed on standard output has it already.
    """

    kind: str
    line: str
    code: int
    told: bool = False


def main() -> None:
    """Run a command; turn errors that a user can mend into one line and an exit code.

    With `--json` they are also an object on standard output: `{"error": {"kind", "message", "exit_code"}}`.
    """
    share_cores()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # what matters is said in our own words
    if not sys.warnoptions:  # `python -W default -m demask` shows what libraries say to programmers
        warnings.simplefilter("ignore")
    try:
        ended = _run()
    except Exception as error:  # a bug, which keeps its traceback
        _tell_program(_Stopped(type(error).__name__, str(error), 1))
        raise
    if isinstance(ended, _Stopped):
        _tell_program(ended)
        print(f"demask: {' '.join(ended.line.split())}", file=sys.stderr)
        sys.exit(ended.code)
    sys.exit(ended)


def _run() -> _Stopped | int:
    """Run a command; its exit code, or why it has ended before its time."""
    try:
        with ending_on_sigterm():
            code = app(standalone_mode=False)
            sys.stdout.flush()
    except DemaskError as error:
        # A missed threshold comes after the result, which holds it.
        told = isinstance(error, ThresholdError)
        return _Stopped(type(error).__name__, str(error), error.exit_code, told)
    except _ParserError as error:
        return _describe_usage(error)
    except (KeyboardInterrupt, typer.Abort):
        code = 128 + signal.SIGINT
    except SystemExit as ended:
        code = ended.code
    except BrokenPipeError:  # `demask ... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (OSError, RuntimeError) as error:
        trouble = _machine_trouble(error)
        if not trouble:
            raise
        return _Stopped("RunError", trouble, 4)
    if code in _STOPPED:
        stopped = StoppedError(_STOPPED[code], BEGIN_ANEW)
        return _Stopped("StoppedError", str(stopped), code)
    return code or 0


def _machine_trouble(error: OSError | RuntimeError) -> str:
    """What the machine lacks, empty when the error is not its fault."""
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return f"{error.filename or 'output'}: cannot be written ({error.strerror}); free some space"
    if type(error).__name__ == "OutOfMemoryError":  # torch's own, which is not imported here
        return "out of memory; raise train.accumulation, or lower train.batch_size and evaluate.batch_size"
    return ""


def _tell_program(stopped: _Stopped) -> None:
    """Where JSON is asked for, the error as an object."""
    if stopped.told or not _asks_for_json(sys.argv[1:]):
        return
    with suppress(OSError):  # standard output itself may be what failed
        print_json(describe_error(*stopped[:3]))
        sys.stdout.flush()


def _asks_for_json(words: Sequence[str]) -> bool:
    """Whether the option stands there; the words could not be parsed, perhaps."""
    return "--json" in itertools.takewhile(lambda word: word != "--", words)


def _describe_usage(error: Any) -> _Stopped | int:
    """A wrong option or argument; a group without a command shows its help."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "demask"
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return int(error.exit_code)
    return _Stopped(
        "UsageError", f"{error.format_message().rstrip('.?')}; try '{path} --help'", error.exit_code
    )
