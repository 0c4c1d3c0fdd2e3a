"""`demask`: run a command, and turn what goes wrong into one line; the only place that catches errors."""

import errno
import os
import sys
import warnings
from typing import Any, NoReturn

import typer

from demask.commands import training  # first, as `demask --help` lists commands as they were made

# isort: split
from demask.commands import asking, benchmarking, fine_tuning, knowledge, models, reproducing
from demask.commands.app import app
from demask.errors import DemaskError
from demask.training.interruption import ending_on_sigterm

# Importing them makes them known.
_COMMANDS = (training, fine_tuning, asking, benchmarking, reproducing, knowledge, models)
# What typer's parser raises at wrong options; not exported, and older versions take it from click.
_ParserError: type[Exception] = typer.BadParameter.__mro__[2]
_INTERRUPTED = 130
# Exit codes of signals, as shells have them: 128 and the signal's number.
_STOPPED = {_INTERRUPTED: "interrupted", 143: "stopped by SIGTERM"}
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def main() -> None:
    """Run a command; turn errors that a user can mend into one line and an exit code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # what matters is said in our own words
    if not sys.warnoptions:  # `python -W default -m demask` shows what libraries say to programmers
        warnings.simplefilter("ignore")
    try:
        with ending_on_sigterm():
            code = app(standalone_mode=False)
            sys.stdout.flush()
    except DemaskError as error:
        _stop(str(error), error.exit_code)
    except _ParserError as error:
        _stop_at_usage(error)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except SystemExit as ended:
        code = ended.code
    except BrokenPipeError:  # `demask ... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (OSError, RuntimeError) as error:
        trouble = _machine_trouble(error)
        if not trouble:
            raise
        _stop(trouble, 4)
    if code in _STOPPED:
        _stop(f"{_STOPPED[code]}; the same command continues a run at its last checkpoint", code)
    sys.exit(code or 0)


def _machine_trouble(error: OSError | RuntimeError) -> str:
    """What the machine lacks, empty when the error is not its fault."""
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return f"{error.filename or 'output'}: cannot be written ({error.strerror}); free some space"
    if type(error).__name__ == "OutOfMemoryError":  # torch's own, which is not imported here
        return "out of memory; raise train.accumulation, or lower train.batch_size and evaluate.batch_size"
    return ""


def _stop(message: str, code: int) -> NoReturn:
    """One line on standard error, whatever the message was made of."""
    print(f"demask: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _stop_at_usage(error: Any) -> NoReturn:
    """A wrong option or argument; a group without a command shows its help."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "demask"
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        sys.exit(error.exit_code)
    _stop(f"{error.format_message().rstrip('.?')}; try '{path} --help'", error.exit_code)
