"""Every error a user can cause, in one line: what is, what was expected, what to do.

The command line prints these without a traceback and exits with `exit_code`.
Anything else that is raised is a bug and keeps its traceback.
"""


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
