"""Rows of prompts with responses, or of messages, as conversations.

    for conversation in read_conversations(tables.sources, Columns()):
        conversation.turns[-1].role, conversation.turns[-1].text, conversation.source

A row that cannot be used is an error with its file and line; none is left out, and keys that hold text and
are not trained are counted. Windows line ends become line feeds, and white space at both ends of a turn is
stripped: the templates of Llama and Gemma strip it too when a model is asked, and stripped text is written
alike by all templates.
"""

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from demask.corpora.learn_marks import LABELS, ROW_MARKS, is_partial_weight, refuse_unlearned_row
from demask.corpora.messages import clean, read_list, read_messages
from demask.corpora.tables import read_table
from demask.corpora.turns import Columns, Conversation, Turn
from demask.corpora.unused import UnusedKeys
from demask.documents.paths import Source
from demask.documents.tables import Row, parse_address
from demask.documents.text_files import did_you_mean, shown
from demask.errors import DataError

MESSAGES = ("messages", "conversations", "conversation")
# `input` only where there is no other: beside one it is what the prompt is about.
PROMPTS = ("prompt", "question", "instruction", "problem", "query", "input")
RESPONSES = ("response", "answer", "completion", "output", "solution")
SYSTEMS = ("system", "system_prompt", "system_message")
HISTORY, CONTEXT, INPUT, TOOLS = "history", "context", "input", "tools"
# What a row says besides its words; to leave it out would train something else than what is written.
_MORE = ("images", "image", "videos", "audios", "functions")
_REFUSED = frozenset((*ROW_MARKS, *LABELS, *_MORE))
# Between context, prompt and input, as Alpaca has it.
_BETWEEN = "\n\n"


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


def _refuse_more(row: Row) -> None:
    refuse_unlearned_row(row.values, row.source)
    more = next((name for name in _MORE if row.values.get(name)), None)
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
