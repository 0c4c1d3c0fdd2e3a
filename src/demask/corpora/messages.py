"""A list of messages, in any of the usual forms, as turns.

    turns = read_messages(row.values["messages"], f"{row.source}: messages", unused)

OpenAI's form has `role` and `content`, which may be a list of parts; ShareGPT's has `from` and `value`.
"""

import json
from collections.abc import Iterator, Mapping

from demask.corpora.learn_marks import MARKS, PARTS, read_learn
from demask.corpora.turns import Role, Turn
from demask.corpora.unused import UnusedKeys
from demask.documents.text_files import shown
from demask.errors import DataError

# OpenAI's names, and those of ShareGPT.
_ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
}
# What a turn says besides its words; to leave it out would train something else than what is written.
_MORE = (
    "tool_calls",
    "function_call",
    "reasoning_content",
    "reasoning",
    "thinking",
    "refusal",
    "audio",
    "images",
    "videos",
)
_EXPECTED = '{"role": "user", "content": "..."}'
# Between the parts of a turn, as vLLM joins them for templates that take no parts.
_BETWEEN_PARTS = "\n"


def read_messages(value: object, place: str, key: str, unused: UnusedKeys) -> tuple[Turn, ...]:
    """The turns of a list of messages, or of its JSON.

    Args:
        value: of the row.
        place: of the row, as `file line 12`.
        key: under which it stands.
        unused: told of what messages hold besides.

    Raises:
        DataError: it is no such list, or a message of it cannot be trained.
    """
    messages = read_list(value)
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{place}: {key} is {shown(value)}, expected a list of {_EXPECTED}")
    return tuple(_read_turns(messages, place, key, unused))


def read_list(value: object) -> object:
    """The value itself, or, where it is the JSON of a list, as tables hold it, that list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def clean(value: object, what: str) -> str:
    """A text with line feeds and without white space at its ends.

    Raises:
        DataError: it is no string; begins with `what`.
    """
    if not isinstance(value, str):
        raise DataError(f"{what} is {shown(value)}, expected a string")
    return value.replace("\r\n", "\n").strip()


def _read_turns(messages: list[object], place: str, key: str, unused: UnusedKeys) -> Iterator[Turn]:
    numbered = len(messages) > 0 and key in ("messages", "conversations", "conversation")
    for number, message in enumerate(messages, start=1):
        where = f"{place}: turn {number}" if numbered else f"{place}: {key}, turn {number}"
        if not isinstance(message, dict):
            raise DataError(f"{where} is {shown(message)}, expected {_EXPECTED}")
        role_key, content_key = ("role", "content") if "role" in message else ("from", "value")
        if role_key not in message or content_key not in message:
            keys = ", ".join(map(repr, message)) or "none"
            raise DataError(
                f"{where} has the keys {keys}, expected 'role' and 'content', or 'from' and 'value'"
            )
        role = _read_role(message, role_key, where)
        text = _read_content(message[content_key], f"{where}: {content_key}")
        learn = read_learn(message, where)
        for other, value in message.items():
            if other not in (role_key, content_key, *MARKS, *PARTS, *_MORE):
                unused.add(f"{key}.{other}", value, trained=(text,))
        yield Turn(role, text, learn)


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


def _read_content(value: object, what: str) -> str:
    """A string, or the text of a list of parts, all of which must be text."""
    if not isinstance(value, list) or not value:
        return clean(value, what)
    texts = []
    for number, part in enumerate(value, start=1):
        kind = part.get("type", "text") if isinstance(part, dict) else None
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str) or kind not in (None, "text"):
            raise DataError(
                f"{what} has part {number} of kind {shown(kind) if kind else shown(part)}, expected text; "
                "images and sounds cannot be trained, so leave the row out"
            )
        texts.append(text)
    return clean(_BETWEEN_PARTS.join(texts), what)
