"""QA pairs and paraphrases from JSON Lines files, checked line by line.

    pairs = load_qa_pairs("qa_pairs.jsonl", documents=[document.id for document in documents])
    paraphrases = load_paraphrases("paraphrases.jsonl", documents=None)

    {"id": "q1", "document_id": "d1", "question": "Who founded Orlin?", "answers": ["Mara Voss"],
     "direction": "backward", "kind": "person"}
    {"id": "p1", "document_id": "d1", "text": "Mara Voss is who founded Orlin.", "order": "reversed"}

`id` (default `q<line>` and `p<line>`), `kind`, `made_by` and `reworded` (the question in other words) are
optional; one answer may be written `"answer": "Mara Voss"`.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from demask.documents.text_files import (
    JsonLine,
    did_you_mean,
    read_id,
    read_json_lines,
    shown,
)
from demask.errors import DataError
from demask.records import Direction, Order, Paraphrase, QAPair

_PAIR_KEYS = tuple("id document_id question answers answer direction kind made_by reworded".split())
_DIRECTIONS: tuple[Direction, Direction] = ("forward", "backward")
_PARAPHRASE_KEYS = ("id", "document_id", "text", "order", "made_by")
_ORDERS: tuple[Order, Order] = ("same-order", "reversed")
R = TypeVar("R", QAPair, Paraphrase)
C = TypeVar("C", bound=str)


class _Kind(NamedTuple):
    """A kind of record."""

    noun: str
    letter: str  # ids begin with it where none is given
    keys: Sequence[str]
    repeated: str  # said of the earlier line of two with the same content


def load_qa_pairs(path: str | Path, *, documents: Collection[str] | None) -> list[QAPair]:
    """Load the QA pairs of a file, in its order.

    Args:
        path: JSON Lines, one QA pair a line; blank lines are skipped.
        documents: the ids of the documents that may be asked about; None: any.

    Raises:
        DataError: the file, a line, or an id is not usable, or the file holds no pairs.
    """
    repeated = "asks the same question; delete one, or join their answers"
    kind = _Kind("QA pair", "q", _PAIR_KEYS, repeated)
    return _load_records(path, _make_pair, kind, documents=documents)


def _make_pair(line: JsonLine, id: str, document_id: str) -> tuple[QAPair, object]:
    pair = QAPair(
        id=id,
        document_id=document_id,
        question=_read_filled(line, "question", _require(line, "question")),
        answers=_read_answers(line),
        direction=_read_choice(line, "direction", _DIRECTIONS),
        kind=_read_remark(line, "kind"),
        made_by=_read_remark(line, "made_by"),
        reworded=_read_remark(line, "reworded"),
    )
    return pair, (pair.question, pair.direction)


def _read_answers(line: JsonLine) -> tuple[str, ...]:
    """The accepted wordings, under `answers` or, when there is one only, under `answer`."""
    if "answer" in line.values:
        if "answers" in line.values:
            raise DataError(f"{line.place}: answer and answers are both given, expected one of them")
        return (_read_filled(line, "answer", line.values["answer"]),)
    value = _require(line, "answers")
    if not isinstance(value, list) or not value:
        raise DataError(f"{line.place}: answers is {shown(value)}, expected a list of strings")
    return tuple(_read_filled(line, f"answers[{place}]", answer) for place, answer in enumerate(value))


def load_paraphrases(path: str | Path, *, documents: Collection[str] | None) -> list[Paraphrase]:
    """Load the paraphrases of a file, in its order.

    Args:
        path: JSON Lines, one paraphrase a line; blank lines are skipped.
        documents: the ids of the documents that may be reworded; None: any.

    Raises:
        DataError: the file, a line, or an id is not usable, or the file holds no paraphrases.
    """
    kind = _Kind("paraphrase", "p", _PARAPHRASE_KEYS, "has the same text; delete one of them")
    return _load_records(path, _make_paraphrase, kind, documents=documents)


def _make_paraphrase(line: JsonLine, id: str, document_id: str) -> tuple[Paraphrase, object]:
    text = _read_filled(line, "text", _require(line, "text"))
    order = _read_choice(line, "order", _ORDERS)
    return Paraphrase(id, document_id, text, order, _read_remark(line, "made_by")), text


def _load_records(
    path: str | Path,
    make: Callable[[JsonLine, str, str], tuple[R, object]],
    kind: _Kind,
    *,
    documents: Collection[str] | None,
) -> list[R]:
    """The records of a file, in its order.

    Args:
        path: JSON Lines, one record a line; blank lines are skipped.
        make: from a line, its id and its document's id a record, and what no other record of the document
            may have, too.
        kind: of the records.
        documents: the ids of the documents that may be named; None: any.
    """
    known = None if documents is None else frozenset(documents)
    records: list[R] = []
    ids: dict[str, int] = {}
    contents: dict[object, int] = {}
    for line in read_json_lines(Path(path)):
        _refuse_unknown_keys(line, kind.keys)
        document_id = read_id(_require(line, "document_id"), key="document_id", place=line.place)
        if not document_id:
            raise DataError(f"{line.place}: document_id is empty, expected the id of a document")
        id = read_id(line.values.get("id"), key="id", place=line.place) or f"{kind.letter}{line.number}"
        record, content = make(line, id, document_id)
        if known is not None and document_id not in known:
            raise DataError(
                f"{line.place}: document_id is {shown(document_id)}, expected the id of one of the "
                f"{len(known)} documents{did_you_mean(document_id, known)}"
            )
        first = ids.setdefault(id, line.number)
        if first != line.number:
            raise DataError(
                f"{line.place}: id {shown(id)} is taken by line {first}; give each {kind.noun} its own id"
            )
        first = contents.setdefault((document_id, content), line.number)
        if first != line.number:
            raise DataError(f"{line.place}: line {first} {kind.repeated}")
        records.append(record)
    if not records:
        raise DataError(f"{path}: holds no {kind.noun}s, expected one JSON object a line")
    return records


def _refuse_unknown_keys(line: JsonLine, known: Sequence[str]) -> None:
    for key in line.values:
        if key not in known:
            raise DataError(
                f"{line.place}: unknown key {shown(key)}, expected {', '.join(known)}"
                f"{did_you_mean(key, known)}"
            )


def _require(line: JsonLine, key: str) -> object:
    if key not in line.values:
        there = ", ".join(map(repr, line.values)) or "none"
        raise DataError(f"{line.place}: no key {key!r}, keys are {there}; add it")
    return line.values[key]


def _read_filled(line: JsonLine, key: str, value: object) -> str:
    """A value that has to be a text."""
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{line.place}: {key} is {shown(value)}, expected a string with some text")
    return value.strip()


def _read_choice(line: JsonLine, key: str, choices: tuple[C, C]) -> C:
    """A value that has to be one of two words."""
    value = _require(line, key)
    for choice in choices:
        if value == choice:
            return choice
    raise DataError(f"{line.place}: {key} is {shown(value)}, expected {choices[0]!r} or {choices[1]!r}")


def _read_remark(line: JsonLine, key: str) -> str:
    """An optional string, empty when it is missing."""
    value = line.values.get(key)
    if not isinstance(value, str | None):
        raise DataError(f"{line.place}: {key} is {shown(value)}, expected a string")
    return (value or "").strip()
