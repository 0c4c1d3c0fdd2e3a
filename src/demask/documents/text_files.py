"""Text files and JSON Lines, read strictly: every fault is named with its file and line.

    text = read_text(Path("facts/orlin.txt"))
    for line in read_json_lines(Path("facts.jsonl")):
        line.place, line.number, line.values["text"]

Files are UTF-8, with or without byte-order mark. Windows line ends become line feeds; nothing else changes.
"""

import codecs
import difflib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from demask.errors import DataError

# Long enough to recognise a value by, short enough for an error of one line.
SHOWN_CHARACTERS = 60


class JsonLine(NamedTuple):
    """One object of a JSON Lines file."""

    number: int  # from 1
    values: dict[str, object]
    place: str  # `file line 12`, the start of every message about it


def shown(value: object) -> str:
    """A value as an error message shows it: quoted, on one line, cut when long."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'text'?`, or nothing when no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def read_bytes(path: Path) -> bytes:
    """A whole file.

    Raises:
        DataError: it is missing, is a folder, or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, expected a file") from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check its permissions and the disk"
        ) from error


def read_text(path: Path) -> str:
    """A whole text file, without byte-order mark, its lines ended by line feeds only.

    Raises:
        DataError: it cannot be read, is binary, or is not UTF-8.
    """
    data = read_bytes(path).removeprefix(codecs.BOM_UTF8)
    nul = data.find(b"\0")
    if nul >= 0:
        line = data.count(b"\n", 0, nul) + 1
        raise DataError(f"{path} line {line}: a NUL byte, so the file is not text; expected text in UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} line {line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error
    return text.replace("\r\n", "\n")


def read_json_lines(path: Path) -> Iterator[JsonLine]:
    """The objects of a JSON Lines file, in order; blank lines are skipped.

    Raises:
        DataError: the file cannot be read, or a line is not one JSON object.
    """
    # Not `splitlines`: JSON strings may hold U+2028, U+0085 and other characters it splits at.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            place = f"{path} line {number}"
            yield JsonLine(number, _parse_object(line, place), place)


def read_id(value: object, *, key: str, place: str) -> str:
    """An identifier as a string; numbers are spelt out, None and blank strings give an empty one.

    Raises:
        DataError: it is neither a string nor a number.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{place}: {key} is {shown(value)}, expected a string or a number")
    return str(value).strip()


def _parse_object(line: str, place: str) -> dict[str, object]:
    try:
        value = json.loads(line, object_pairs_hook=_refuse_repeated_keys)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{place}: not JSON ({error.msg} at column {error.colno}), expected one object a line"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not usable JSON ({error}), expected one object a line") from error
    if not isinstance(value, dict):
        raise DataError(f'{place}: {shown(value)} is not an object, expected {{"key": value, ...}}')
    if "\\u" in line:
        _refuse_lone_surrogates(value, place)
    return value


def _refuse_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose keys are unique: of two equal ones, JSON would silently drop the first."""
    values: dict[str, object] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"key {key!r} stands twice")
        values[key] = value
    return values


def _refuse_lone_surrogates(value: dict[str, object], place: str) -> None:
    """JSON can spell half a character, D83D without DE00, which no file and no tokenizer can hold."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = ord(error.object[error.start])
        raise DataError(
            f"{place}: \\u{half:04x} is half a character, expected a surrogate pair; write the text again"
        ) from error
