"""Rows of prompts with responses, or of messages, as conversations.

    for conversation in read_conversations(tables.sources, Columns()):
        conversation.turns[-1].role, conversation.turns[-1].text, conversation.source

Messages may have OpenAI's form, with `role` and `content`, which may be a list of parts, or ShareGPT's, with
`from` and `value`. Marks that say whether an answer is to be learned are read: `weight` (OpenAI), `train`
(axolotl) and others.

A row that cannot be used is an error with its file and line; none is left out, and keys that hold text and
are not trained are counted. Windows line ends become line feeds, and white space at both ends of a turn is
stripped: the templates of Llama and Gemma strip it too when a model is asked, and stripped text is written
alike by all templates.
"""

import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from demask.data.sources import read_table
from demask.documents.paths import Source
from demask.documents.tables import Row, parse_address
from demask.documents.text_files import did_you_mean, shown
from demask.errors import DataError

Role = Literal["system", "user", "assistant"]
# What only names a row carries nothing to learn.
_NAMES_A_ROW = re.compile(r"(?:.*_)?(?:id|uuid|uid)|idx|index", re.IGNORECASE)
# Keys that are named; the others are counted.
_MOST_NAMED = 8
# Of a turn: OpenAI, Mistral; axolotl (two names); ms-swift; others.
MARKS = ("weight", "train", "training", "loss", "loss_mask")
# Of a row; `loss` is there a measured number.
ROW_MARKS = ("weight", "train", "training", "loss_mask")
# Of a row, whether its answer is a wanted one (TRL's and LLaMA-Factory's KTO).
LABELS = ("label", "kto_tag")
# Which parts of an answer are learned, by its characters (axolotl).
PARTS = ("train_detail", "training_detail")
_WORDS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
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
_MORE_OF_TURN = (
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
MESSAGES = ("messages", "conversations", "conversation")
# `input` only where there is no other: beside one it is what the prompt is about.
PROMPTS = ("prompt", "question", "instruction", "problem", "query", "input")
RESPONSES = ("response", "answer", "completion", "output", "solution")
SYSTEMS = ("system", "system_prompt", "system_message")
HISTORY, CONTEXT, INPUT, TOOLS = "history", "context", "input", "tools"
# What a row says besides its words; to leave it out would train something else than what is written.
_MORE_OF_ROW = ("images", "image", "videos", "audios", "functions")
_REFUSED = frozenset((*ROW_MARKS, *LABELS, *_MORE_OF_ROW))
# Between context, prompt and input, as Alpaca has it.
_BETWEEN = "\n\n"


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


@dataclass
class UnusedKeys:
    """How much text rows hold under keys that are not trained.

    Attributes:
        characters: of all rows together, by key.
    """

    characters: dict[str, int] = field(default_factory=dict)

    def add(self, key: str, value: object, *, trained: Iterable[str] = ()) -> None:
        """Count what a row holds under a key, unless it only names the row or stands in what is trained."""
        if value is None or _NAMES_A_ROW.fullmatch(key):
            return
        if isinstance(value, str) and any(value.strip() in text for text in trained):
            return
        count = count_text(value)
        if count:
            self.characters[key] = self.characters.get(key, 0) + count

    def merge(self, others: "UnusedKeys", *, ignore: Container[str] = ()) -> None:
        """Count what another has counted, but for the keys that are left out on purpose."""
        for key, count in others.characters.items():
            if key not in ignore:
                self.characters[key] = self.characters.get(key, 0) + count


def count_text(value: object) -> int:
    """Characters of all strings in a value of JSON, without its keys."""
    if isinstance(value, str):
        return len(value.strip())
    if isinstance(value, Mapping):
        return sum(map(count_text, value.values()))
    return sum(map(count_text, value)) if isinstance(value, list) else 0


def describe_unused(characters: Mapping[str, int]) -> str:
    """One line that names the keys, the one with the most text first; empty when there is none."""
    if not characters:
        return ""
    return (
        f"not trained: {name_unused(characters)}; name what is to be trained in columns, and the others in "
        "columns.ignore"
    )


def name_unused(characters: Mapping[str, int]) -> str:
    """Keys with how much text they hold, the one with the most first."""
    largest = sorted(characters, key=lambda key: (-characters[key], key))
    named = [f"{key!r} ({characters[key]:,} characters)" for key in largest[:_MOST_NAMED]]
    more = f" and {len(largest) - _MOST_NAMED} more keys" if len(largest) > _MOST_NAMED else ""
    return f"{', '.join(named)}{more}"


def read_learn(message: Mapping[str, object], place: str) -> bool:
    """Whether a turn is to be learned, as its marks say; without marks it is.

    Raises:
        DataError: a mark is neither yes nor no, such as a weight of 0.5, or is about parts of the turn.
    """
    learn = True
    for key in MARKS:
        value = message.get(key)
        if value is None or value == "":
            continue
        mark = _read_mark(value)
        if mark is None:
            raise DataError(
                f"{place}: {key} is {shown(value)}, expected 0 or 1, as a turn is learned or not; mend it"
            )
        learn = learn and mark
    for key in PARTS:
        if message.get(key):
            raise DataError(
                f"{place} has {key!r}, but a turn is learned as a whole or not; set 'train' to true or false"
            )
    return learn


def refuse_unlearned_row(values: Mapping[str, object], source: str) -> None:
    """Raise DataError when the marks of a row say that nothing of it is to be learned."""
    for key in ROW_MARKS:
        value = values.get(key)
        if isinstance(value, list | dict) and value:
            raise DataError(
                f"{source}: {key} is {shown(value)}, expected 0 or 1; set it in each message, or leave it "
                f"out with columns.ignore=[{key}]"
            )
        if _read_mark(value) is False:
            raise _unlearned(key, value, source)
    for key in LABELS:
        value = values.get(key)
        if value is False or (isinstance(value, str) and value.strip().lower() == "false"):
            raise _unlearned(key, value, source)


def is_partial_weight(key: str, value: object) -> bool:
    """Whether a row's mark asks for something between yes and no, which is not done."""
    return key in ROW_MARKS and value not in (None, "") and _read_mark(value) is None


def _unlearned(key: str, value: object, source: str) -> DataError:
    return DataError(
        f"{source}: {key} is {shown(value)}, so its answer is not to be learned; leave the row out, or the "
        f"key with columns.ignore=[{key}]"
    )


def _read_mark(value: object) -> bool | None:
    """A mark as yes or no; None when it is neither."""
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


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
            if other not in (role_key, content_key, *MARKS, *PARTS, *_MORE_OF_TURN):
                unused.add(f"{key}.{other}", value, trained=(text,))
        yield Turn(role, text, learn)


def _read_role(message: Mapping[str, object], key: str, place: str) -> Role:
    more = next((name for name in _MORE_OF_TURN if message.get(name)), None)
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


class _Read(NamedTuple):
    """What was made of a row, and of which of its keys."""

    turns: tuple[Turn, ...]
    keys: frozenset[str]


def read_conversations(
    sources: Sequence[Source], columns: Columns, unused: UnusedKeys | None = None
) -> Iterator[Conversation]:
    """The conversations of some tables, in order, as a stream.

    Args:
        sources: files and data sets.
        columns: which of their columns hold what.
        unused: told of keys that hold text and are not trained.

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
            yield make_conversation(row, columns, unused)


def make_conversation(row: Row, columns: Columns, unused: UnusedKeys | None = None) -> Conversation:
    """The conversation of a row.

    Raises:
        DataError: the columns are missing, a text is none or empty, a role is unknown, no turn of the
            assistant follows one of the user or may be learned, or the row holds more than can be trained.
    """
    if columns.ignore:
        row = row._replace(values={k: v for k, v in row.values.items() if k not in columns.ignore})
    told = UnusedKeys()
    # Most rows have none of these keys, and there are many rows.
    if not _REFUSED.isdisjoint(row.values):
        _refuse_more(row)
    key = _find_messages(row, columns)
    read = _read_columns(row, columns, told) if key is None else _read_messages(row, key, told)
    turns, system = _put_system_first(row, read.turns)
    _check_turns(turns, row.source)
    for name, value in row.values.items():
        if name in ROW_MARKS and name not in read.keys:
            told.add(name, str(value) if is_partial_weight(name, value) else None)
        elif name not in read.keys and name not in (system, TOOLS):
            told.add(name, value, trained=(turn.text for turn in turns))
    if unused is not None and told.characters:
        unused.merge(told, ignore=columns.ignore)
    return Conversation(row.default_id, turns, row.source, _read_tools(row))


def make_replayed_conversation(row: Row, unused: UnusedKeys) -> Conversation:
    """The conversation of a row of messages that is to be replayed; it may end with the user's words.

    Marks that say what is to be learned mean nothing here.

    Args:
        row: has messages, and perhaps the system's words and tools.
        unused: told of what the row holds besides.

    Raises:
        DataError: there are no messages, or a text is none or empty, a role is unknown, or the turns are not
            in order.
    """
    key = next((name for name in MESSAGES if row.values.get(name) is not None), None)
    if key is None:
        keys = ", ".join(map(repr, row.values)) or "none"
        raise DataError(
            f"{row.source}: no key 'messages', keys are {keys}; expected {{\"messages\": [{_EXPECTED}, ...]}}"
        )
    turns, system = _put_system_first(row, read_messages(row.values[key], row.source, key, unused))
    _check_order(turns, row.source)
    if turns[-1].role == "system":
        raise DataError(f"{row.source}: no turn of the user, so nothing to answer; add one or leave it out")
    for name, value in row.values.items():
        if name not in (key, system, TOOLS):
            unused.add(name, value, trained=(turn.text for turn in turns))
    learned = tuple(replace(turn, learn=True) for turn in turns)
    return Conversation(row.default_id, learned, row.source, _read_tools(row))


def _refuse_more(row: Row) -> None:
    refuse_unlearned_row(row.values, row.source)
    more = next((name for name in _MORE_OF_ROW if row.values.get(name)), None)
    if more is not None:
        instead = "write them as 'tools'" if more == "functions" else "leave the row out"
        raise DataError(
            f"{row.source}: has {more!r}, which cannot be trained; {instead}, or leave the key out with "
            f"columns.ignore=[{more}]"
        )


def _check_turns(turns: Sequence[Turn], source: str) -> None:
    answers = [turn for turn in turns if turn.role == "assistant"]
    if not answers:
        raise DataError(f"{source}: no turn of the assistant, so nothing to learn; add one or leave it out")
    if not any(turn.learn for turn in answers):
        raise DataError(
            f"{source}: no turn of the assistant is to be learned, as all are marked with weight 0 or train "
            "false; leave the row out"
        )
    _check_order(turns, source)


def _check_order(turns: Sequence[Turn], source: str) -> None:
    for number, turn in enumerate(turns, start=1):
        if not turn.text and turn.role != "system":
            raise DataError(f"{source}: {_name(turn, number, turns)} is empty; write it or leave the row out")
        if turn.role == "assistant" and (number == 1 or turns[number - 2].role != "user"):
            raise DataError(
                f"{source}: turn {number} is the assistant's, but no user's turn stands directly before "
                "it; join or mend the turns"
            )


def _name(turn: Turn, number: int, turns: Sequence[Turn]) -> str:
    """How messages call a turn."""
    speaker = "the answer" if turn.role == "assistant" else "the prompt"
    return speaker if len(turns) <= 2 else f"turn {number} ({turn.role})"


def _find_messages(row: Row, columns: Columns) -> str | None:
    """The column of messages; None where prompts and responses are read."""
    if columns.messages is not None:
        return _find(row, columns.messages, ())
    if columns.prompt is None and columns.response is None:
        return next((name for name in MESSAGES if row.values.get(name) is not None), None)
    return None


def _read_messages(row: Row, key: str, unused: UnusedKeys) -> _Read:
    return _Read(read_messages(row.values[key], row.source, key, unused), frozenset([key]))


def _read_columns(row: Row, columns: Columns, unused: UnusedKeys) -> _Read:
    prompt = _find(row, columns.prompt, PROMPTS)
    response = _find(row, columns.response, RESPONSES)
    keys = {prompt, response}
    if _is_messages(row.values[prompt]):
        asked = read_messages(row.values[prompt], row.source, prompt, unused)
    else:
        around = [
            name
            for name in (CONTEXT, INPUT)
            if name in row.values and name not in keys and _has_text(row.values[name])
        ]
        asked = (Turn("user", _write_prompt(row, prompt, around)),)
        keys.update((CONTEXT, INPUT))
    if _is_messages(row.values[response]):
        answered = read_messages(row.values[response], row.source, response, unused)
    else:
        answered = (Turn("assistant", _read_text(row, response)),)
    if answered[: len(asked)] == asked:  # a whole conversation, as `chosen` often is
        asked = ()
    earlier = () if HISTORY in keys else _read_history(row, unused)
    return _Read((*earlier, *asked, *answered), frozenset((*keys, HISTORY)))


def _is_messages(value: object) -> bool:
    messages = read_list(value)
    return isinstance(messages, list) and bool(messages) and isinstance(messages[0], dict)


def _has_text(value: object) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value not in (None, [], {})


def _write_prompt(row: Row, prompt: str, around: Sequence[str]) -> str:
    """The context, what is asked, and the input that it is about."""
    asked = _read_text(row, prompt)
    if not asked:
        return ""
    if not around:
        return asked
    texts = {name: _read_text(row, name) for name in around}
    return _BETWEEN.join(text for text in (texts.get(CONTEXT), asked, texts.get(INPUT)) if text)


def _read_history(row: Row, unused: UnusedKeys) -> tuple[Turn, ...]:
    """Earlier turns: pairs of a question and its answer, as in LLaMA-Factory, or messages."""
    history = row.values.get(HISTORY)
    if not _has_text(history):
        return ()
    pairs = read_list(history)
    if _is_messages(pairs):
        return read_messages(pairs, row.source, HISTORY, unused)
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        if pairs == []:
            return ()
        raise DataError(
            f'{row.source}: {HISTORY} is {shown(history)}, expected pairs [["question", "answer"], ...] or '
            "messages"
        )
    what = f"{row.source}: {HISTORY}"
    return tuple(
        turn
        for asked, answered in pairs
        for turn in (Turn("user", clean(asked, what)), Turn("assistant", clean(answered, what)))
    )


def _put_system_first(row: Row, turns: tuple[Turn, ...]) -> tuple[tuple[Turn, ...], str | None]:
    """The turns after the system's words of the row, and the key of these.

    Raises:
        DataError: the turns begin with other words of the system.
    """
    there = (name for name in SYSTEMS if name in row.values)
    key = next((name for name in there if _has_text(row.values[name])), None)
    if key is None:
        return turns, None
    text = _read_text(row, key)
    if not turns or turns[0].role != "system":
        return (Turn("system", text), *turns), key
    if turns[0].text not in ("", text):
        raise DataError(
            f"{row.source}: {key} and the first turn are both the system's, and differ; keep one of them"
        )
    return (Turn("system", text), *turns[1:]), key


def _read_tools(row: Row) -> str:
    """The tools of a row as JSON, empty where it has none."""
    given = row.values.get(TOOLS)
    if not _has_text(given):
        return ""
    tools = read_list(given)
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise DataError(
            f"{row.source}: {TOOLS} is {shown(given)}, expected a list of objects, or its JSON; or leave it "
            f"out with columns.ignore=[{TOOLS}]"
        )
    return json.dumps(_without_nulls(tools), ensure_ascii=False) if tools else ""


def _without_nulls(value: object) -> object:
    """A value without the keys that only other rows of a Parquet file have."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _find(row: Row, wanted: str | None, usual: Sequence[str]) -> str:
    """The name of a column: the first that has text, else the first that is there."""
    names = usual if wanted is None else (wanted,)
    there = [name for name in names if name in row.values]
    if there:
        return next((name for name in there if _has_text(row.values[name])), there[0])
    if usual is RESPONSES and {"chosen", "rejected"} & set(row.values):
        raise DataError(
            f"{row.source}: 'chosen' and 'rejected' are preferences, expected a response; to learn what was "
            "chosen set columns.response=chosen, or columns.messages=chosen where it is a conversation"
        )
    keys = ", ".join(map(repr, row.values)) or "none"
    near = "" if wanted is None else did_you_mean(wanted, row.values)
    raise DataError(
        f"{row.source}: no key {' or '.join(map(repr, names))}, keys are {keys}; name the column in the "
        f"recipe{near}"
    )


def _read_text(row: Row, key: str) -> str:
    """A string; of the context also a list of strings."""
    value = row.values[key]
    if key == CONTEXT and isinstance(value, list) and all(isinstance(text, str) for text in value):
        value = _BETWEEN.join(value)
    return clean(value, f"{row.source}: {key}")
