"""Every error a user can cause, in one line: what is, what was expected, what to do.

The command line prints these without a traceback and exits with `exit_code`.
Anything else that is raised is a bug and keeps its traceback.
"""

import signal


class DemaskError(Exception):
    """The base of all errors that a user can cause and mend."""

    exit_code = 1


class ConfigError(DemaskError, ValueError):
    """A recipe, an option or an output folder is not usable."""

    exit_code = 2


class DataError(DemaskError, ValueError):
    """A document or a QA pair is not usable; the message names file and line."""

    exit_code = 3


class ModelError(DemaskError, RuntimeError):
    """A model or tokenizer cannot be had, or cannot do what is asked."""

    exit_code = 4


class RunError(DemaskError, RuntimeError):
    """The machine refuses: disk full, folder read-only, memory out, package missing."""

    exit_code = 4


class ThresholdError(DemaskError):
    """A threshold that the user gave is not met."""

    exit_code = 5


class StoppedError(DemaskError):
    """A signal ended a command, of which something is kept.

    Args:
        number: of the signal; the exit code is 128 more, as shells have it.
        then: what the same command does when it is started again.
    """

    def __init__(self, number: int, then: str) -> None:
        super().__init__(f"{describe_stop(number)}; {then}")
        self.exit_code = 128 + number


def describe_stop(number: int) -> str:
    """How a signal is called here."""
    return "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"


class InterruptionError(DemaskError):
    """A signal ended training in good order, at the end of a step.

    Args:
        number: of the signal; the exit code is 128 more, as shells have it.
        step: after which training stopped; its checkpoint is complete.
    """

    def __init__(self, number: int, *, step: int) -> None:
        name = signal.Signals(number).name
        super().__init__(
            f"stopped at step {step} by {name}; the checkpoint is whole, the same command goes on"
        )
        self.exit_code = 128 + number
        self.number, self.step = number, step
