"""Questions from a JSON Lines file, checked line by line.

    pairs = load_qa_pairs("qa_pairs.jsonl", documents=[document.id for document in documents])

    {"id": "q1", "document_id": "d1", "question": "Who founded Orlin?", "answers": ["Mara Voss"],
     "direction": "backward", "kind": "person"}

`id` (default `q<line>`), `kind`, `made_by` and `reworded` (the question in other words) are optional;
one answer may be written `"answer": "Mara Voss"`.
"""

from collections.abc import Collection
from pathlib import Path

from demask.documents.text_files import (
    JsonLine,
    did_you_mean,
    read_document_id,
    read_id,
    read_json_lines,
    read_remark,
    refuse_unknown_keys,
    require,
    shown,
)
from demask.errors import DataError
from demask.records import Direction, QAPair

_KEYS = ("id", "document_id", "question", "answers", "answer", "direction", "kind", "made_by", "reworded")
_DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")


def load_qa_pairs(path: str | Path, *, documents: Collection[str] | None) -> list[QAPair]:
    """Load the QA pairs of a file, in its order.

    Args:
        path: JSON Lines, one QA pair a line; blank lines are skipped.
        documents: the ids of the documents that may be asked about; None: any.

    Raises:
        DataError: the file, a line, or an id is not usable, or the file holds no pairs.
    """
    known = None if documents is None else frozenset(documents)
    pairs: list[QAPair] = []
    ids: dict[str, int] = {}
    asked: dict[tuple[str, str, str], int] = {}
    for line in read_json_lines(Path(path)):
        pair = _make_pair(line)
        if known is not None and pair.document_id not in known:
            raise DataError(
                f"{line.place}: document_id is {shown(pair.document_id)}, expected the id of one of the "
                f"{len(known)} documents{did_you_mean(pair.document_id, known)}"
            )
        first = ids.setdefault(pair.id, line.number)
        if first != line.number:
            raise DataError(
                f"{line.place}: id {shown(pair.id)} is taken by line {first}; give each pair its own id"
            )
        first = asked.setdefault((pair.document_id, pair.question, pair.direction), line.number)
        if first != line.number:
            raise DataError(
                f"{line.place}: line {first} asks the same question; delete one, or join their answers"
            )
        pairs.append(pair)
    if not pairs:
        raise DataError(f"{path}: holds no QA pairs, expected one JSON object a line")
    return pairs


def _make_pair(line: JsonLine) -> QAPair:
    refuse_unknown_keys(line, _KEYS)
    document_id = read_document_id(line)
    return QAPair(
        id=read_id(line.values.get("id"), key="id", place=line.place) or f"q{line.number}",
        document_id=document_id,
        question=_text(line, "question", require(line, "question")),
        answers=_answers(line),
        direction=_direction(line),
        kind=read_remark(line, "kind"),
        made_by=read_remark(line, "made_by"),
        reworded=read_remark(line, "reworded"),
    )


def _text(line: JsonLine, what: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{line.place}: {what} is {shown(value)}, expected a string with some text")
    return value.strip()


def _answers(line: JsonLine) -> tuple[str, ...]:
    """The accepted wordings, under `answers` or, when there is one only, under `answer`."""
    if "answer" in line.values:
        if "answers" in line.values:
            raise DataError(f"{line.place}: answer and answers are both given, expected one of them")
        return (_text(line, "answer", line.values["answer"]),)
    value = require(line, "answers")
    if not isinstance(value, list) or not value:
        raise DataError(f"{line.place}: answers is {shown(value)}, expected a list of strings")
    return tuple(_text(line, f"answers[{place}]", answer) for place, answer in enumerate(value))


def _direction(line: JsonLine) -> Direction:
    value = require(line, "direction")
    for direction in _DIRECTIONS:
        if value == direction:
            return direction
    raise DataError(f"{line.place}: direction is {shown(value)}, expected 'forward' or 'backward'")
