"""What a library raises while it reads a model, in one line of ours.

with Reading("owner/name", "tokenizer"):
AutoTokenizer.from_pretrained(...)
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from demask.errors import DemaskError, ModelError
from demask.models.embedded import EMBEDDED, NAME


@dataclass(frozen=True)
class Reading:
    """Turns every error that a library raises inside it into a `ModelError`.

    A class and no `except` with names, since there is no list of them: tokenizers raises a plain `Exception`,
    transformers a `TypeError` where a number is a string in config.json. So nothing of ours belongs inside.
    Memory that is out keeps its error, for which the command line has words.

    Attributes:
        name: of the model, as the user gave it.
        what: is read.
    """

    name: str
    what: str

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise a `ModelError` for an error of a library."""
        known = isinstance(error, (DemaskError, MemoryError, torch.OutOfMemoryError))
        if isinstance(error, Exception) and not known:
            raise ModelError(self._explain(error)) from error

    def _explain(self, error: Exception) -> str:
        reason = say_error(error)
        if Path(self.name).exists() or self.name == EMBEDDED:
            again = f"delete {NAME} in demask's cache" if self.name == EMBEDDED else "fetch it again"
            return (
                f"{self.name}: its {self.what} cannot be loaded ({reason}); {again}, or update transformers "
                "and tokenizers where newer ones have written it"
            )
        return (
            f"{self.name}: its {self.what} cannot be had from the Hugging Face hub ({reason}); "
            "check name and network, give a model folder, or use 'model: embedded', which needs no hub"
        )


def say_error(error: Exception) -> str:
    """The first line of a message, with what it announces, and the error's kind where that says more."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    first = " ".join(line.strip() for line in lines[: 2 if lines[0].endswith(":") else 1])
    terse = isinstance(error, (LookupError, TypeError, AttributeError))
    return f"{type(error).__name__}: {first}" if terse else first
