"""Rows of prompts with responses, or of messages, as conversations.

    for conversation in read_conversations(tables.sources, Columns()):
        conversation.turns[-1].role, conversation.turns[-1].text, conversation.source

A row that cannot be used is an error with its file and line; none is left out. Windows line ends become line
feeds, and white space at both ends of a turn is stripped: the templates of Llama and Gemma strip it too
when a model is asked, and stripped text is written alike by all templates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from demask.corpora.tables import read_table
from demask.documents.hub import parse_address
from demask.documents.paths import Source
from demask.documents.rows import Row
from demask.documents.text_files import did_you_mean, shown
from demask.errors import DataError

Role = Literal["system", "user", "assistant"]

MESSAGES = ("messages", "conversations")
PROMPTS = ("prompt", "question", "instruction", "problem", "query")
RESPONSES = ("response", "answer", "completion", "output", "solution")
SYSTEMS = ("system", "system_prompt")
# OpenAI's names, and those of ShareGPT.
_ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "human": "user",
    "gpt": "assistant",
}
# What a turn says besides its words; to leave it out would train something else than what is written.
_MORE = ("tool_calls", "function_call", "reasoning_content", "thinking")


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; None: found by the usual names.

    Attributes:
        prompt: what the user says.
        response: what the assistant says.
        messages: a list of turns, in place of both.
    """

    prompt: str | None = None
    response: str | None = None
    messages: str | None = None


@dataclass(frozen=True)
class Turn:
    """What one of the speakers says at once."""

    role: Role
    text: str


@dataclass(frozen=True)
class Conversation:
    """One row.

    Attributes:
        id: unique within the data; made of file and line.
        turns: at least one of the assistant, each of which follows a user's.
        source: where it stands, as `file line 12`.
    """

    id: str
    turns: tuple[Turn, ...]
    source: str


def read_conversations(sources: Sequence[Source], columns: Columns) -> Iterator[Conversation]:
    """The conversations of some tables, in order, as a stream.

    Raises:
        DataError: a file or a row is not usable.
        RunError: a library for a kind of file is missing.
    """
    for source in sources:
        if source.kind == "dataset" and parse_address(source.path).column is not None:
            raise DataError(
                f"{source.path}: column= names a column of running text; leave it out, and name the columns "
                "of prompts and responses in the recipe"
            )
    for source in sources:
        for row in read_table(source):
            yield make_conversation(row, columns)


def make_conversation(row: Row, columns: Columns) -> Conversation:
    """The conversation of a row.

    Raises:
        DataError: the columns are missing, a text is none or empty, a role is unknown, or no turn of the
            assistant follows one of the user.
    """
    turns = tuple(_make_turns(row, columns))
    if all(turn.role != "assistant" for turn in turns):
        raise DataError(
            f"{row.source}: no turn of the assistant, so nothing to learn; add one or leave it out"
        )
    for number, turn in enumerate(turns, start=1):
        if not turn.text and turn.role != "system":
            raise DataError(
                f"{row.source}: {_name(turn, number, turns)} is empty; write it or leave the row out"
            )
        if turn.role == "assistant" and (number == 1 or turns[number - 2].role != "user"):
            raise DataError(
                f"{row.source}: turn {number} is the assistant's, but no user's turn stands directly before "
                "it; join or mend the turns"
            )
    return Conversation(row.default_id, turns, row.source)


def _name(turn: Turn, number: int, turns: Sequence[Turn]) -> str:
    """How messages call a turn."""
    speaker = "the answer" if turn.role == "assistant" else "the prompt"
    return speaker if len(turns) <= 2 else f"turn {number} ({turn.role})"


def _make_turns(row: Row, columns: Columns) -> Iterator[Turn]:
    key = columns.messages
    if key is None and columns.prompt is None and columns.response is None:
        key = next((name for name in MESSAGES if row.values.get(name) is not None), None)
    if key is not None:
        yield from _read_messages(row, key)
        return
    prompt, response = _find(row, columns.prompt, PROMPTS), _find(row, columns.response, RESPONSES)
    text, more = _read_text(row, prompt), row.values.get("input")
    # Alpaca: what an instruction is about.
    if prompt == "instruction" and more is not None and _read_text(row, "input"):
        text = f"{text}\n\n{_read_text(row, 'input')}"
    system = next((name for name in SYSTEMS if row.values.get(name)), None)
    if system is not None:
        yield Turn("system", _read_text(row, system))
    yield Turn("user", text)
    yield Turn("assistant", _read_text(row, response))


def _find(row: Row, wanted: str | None, usual: Sequence[str]) -> str:
    """The name of a column."""
    names = usual if wanted is None else (wanted,)
    found = next((name for name in names if name in row.values), None)
    if found is not None:
        return found
    keys = ", ".join(map(repr, row.values)) or "none"
    near = "" if wanted is None else did_you_mean(wanted, row.values)
    raise DataError(
        f"{row.source}: no key {' or '.join(map(repr, names))}, keys are {keys}; name the column in the "
        f"recipe{near}"
    )


def _read_text(row: Row, key: str) -> str:
    return _clean(row.values[key], f"{row.source}: {key}")


def _clean(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{what} is {shown(value)}, expected a string")
    return value.replace("\r\n", "\n").strip()


def _read_messages(row: Row, key: str) -> Iterator[Turn]:
    messages = row.values[_find(row, key, ())]
    if not isinstance(messages, list) or not messages:
        raise DataError(
            f"{row.source}: {key} is {shown(messages)}, expected a list of "
            '{"role": "user", "content": "..."}'
        )
    for number, message in enumerate(messages, start=1):
        place = f"{row.source}: turn {number}"
        if not isinstance(message, dict):
            raise DataError(f'{place} is {shown(message)}, expected {{"role": "user", "content": "..."}}')
        role, content = ("role", "content") if "role" in message else ("from", "value")
        if role not in message or content not in message:
            keys = ", ".join(map(repr, message)) or "none"
            raise DataError(
                f"{place} has the keys {keys}, expected 'role' and 'content', or 'from' and 'value'"
            )
        yield Turn(_read_role(message, role, place), _clean(message[content], f"{place}: {content}"))


def _read_role(message: Mapping[str, object], key: str, place: str) -> Role:
    more = next((name for name in _MORE if message.get(name)), None)
    if more is not None:
        raise DataError(
            f"{place} has {more!r}, which cannot be trained; write it as text or leave the row out"
        )
    name = message[key]
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise DataError(
            f"{place}: {key} is {shown(name)}, expected one of {', '.join(_ROLES)}; rename it or leave the "
            "row out"
        )
    return role
