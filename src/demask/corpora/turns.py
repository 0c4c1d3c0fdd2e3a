"""The records that rows of fine-tuning data become."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; None: found by the usual names.

    Attributes:
        prompt: what the user says.
        response: what the assistant says.
        messages: a list of turns, in place of both.
        ignore: columns that are left out on purpose.
    """

    prompt: str | None = None
    response: str | None = None
    messages: str | None = None
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True)
class Turn:
    """What one of the speakers says at once.

    Attributes:
        role: of the speaker.
        text: stripped.
        learn: whether it may be learned; only read where the assistant speaks.
    """

    role: Role
    text: str
    learn: bool = True


@dataclass(frozen=True)
class Conversation:
    """One row.

    Attributes:
        id: unique within the data; made of file and line.
        turns: at least one of the assistant that may be learned; each of the assistant follows a user's.
        source: where it stands, as `file line 12`.
        tools: that the assistant may call, as a JSON list for the chat template; empty when there are none.
    """

    id: str
    turns: tuple[Turn, ...]
    source: str
    tools: str = ""
