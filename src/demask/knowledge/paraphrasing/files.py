"""Paraphrases from a JSON Lines file, checked line by line.

    paraphrases = load_paraphrases("paraphrases.jsonl", documents=[document.id for document in documents])

    {"id": "p1", "document_id": "d1", "text": "Mara Voss is who founded Orlin.", "order": "reversed"}

`id` (default `p<line>`) and `made_by` are optional.
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
from demask.records import Order, Paraphrase

_KEYS = ("id", "document_id", "text", "order", "made_by")
_ORDERS: tuple[Order, ...] = ("same-order", "reversed")


def load_paraphrases(path: str | Path, *, documents: Collection[str] | None) -> list[Paraphrase]:
    """Load the paraphrases of a file, in its order.

    Args:
        path: JSON Lines, one paraphrase a line; blank lines are skipped.
        documents: the ids of the documents that may be reworded; None: any.

    Raises:
        DataError: the file, a line, or an id is not usable, or the file holds no paraphrases.
    """
    known = None if documents is None else frozenset(documents)
    paraphrases: list[Paraphrase] = []
    ids: dict[str, int] = {}
    texts: dict[tuple[str, str], int] = {}
    for line in read_json_lines(Path(path)):
        paraphrase = _make_paraphrase(line)
        if known is not None and paraphrase.document_id not in known:
            raise DataError(
                f"{line.place}: document_id is {shown(paraphrase.document_id)}, expected the id of one of "
                f"the {len(known)} documents{did_you_mean(paraphrase.document_id, known)}"
            )
        first = ids.setdefault(paraphrase.id, line.number)
        if first != line.number:
            raise DataError(
                f"{line.place}: id {shown(paraphrase.id)} is taken by line {first}; "
                "give each paraphrase its own id"
            )
        first = texts.setdefault((paraphrase.document_id, paraphrase.text), line.number)
        if first != line.number:
            raise DataError(f"{line.place}: line {first} has the same text; delete one of them")
        paraphrases.append(paraphrase)
    if not paraphrases:
        raise DataError(f"{path}: holds no paraphrases, expected one JSON object a line")
    return paraphrases


def _make_paraphrase(line: JsonLine) -> Paraphrase:
    refuse_unknown_keys(line, _KEYS)
    document_id = read_document_id(line)
    text = require(line, "text")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{line.place}: text is {shown(text)}, expected a string with some text")
    return Paraphrase(
        id=read_id(line.values.get("id"), key="id", place=line.place) or f"p{line.number}",
        document_id=document_id,
        text=text.strip(),
        order=_order(line),
        made_by=read_remark(line, "made_by"),
    )


def _order(line: JsonLine) -> Order:
    value = require(line, "order")
    for order in _ORDERS:
        if value == order:
            return order
    raise DataError(f"{line.place}: order is {shown(value)}, expected 'same-order' or 'reversed'")
