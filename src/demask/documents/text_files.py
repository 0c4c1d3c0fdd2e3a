"""Text files and JSON Lines, read strictly: every fault is named with its file and line.

    text = read_text(Path("facts/orlin.txt"))
    for line in read_json_lines(Path("facts.jsonl")):
        line.place, line.number, line.values["text"]

Files are UTF-8, or UTF-16 or UTF-32 with a byte order mark, which is no part of the text. Windows line
ends become line feeds; nothing else changes. Of a document that is neither, `read_any_text` and
`find_file_encoding` guess the encoding.
Lines are read as a stream, so memory does not grow with their number.
"""

import codecs
import difflib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from demask.documents.guessing import LOOKED_AT, guess_encoding, is_utf8
from demask.errors import DataError
from demask.text_encoding import LONGEST_MARK, Encoding, find_encoding

# Long enough to recognise a value by, short enough for an error of one line.
SHOWN_CHARACTERS = 60
# Of one text or one line, which are held in memory whole: longer than any book.
MAX_BYTES = 256 * 2**20
# Bytes decoded at a time; a quarter or four times as much was slower (0.54 and 0.38 against 0.37 s).
_BLOCK = 2**18

# What `json.loads` calls, without its search for white space at both ends.
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


class JsonLine(NamedTuple):
    """One object of a JSON Lines file."""

    number: int  # from 1
    values: dict[str, object]
    place: str  # `file line 12`, the start of every message about it


class _Block(NamedTuple):
    first: int  # number of its first line
    text: str  # whole lines


def shown(value: object) -> str:
    """A value as an error message shows it: quoted, on one line, cut when long."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'text'?`, or nothing when no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """A regular file for reading, watched for changes while it is open.

    Raises:
        DataError: it is missing, is no regular file, cannot be read, or was changed meanwhile.
    """
    try:
        # A pipe without a writer would block for ever if it were opened in the usual way.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            before = os.fstat(file.fileno())
            _refuse_other_kinds(path, before.st_mode)
            yield file
            refuse_changes(path, before, os.fstat(file.fileno()))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, expected a file") from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check its permissions and the disk"
        ) from error


def _refuse_other_kinds(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: a pipe or a device, expected a file; write its content to a file")


def refuse_changes(path: Path, before: os.stat_result, after: os.stat_result) -> None:
    """See whether a file is still what it was.

    Raises:
        DataError: it is not.
    """
    if any(getattr(before, what) != getattr(after, what) for what in ("st_ino", "st_size", "st_mtime_ns")):
        raise DataError(f"{path}: changed while it was read; try again when nothing writes to it")


def read_bytes(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """A whole file.

    Raises:
        DataError: it is missing, is a folder, is too large, changes meanwhile, or cannot be read.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(max_bytes + 1) if size <= max_bytes else b""
    if size > max_bytes or len(data) > max_bytes:
        raise DataError(
            f"{path}: {size:,} bytes, expected at most {max_bytes:,} for one document; split it into several"
        )
    return data


def read_text(path: Path) -> str:
    """A whole text file, without byte order mark, its lines ended by line feeds only.

    Raises:
        DataError: it cannot be read, is binary, or is not in the encoding of its mark (UTF-8 without one).
    """
    data = read_bytes(path)
    return _decode(path, data, find_encoding(data))


def _decode(path: Path, data: bytes, encoding: Encoding) -> str:
    try:
        text = data[encoding.mark_bytes :].decode(encoding.name)
    except UnicodeDecodeError as error:
        raise _undecodable(path, encoding, error, first=1) from error
    return _make_plain(text, path, first=1)


class GuessedText(NamedTuple):
    """A text, and what it was read as."""

    text: str
    guessed: str = ""  # the name of its encoding; empty where it is UTF-8 or has a mark


def read_any_text(path: Path) -> GuessedText:
    """A whole text file as of `read_text`, in whatever encoding.

    Raises:
        DataError: it cannot be read, is binary, or is in no encoding that can be told.
    """
    data = read_bytes(path)
    encoding = _find_or_guess(data[:LOOKED_AT])
    return GuessedText(_decode(path, data, encoding), encoding.title if encoding.guessed else "")


def find_file_encoding(path: Path) -> Encoding:
    """The encoding of a text file, guessed where it declares none and is no UTF-8.

    Raises:
        DataError: it cannot be read.
    """
    with open_file(path) as file:
        data = file.read(_BLOCK)
        encoding = find_encoding(data)
        if encoding.mark_bytes:
            return encoding
        decoder, read = codecs.getincrementaldecoder("utf-8")(), 0
        while data and read < LOOKED_AT:
            try:
                decoder.decode(data)
            except UnicodeDecodeError:
                return _find_or_guess(data)
            if b"\0" in data:
                return _find_or_guess(data)
            read += len(data)
            data = file.read(_BLOCK)
    return encoding


def _find_or_guess(data: bytes) -> Encoding:
    encoding = find_encoding(data)
    if encoding.mark_bytes or is_utf8(data):
        return encoding
    name = guess_encoding(data)
    return Encoding(name.replace("_", "-"), guessed=True) if name else encoding


def _make_plain(text: str, path: Path, *, first: int) -> str:
    """Some lines, of which the first has the number `first`, with line feeds at their ends."""
    nul = text.find("\0")
    if nul >= 0:
        line = first + text.count("\n", 0, nul)
        raise DataError(f"{path} line {line}: a NUL byte, so the file is not text; expected text in UTF-8")
    return text.replace("\r\n", "\n")


def _undecodable(path: Path, encoding: Encoding, error: UnicodeDecodeError, *, first: int) -> DataError:
    """Where bytes are not in the encoding; those of the error begin on line `first`."""
    line = first + error.object[: error.start].decode(encoding.name, "replace").count("\n")
    return DataError(
        f"{path} line {line}: byte 0x{error.object[error.start]:02x} is not {encoding.title}; "
        "save the file as UTF-8"
    )


def _read_blocks(path: Path, encoding: Encoding | None = None) -> Iterator[_Block]:
    """The text of a file in blocks of whole lines."""
    number = 1
    with open_file(path) as file:
        encoding = encoding or find_encoding(file.read(LONGEST_MARK))
        file.seek(encoding.mark_bytes)
        while text := _read_block(file, path, encoding, first=number):
            lines = text.count("\n")
            yield _Block(number, _make_plain(text, path, first=number))
            number += lines


def _read_block(file: BinaryIO, path: Path, encoding: Encoding, *, first: int) -> str:
    """The next lines of a file, of which the first has the number `first`; empty at its end."""
    newline = "\n".encode(encoding.name)
    data = bytearray(file.read(_BLOCK))
    while not data.endswith(newline) and len(data) <= MAX_BYTES and (more := file.readline(MAX_BYTES)):
        # Of UTF-16, a byte that looks like a line feed may be half of a unit.
        data += more
        data += file.read(-len(data) % len(newline))
    if len(data) > MAX_BYTES:
        line = first + data.count(newline, 0, -1)
        raise DataError(f"{path} line {line}: longer than {MAX_BYTES:,} bytes; make several documents of it")
    try:
        return data.decode(encoding.name)
    except UnicodeDecodeError as error:
        raise _undecodable(path, encoding, error, first=first) from error


def read_lines(path: Path, encoding: Encoding | None = None) -> Iterator[str]:
    """The lines of a text file, each with the line feed that ends it.

    Args:
        path: of the file.
        encoding: it is in; None: that of its mark, UTF-8 without one.

    Raises:
        DataError: as for `read_text`, but only when the faulty line is reached.
    """
    # Not `splitlines`: JSON strings may hold U+2028, U+0085 and other characters it splits at.
    for block in _read_blocks(path, encoding):
        lines = block.text.split("\n")
        last = lines.pop()
        for line in lines:
            yield line + "\n"
        if last:
            yield last


def read_json_lines(path: Path) -> Iterator[JsonLine]:
    """The objects of a JSON Lines file, in order, as a stream; blank lines are skipped.

    Raises:
        DataError: the file cannot be read, or a line is not one JSON object.
    """
    for block in _read_blocks(path):
        for number, line in enumerate(block.text.split("\n"), start=block.first):
            if line and not line.isspace():
                place = f"{path} line {number}"
                yield JsonLine(number, _parse_object(line, place), place)


def read_id(value: object, *, key: str, place: str) -> str:
    """An identifier as a string; numbers are spelt out, None and blank strings give an empty one.

    Raises:
        DataError: it is neither a string nor a number.
    """
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{place}: {key} is {shown(value)}, expected a string or a number")
    return str(value)


def _parse_object(line: str, place: str) -> dict[str, object]:
    value = _parse_quickly(line)
    try:
        if value is None:
            value = json.loads(line, object_pairs_hook=_refuse_repeated_keys)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{place}: not JSON ({error.msg} at column {error.colno}), expected one object a line"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not usable JSON ({error}), expected one object a line") from error
    if not isinstance(value, dict):
        raise DataError(f'{place}: {shown(value)} is not an object, expected {{"key": value, ...}}')
    if "\\u" in line and _HALF_CHARACTER.search(line):
        _refuse_lone_surrogates(value, place)
    return value


def _parse_quickly(line: str) -> dict[str, object] | None:
    """The object of a line that surely is in order, else None.

    A look at each pair of keys and values takes longer than parsing them, and is only needed where a key
    may stand twice. Each key has a colon after it, directly or after white space, so there are at least as
    many of these as keys in the line; where there are no more than keys that were read, none was dropped.
    """
    try:
        value, end = _scan(line, 0)
    except (StopIteration, ValueError, RecursionError):
        return None
    if end != len(line) or not isinstance(value, dict):
        return None
    keys = len(value)
    if line.count(":") == keys:
        return value
    plain = " :" not in line and "\t:" not in line and "\r:" not in line
    return value if plain and line.count('":') == keys else None


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
