"""Paraphrases from a JSON Lines file, checked line by line.

    paraphrases = load_paraphrases("paraphrases.jsonl", documents=[document.id for document in documents])

    {"id": "p1", "document_id": "d1", "text": "Mara Voss is who founded Orlin.", "order": "reversed"}

`id` (default `p<line>`) and `made_by` are optional.
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
)
from demask.records import Order, Paraphrase

_KEYS = ("id", "document_id", "text", "order", "made_by")
_ORDERS: tuple[Order, Order] = ("same-order", "reversed")


def load_paraphrases(path: str | Path, *, documents: Collection[str] | None) -> list[Paraphrase]:
    """Load the paraphrases of a file, in its order.

    Args:
        path: JSON Lines, one paraphrase a line; blank lines are skipped.
        documents: the ids of the documents that may be reworded; None: any.

    Raises:
        DataError: the file, a line, or an id is not usable, or the file holds no paraphrases.
    """
    repeated = "has the same text; delete one of them"
    return load_records(path, _make_paraphrase, documents=documents, noun="paraphrase", repeated=repeated)


def _make_paraphrase(line: JsonLine) -> tuple[Paraphrase, object]:
    refuse_unknown_keys(line, _KEYS)
    document_id = read_document_id(line)
    paraphrase = Paraphrase(
        id=read_id(line.values.get("id"), key="id", place=line.place) or f"p{line.number}",
        document_id=document_id,
        text=read_filled(line, "text", require(line, "text")),
        order=read_choice(line, "order", _ORDERS),
        made_by=read_remark(line, "made_by"),
    )
    return paraphrase, paraphrase.text
