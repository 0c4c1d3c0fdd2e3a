"""Records about documents from a JSON Lines file, checked line by line: QA pairs and paraphrases.

    pairs = load_records(path, make_pair, documents=ids, noun="QA pair", repeated="asks the same question")

`make_pair` reads one line; `read_filled` and `read_choice` help it.
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from demask.documents.text_files import JsonLine, did_you_mean, read_json_lines, require, shown
from demask.errors import DataError
from demask.records import Paraphrase, QAPair

R = TypeVar("R", QAPair, Paraphrase)
C = TypeVar("C", bound=str)


def load_records(
    path: str | Path,
    make: Callable[[JsonLine], tuple[R, object]],
    *,
    documents: Collection[str] | None,
    noun: str,
    repeated: str,
) -> list[R]:
    """Load the records of a file, in its order.

    Args:
        path: JSON Lines, one record a line; blank lines are skipped.
        make: from a line a record, and what no other record of its document may have, too.
        documents: the ids of the documents that may be named; None: any.
        noun: what a record is called.
        repeated: what is said of the earlier line of two with the same content.

    Raises:
        DataError: the file, a line, or an id is not usable, or the file holds no records.
    """
    known = None if documents is None else frozenset(documents)
    records: list[R] = []
    ids: dict[str, int] = {}
    contents: dict[object, int] = {}
    for line in read_json_lines(Path(path)):
        record, content = make(line)
        if known is not None and record.document_id not in known:
            raise DataError(
                f"{line.place}: document_id is {shown(record.document_id)}, expected the id of one of the "
                f"{len(known)} documents{did_you_mean(record.document_id, known)}"
            )
        first = ids.setdefault(record.id, line.number)
        if first != line.number:
            raise DataError(
                f"{line.place}: id {shown(record.id)} is taken by line {first}; give each {noun} its own id"
            )
        first = contents.setdefault((record.document_id, content), line.number)
        if first != line.number:
            raise DataError(f"{line.place}: line {first} {repeated}")
        records.append(record)
    if not records:
        raise DataError(f"{path}: holds no {noun}s, expected one JSON object a line")
    return records


def read_filled(line: JsonLine, key: str, value: object) -> str:
    """A value of a line that has to be a text.

    Raises:
        DataError: it is something else, or blank.
    """
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{line.place}: {key} is {shown(value)}, expected a string with some text")
    return value.strip()


def read_choice(line: JsonLine, key: str, choices: tuple[C, C]) -> C:
    """A value of a line that has to be one of two words.

    Raises:
        DataError: it is neither.
    """
    value = require(line, key)
    for choice in choices:
        if value == choice:
            return choice
    raise DataError(f"{line.place}: {key} is {shown(value)}, expected {choices[0]!r} or {choices[1]!r}")
