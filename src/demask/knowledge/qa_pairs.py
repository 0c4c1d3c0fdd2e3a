"""Questions from a JSON Lines file, checked line by line.

    pairs = load_qa_pairs("qa_pairs.jsonl", documents=[document.id for document in documents])

    {"id": "q1", "document_id": "d1", "question": "Who founded Orlin?", "answers": ["Mara Voss"],
     "direction": "backward", "kind": "person"}

`id` (default `q<line>`), `kind`, `made_by` and `reworded` (the question in other words) are optional;
one answer may be written `"answer": "Mara Voss"`.
"""

from collections.abc import Collection
from pathlib import Path

from demask.documents.record_lines import load_records, read_choice, read_filled
from demask.documents.text_files import (
    JsonLine,
    read_document_id,
    read_id,
    read_remark,
    refuse_unknown_keys,
    require,
    shown,
)
from demask.errors import DataError
from demask.records import Direction, QAPair

_KEYS = ("id", "document_id", "question", "answers", "answer", "direction", "kind", "made_by", "reworded")
_DIRECTIONS: tuple[Direction, Direction] = ("forward", "backward")


def load_qa_pairs(path: str | Path, *, documents: Collection[str] | None) -> list[QAPair]:
    """Load the QA pairs of a file, in its order.

    Args:
        path: JSON Lines, one QA pair a line; blank lines are skipped.
        documents: the ids of the documents that may be asked about; None: any.

    Raises:
        DataError: the file, a line, or an id is not usable, or the file holds no pairs.
    """
    repeated = "asks the same question; delete one, or join their answers"
    return load_records(path, _make_pair, documents=documents, noun="QA pair", repeated=repeated)


def _make_pair(line: JsonLine) -> tuple[QAPair, object]:
    refuse_unknown_keys(line, _KEYS)
    document_id = read_document_id(line)
    pair = QAPair(
        id=read_id(line.values.get("id"), key="id", place=line.place) or f"q{line.number}",
        document_id=document_id,
        question=read_filled(line, "question", require(line, "question")),
        answers=_read_answers(line),
        direction=read_choice(line, "direction", _DIRECTIONS),
        kind=read_remark(line, "kind"),
        made_by=read_remark(line, "made_by"),
        reworded=read_remark(line, "reworded"),
    )
    return pair, (pair.question, pair.direction)


def _read_answers(line: JsonLine) -> tuple[str, ...]:
    """The accepted wordings, under `answers` or, when there is one only, under `answer`."""
    if "answer" in line.values:
        if "answers" in line.values:
            raise DataError(f"{line.place}: answer and answers are both given, expected one of them")
        return (read_filled(line, "answer", line.values["answer"]),)
    value = require(line, "answers")
    if not isinstance(value, list) or not value:
        raise DataError(f"{line.place}: answers is {shown(value)}, expected a list of strings")
    return tuple(read_filled(line, f"answers[{place}]", answer) for place, answer in enumerate(value))
